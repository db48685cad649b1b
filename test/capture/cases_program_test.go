package capture

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"
)

// helperVariable makes this test binary be another program: a Go program that connects, a hostile reader.
const helperVariable = "CAPTURE_HELPER"

func runHelper(name string, args []string) int {
	var err error
	switch name {
	case "dial":
		var c net.Conn
		if c, err = net.Dial(args[0], args[1]); err == nil {
			c.Close()
		}
	case "fetch":
		err = fetch(args)
	case "open":
		err = openSockets()
	case "lookup":
		err = lookUp(args[0], args[1])
	case "flood-answers":
		err = floodAnswers()
	case "flood-hellos":
		err = floodHellos(args[0])
	case "flow":
		err = runFlow(args[0])
	case "hold":
		err = holdEverything(args[0])
	case "capabilities":
		err = execWith(args[0], args[1:])
	default:
		err = fmt.Errorf("no helper %q", name)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "helper:", err)
		return 1
	}
	return 0
}

func helperCommand(name string, args ...string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), helperVariable+"="+name)
	return cmd
}

// programCases: programs other than connects, which tell no more than their pid.
func programCases() []testCase {
	self, _ := os.Executable()
	return []testCase{
		{
			name: "go",
			run: func(t *testing.T, dir string) (outcome, error) {
				return runProgram(t, func(addr string) *exec.Cmd { return helperCommand("dial", "tcp", addr) })
			},
			all: expectation{want: want{"exe": self, "cwd": anything, "cmdline": has(self + " tcp 127.0.0.1:"), "family": "ipv4",
				"remote_address": "127.0.0.1", "type": "stream", "protocol": "tcp", "errno": 115, "outcome": oneOf("established", "reset"),
				"local_address": "127.0.0.1", "local_port": anything, "outcome_source": "kernel"}},
		},
		{
			name: "bash",
			run: func(t *testing.T, dir string) (outcome, error) {
				bash, err := exec.LookPath("bash")
				if err != nil {
					return outcome{na: "no bash"}, errNotHere
				}
				return runProgram(t, func(addr string) *exec.Cmd {
					host, port, _ := net.SplitHostPort(addr)
					cmd := exec.Command(bash, "-c", fmt.Sprintf("exec 3<>/dev/tcp/%s/%s", host, port))
					// Without these bash looks its user up, which with glibc tries to connect to nscd.
					cmd.Env = append(os.Environ(), "HOME=/", "SHELL="+bash)
					return cmd
				})
			},
			all: expectation{want: want{"exe": anything, "cwd": anything, "comm": "bash", "cmdline": has("/dev/tcp/127.0.0.1/"),
				"family": "ipv4", "remote_address": "127.0.0.1", "type": "stream", "protocol": "tcp", "errno": 0, "outcome": oneOf("established", "reset")}},
		},
	}
}

// runProgram runs a program that connects once to the listener it is given.
func runProgram(t *testing.T, command func(addr string) *exec.Cmd) (outcome, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return outcome{}, err
	}
	defer listener.Close()
	cmd := command(listener.Addr().String())
	r := report{Step: "connect", PPID: int64(os.Getpid()), Real0: time.Now().UnixNano(), partial: true}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return outcome{}, fmt.Errorf("%s: %w: %s", cmd, err, out)
	}
	r.Real1, r.PID = time.Now().UnixNano(), int64(cmd.Process.Pid)
	return outcome{reports: []report{r}}, nil
}
