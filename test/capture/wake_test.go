package capture

import (
	"os/exec"
	"testing"
	"time"
)

// TestWakes: a recorder that sleeps is woken by an attempt that begins, before that has returned, and has it on disk as soon
// as ever. It is killed well before the batch that would have been due anyway, every 10 s: one that is not woken never has it, and a
// machine that is busy gets three tries.
func TestWakes(t *testing.T) {
	var got int64
	for range 3 {
		if got = wokenRows(t); got == 3 {
			return
		}
	}
	t.Errorf("%d of 3 attempts are on the tape", got)
}

// wokenRows returns how many of three attempts a recorder that slept had written when it was killed.
func wokenRows(t *testing.T) int64 {
	t.Helper()
	dir := tempDir(t)
	tape := record(t, dir)
	// The first such batch is due 10 to 12 s from the start, and the recorder sleeps again two seconds later.
	time.Sleep(15 * time.Second)
	blocked := exec.Command(env.connects, "blocked", "unix", "3")
	blocked.Dir = tempDir(t)
	unblock, _ := startWaiting(t, blocked)
	defer unblock()
	// One second until an attempt that hangs is written, one for the age of its batch, and some for a slow machine.
	time.Sleep(3500 * time.Millisecond)
	tape.kill(t)
	return number(t, dir, `SELECT sum(count) FROM connections WHERE pid = ? AND tid <> pid`, blocked.Process.Pid)
}
