package store

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/store/tapedir"
)

// The test binary is also the other process that some tests need: it plays the
// part named in the environment.

const partVariable = "CONNTAPE_TEST_PART"

func TestMain(m *testing.M) {
	part := os.Getenv(partVariable)
	if part == "" {
		os.Exit(m.Run())
	}
	play := map[string]func([]string) error{
		"hold-lock": playHoldLock,
		"write":     playWrite,
		"hostile":   playHostile,
		"once":      playOnce,
		"logged":    playLogged,
		"batches":   playBatches,
		"turn":      playTurn,
		"read":      playRead,
		"power":     playPower,
		"steady":    playSteady,
	}[part]
	if err := play(os.Args[1:]); err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// childCommand returns the command that plays a part.
func childCommand(t testing.TB, part string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), partVariable+"="+part)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// startChild starts a part and waits until it says "ready". It is killed at the
// end of the test.
func startChild(t testing.TB, part string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := childCommand(t, part, args...)
	startReady(t, cmd)
	return cmd
}

// startReady starts cmd, waits for its first line, and returns the rest.
func startReady(t testing.TB, cmd *exec.Cmd) *bufio.Reader {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	r := bufio.NewReader(out)
	line, err := r.ReadString('\n')
	if err != nil || strings.TrimSpace(line) != "ready" {
		t.Fatalf("child says %q, %v", line, err)
	}
	return r
}

// playHoldLock takes SQLite's shared lock on a file and keeps it.
func playHoldLock(args []string) error {
	f, err := os.Open(args[0])
	if err != nil {
		return err
	}
	lk := unix.Flock_t{Type: unix.F_RDLCK, Whence: io.SeekStart, Start: tapedir.LockBytesStart + 2, Len: 510}
	if err := unix.FcntlFlock(f.Fd(), unix.F_SETLK, &lk); err != nil {
		return err
	}
	defer f.Close() // until then the garbage collector does not close it, which would give the lock back
	fmt.Println("ready")
	time.Sleep(time.Hour)
	return nil
}
