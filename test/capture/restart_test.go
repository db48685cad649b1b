package capture

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pinDir mounts a BPF file system for a test alone, and returns where pins may be.
func pinDir(t *testing.T) string {
	t.Helper()
	at := tempDir(t)
	if err := unix.Mount("bpf", at, "bpf", 0, "mode=700"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return filepath.Join(at, "conntape")
}

// A recorder that is stopped, or killed, and started again loses no connect while they are made all the time, and has none twice:
// with --pin the kernel keeps what happens meanwhile. The gaps between the recorders are of no length, and say so.
func TestRestartLosesNothing(t *testing.T) {
	dir, pins := tempDir(t), pinDir(t)
	tick := startTicker(t, 5*time.Millisecond) // a guest may take half a minute to start a recorder
	defer tick.stop()
	tape := record(t, dir, "--pin", "--pin-dir", pins)
	if strings.Contains(tape.said(), "nothing can be pinned") {
		t.Skipf("SKIPPED: this kernel cannot pin what the backend attaches: %s", tape.said())
	}
	begin := tick.count() + 1
	ends := []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM}
	if env.inGuest {
		ends = ends[:1]
	}
	for _, end := range ends {
		time.Sleep(300 * time.Millisecond)
		if end == syscall.SIGKILL {
			tape.kill(t)
		} else {
			tape.end(t, end)
		}
		time.Sleep(100 * time.Millisecond)
		tape = record(t, dir, "--pin", "--pin-dir", pins)
	}
	last := tick.count() - 1
	eventually(t, "all connects until then are on the tape", func() bool { return len(tick.onTape(t, dir)) > last-begin })
	tape.end(t, syscall.SIGTERM)
	for _, args := range [][]string{{"unpin", "--pin-dir", pins}, {"verify"}} {
		if out, err := exec.Command(env.conntape, append(args, "--dir", dir)...).CombinedOutput(); err != nil {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
	found := tick.onTape(t, dir)
	var missing, twice []int
	for n := begin; n < last; n++ {
		switch {
		case found[n] == 0:
			missing = append(missing, n)
		case found[n] > 1:
			twice = append(twice, n)
		}
	}
	t.Logf("of %d connects during %d restarts %d are missing and %d there twice", last-begin, len(ends), len(missing), len(twice))
	if len(missing)+len(twice) > 0 {
		t.Errorf("missing: %v, twice: %v", missing, twice)
	}
	missed := int64(0) // the kernel says how often it ran no program, not which
	for _, g := range rows(t, dir, `SELECT * FROM gaps WHERE to_ns IS NOT NULL ORDER BY from_ns`) {
		t.Logf("gap of %d ns: %s, lost %v: %s", g.int("to_ns")-g.int("from_ns"), g.text("cause"), g["lost"], g.text("detail"))
		if g.text("cause") == "missed probes" {
			missed += g.int("lost")
		}
		between := slices.Contains([]string{"stopped", "crash"}, g.text("cause"))
		if between && (g.int("to_ns") != g.int("from_ns") || g["lost"] != int64(0) || !strings.Contains(g.text("detail"), "nothing was lost")) {
			t.Errorf("the gap between two recorders: %v", g)
		}
	}
	if a := readAccount(t, dir); a.lost != missed {
		t.Errorf("account: %+v, %d of the lost were programs that the kernel did not run", a, missed)
	}
}
