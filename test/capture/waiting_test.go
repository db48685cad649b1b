package capture

import (
	"bufio"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// startWaiting starts a command that says "waiting" and then reads stdin. release lets it go on; said is what it printed.
func startWaiting(t *testing.T, cmd *exec.Cmd) (release func(), said func() string) {
	t.Helper()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	var mu sync.Mutex
	var text strings.Builder
	waiting, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		in := bufio.NewScanner(stdout)
		for in.Scan() {
			mu.Lock()
			text.WriteString(in.Text() + "\n")
			mu.Unlock()
			if strings.Contains(in.Text(), `"waiting":true`) {
				close(waiting)
			}
		}
	}()
	said = func() string {
		mu.Lock()
		defer mu.Unlock()
		return text.String()
	}
	select {
	case <-waiting:
	case <-ended:
		if strings.Contains(said(), `"na":`) {
			t.Skip(said())
		}
		t.Fatalf("%s ended before it waited: %s", cmd, said())
	case <-time.After(patience):
		t.Fatalf("%s does not wait: %s", cmd, said())
	}
	return func() {
		stdin.Close()
		<-ended
	}, said
}

// TestAlreadyRunning: a process that was there before the recorder is described from a snapshot, and says so. Of a
// connect that was under way already only the return can be seen.
func TestAlreadyRunning(t *testing.T) {
	early := exec.Command(env.connects, "when-told")
	early.Args[0] = "an early bird"
	early.Dir = tempDir(t)
	release, said := startWaiting(t, early)
	blocked := exec.Command(env.connects, "blocked", "unix", "3")
	blocked.Dir = tempDir(t)
	unblock, blockedSaid := startWaiting(t, blocked)

	dir := tempDir(t)
	tape := record(t, dir)
	release()
	unblock()
	if err := early.Wait(); err != nil {
		t.Fatalf("%v: %s", err, said())
	}
	if err := blocked.Wait(); err != nil {
		t.Fatalf("%v: %s", err, blockedSaid())
	}
	tape.stop(t)

	all := rows(t, dir, `SELECT c.*, p.source FROM connections c JOIN processes p USING (process_id) WHERE c.pid = ?`, early.Process.Pid)
	if len(all) != 1 {
		t.Fatalf("want one row, got:\n%s", list(all))
	}
	match(t, "early", all[0], want{"exe": env.connects, "cmdline": `"an early bird" when-told`, "cwd": early.Dir, "source": oneOf("snapshot", "proc"),
		"remote_address": "127.0.0.1", "remote_port": 4242})
	// The cgroup backend sees only that they return: a row from the caller's memory is right.
	if late := rows(t, dir, `SELECT * FROM connections WHERE pid = ? AND NOT (backend = 'cgroup' AND address_source = 'user')`, blocked.Process.Pid); len(late) != 0 {
		t.Errorf("connects from before the recorder made rows:\n%s", list(late))
	}
}

// TestInFlightAtStop: a connect that has not returned when the recorder stops is on the tape, its end unknown.
func TestInFlightAtStop(t *testing.T) {
	dir := tempDir(t)
	tape := record(t, dir)
	blocked := exec.Command(env.connects, "blocked", "tcp", "3")
	blocked.Dir = tempDir(t)
	unblock, said := startWaiting(t, blocked)
	tape.stop(t)
	unblock()
	if err := blocked.Wait(); err != nil {
		t.Fatalf("%v: %s", err, said())
	}
	all := rows(t, dir, `SELECT * FROM connections WHERE pid = ? AND tid <> pid`, blocked.Process.Pid)
	if len(all) != 3 {
		t.Fatalf("want three rows, got:\n%s", list(all))
	}
	for _, r := range all {
		match(t, "blocked", r, want{"errno": nil, "outcome": "unknown", "family": "ipv4", "remote_address": "127.0.0.1"})
	}
}

// TestContainer: a process in the cgroup of a container is that container's.
func TestContainer(t *testing.T) {
	id := strings.Repeat("0123456789abcdef", 4)
	group := makeCgroup(t, "conntape-test.slice", "docker-"+id+".scope")
	dir := tempDir(t)
	tape := record(t, dir)
	cmd := exec.Command(env.connects, "udp4")
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(group.Fd())}
	o, err := runConnects(cmd)
	if err != nil {
		t.Skipf("start in a cgroup: %v", err)
	}
	tape.stop(t)
	all := rows(t, dir, `SELECT * FROM connections WHERE pid = ?`, o.reports[0].PID)
	if len(all) != 1 {
		t.Fatalf("want one row, got:\n%s", list(all))
	}
	match(t, "container", all[0], want{"container": "docker:" + id, "cgroup": has(fmt.Sprintf("/conntape-test.slice/docker-%s.scope", id))})
}
