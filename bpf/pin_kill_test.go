package bpf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// killVariable makes TestKilledRecorder a recorder that is killed: "directory handover ring step".
const killVariable = "CONNTAPE_TEST_KILLED"

// TestKilledRecorder is no test: it opens a capture in a process of its own, which ends at a step, or when it has begun to read.
func TestKilledRecorder(t *testing.T) {
	var (
		dir, step string
		o         = Options{Backend: Cgroup, Tape: "/a/tape"}
	)
	if os.Getenv(killVariable) == "" {
		t.Skip("it is for TestKillAtEachPinStep")
	}
	if _, err := fmt.Sscanf(os.Getenv(killVariable), "%s %d %d %s", &dir, &o.Handover, &o.RingBytes, &step); err != nil {
		t.Fatal(err)
	}
	kill := func(at string) {
		if strings.ReplaceAll(at, " ", "_") == step {
			_ = unix.Kill(os.Getpid(), unix.SIGKILL)
			select {}
		}
	}
	o.Pin, o.passed = dir, kill
	c, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	var rec Connect
	for range 3 { // it reads, and writes nothing
		_ = c.ReadConnect(time.Now(), &rec)
	}
	kill("reading")
	t.Fatalf("there is no step %s", step)
}

// killedAt runs a recorder that is killed at a step.
func killedAt(t *testing.T, dir string, handover uint64, ring uint32, step string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilledRecorder$")
	cmd.Env = append(os.Environ(), killVariable+"="+dir+" "+strconv.FormatUint(handover, 10)+" "+strconv.FormatUint(uint64(ring), 10)+" "+step)
	out, err := cmd.CombinedOutput()
	var ended *exec.ExitError
	if !errors.As(err, &ended) || ended.Sys().(interface{ Signaled() bool }).Signaled() == false {
		t.Fatalf("it was not killed: %v\n%s", err, out)
	}
}

// A recorder may be killed at each step of making pins, of taking them over and of an upgrade. Whoever comes next, of the version before
// or after, finds each connect once; and no set is left that nobody uses.
func TestKillAtEachPinStep(t *testing.T) {
	const own, other = 1 << 20, 2 << 20
	making := []string{"locked", "begun", "directory_made", "maps_and_programs_pinned", "manifest_written", "named", "before_others_are_removed", "reading"}
	upgrading := []string{"begun", "manifest_written", "named", "heir_named", "a_link_is_gone", "old_ones_ended", "before_others_are_removed", "reading"}
	if os.Getenv("CONNTAPE_TEST_LONG") == "" {
		t.Log("SKIPPED: most steps, each loads all programs four times; CONNTAPE_TEST_LONG=1 tries all")
		making, upgrading = making[4:5], upgrading[4:5]
	}
	for _, step := range making {
		t.Run("making/"+step, func(t *testing.T) {
			dir := pinDir(t)
			killedAt(t, dir, 0, own, step)
			c := openPinnedTo(t, Options{Pin: dir, RingBytes: own}) // the tape knows nothing: that is no doubt
			if c.Taken() != nil || c.Doubt() != "" {
				t.Errorf("taken over: %+v, doubt: %q", c.Taken(), c.Doubt())
			}
			wantSeesAndUnpins(t, c, dir)
		})
	}
	for _, step := range []string{"taken_over", "reading"} {
		t.Run("taking over/"+step, func(t *testing.T) { killBetween(t, step, own, own) })
	}
	for _, step := range upgrading {
		t.Run("upgrade/"+step, func(t *testing.T) { killBetween(t, step, other, other) })
		t.Run("upgrade and back/"+step, func(t *testing.T) { killBetween(t, step, other, own) })
	}
}

// killBetween has a recorder of one ring be followed by one with a second ring, which is killed at a step, and by one with a third.
func killBetween(t *testing.T, step string, second, third uint32) {
	dir := pinDir(t)
	c := openPinnedTo(t, Options{Pin: dir, RingBytes: 1 << 20})
	p, s := startPulse(t, 10), seen{}
	from := p.n.Load() + 2
	time.Sleep(20 * time.Millisecond)
	read := readAll(t, c, s, 10)
	readRest(t, c)
	number := handOver(t, c, read)
	c.Close()
	killedAt(t, dir, number, second, step)
	time.Sleep(20 * time.Millisecond)
	c = openPinnedTo(t, Options{Pin: dir, RingBytes: third, Handover: number})
	if c.Taken() == nil || c.Taken().Lost+c.Taken().Unread != 0 || c.Doubt() != "" {
		t.Fatalf("taken over: %+v, doubt: %q", c.Taken(), c.Doubt())
	}
	time.Sleep(20 * time.Millisecond)
	last := p.stop()
	n := readAll(t, c, s, 10)
	readRest(t, c)
	s.wantOnce(t, from, last)
	wantCounted(t, c, n)
	wantSeesAndUnpins(t, c, dir)
}

// wantSeesAndUnpins wants a capture to see, to be the only one that is pinned, and to leave nothing after Unpin.
func wantSeesAndUnpins(t *testing.T, c *Capture, dir string) {
	t.Helper()
	some := connectSome(t, 2)
	if got := connectsOf(t, c, some); len(got) != 2 {
		t.Errorf("it sees %d connects of 2", len(got))
	}
	handOver(t, c, 0)
	wantSets(t, c)
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := Unpin(dir, "/a/tape"); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something is left: %v", err)
	}
}
