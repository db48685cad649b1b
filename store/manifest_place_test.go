package store

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
)

// On an overlay over two file systems the files of one directory are on several devices, and one that is copied up changes its device.
// A reader there tells the same as on the tape below.
func TestTapeOnOverlay(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("NOT TESTED: needs root to mount an overlay")
	}
	dir := turnedTape(t, 5)
	want, _ := told(t, dir)
	const all = "SELECT segment, remote_address, remote_port, time_ns FROM connections ORDER BY segment, id"
	wantRows := strings.Join(rows(t, mustOpenTape(t, dir).Conn(), all), "\n")
	upper, mount := t.TempDir(), t.TempDir()
	mounted := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("mount", args...).CombinedOutput(); err != nil {
			t.Skipf("NOT TESTED: needs to mount an overlay: %v: %s", err, out)
		}
		t.Cleanup(func() {
			if out, err := exec.Command("umount", "-l", args[len(args)-1]).CombinedOutput(); err != nil {
				t.Errorf("unmount: %v: %s", err, out)
			}
		})
	}
	mounted("-t", "tmpfs", "tmpfs", upper)
	for _, sub := range []string{"up", "work"} {
		if err := os.Mkdir(filepath.Join(upper, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	mounted("-t", "overlay", "overlay", "-o", "lowerdir="+dir+",upperdir="+upper+"/up,workdir="+upper+"/work", mount)
	for _, copiedUp := range []int{0, 1, 3} {
		if copiedUp != 0 {
			at := filepath.Join(mount, tapedir.SegmentName(copiedUp))
			if err := errors.Join(os.Chmod(at, 0o640), os.Chmod(at, tapedir.ClosedMode)); err != nil {
				t.Fatal(err)
			}
		}
		for name, manifest := range map[string]string{"the tape's manifest": segment.ManifestName, "none": "none"} {
			at := filepath.Join(mount, segment.ManifestName)
			if manifest == "none" {
				if err := os.Rename(at, at+".away"); err != nil {
					t.Fatal(err)
				}
			}
			if got, _ := told(t, mount); strings.ReplaceAll(got, mount, dir) != want {
				t.Errorf("segment %d copied up, %s: it tells\n%s\nwant\n%s", copiedUp, name, got, want)
			}
			tape := mustOpenTape(t, mount)
			if got := strings.Join(rows(t, tape.Conn(), all), "\n"); got != wantRows {
				t.Errorf("segment %d copied up, %s: its rows are others", copiedUp, name)
			}
			if err := tape.LookAtFiles(); err != nil || len(tape.Damage())+len(tape.LeftOut()) > 0 {
				t.Errorf("segment %d copied up, %s: %v, damaged %v, left out %v", copiedUp, name, err, tape.Damage(), tape.LeftOut())
			}
			if manifest == "none" {
				if err := os.Rename(at+".away", at); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// A segment that says more of itself than an entry has room for has none: it is opened instead, and recording goes on.
func TestManifestHasNoRoomForAnEntry(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	w := mustOpenWriter(t, dir, options(100*second))
	x := newWorld()
	const gaps = 3000
	for n := range 3 {
		b := Batch{Connections: []Connection{x.connection(uint64(101+100*n) * second)}, Counters: segment.Counters{"seen": uint64(n + 1), "stored": uint64(n + 1)}}
		for i := range gaps * (n % 2) { // the second has them
			b.Gaps = append(b.Gaps, Gap{From: uint64(110+100*n)*second + uint64(2*i), To: uint64(110+100*n)*second + uint64(2*i+1), Cause: "ring full", Lost: 1, Detail: strings.Repeat("x", 200)})
		}
		b.Counters["lost"] = uint64(gaps * min(n, 1))
		b.Counters["seen"] += b.Counters["lost"]
		mustAppend(t, w, b)
		if err := w.Rotate(); err != nil {
			t.Fatal(err)
		}
		waitSealed(t, w)
	}
	mustClose(t, w, 500*second)
	if entries, whole := readManifest(t, dir); entries != 2 || !whole {
		t.Errorf("the manifest has %d entries, whole %t", entries, whole)
	}
	tape := mustOpenTape(t, dir)
	if got := one(t, tape.Conn(), "SELECT count(*) FROM gaps WHERE cause = 'ring full'"); got != "3000" {
		t.Errorf("%s gaps", got)
	}
	if got := one(t, tape.Conn(), "SELECT count(*) FROM connections"); got != "3" {
		t.Errorf("%s connections", got)
	}
	if err := tape.LookAtFiles(); err != nil {
		t.Error(err)
	}
}

// Who looks at the files of a tape without the right to read one of them is told which, and looks at the others.
func TestLookAtUnreadableFile(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("NOT TESTED: needs root to become another user")
	}
	dir := smallTape(t, 4)
	for at := dir; at != os.TempDir() && at != "/"; at = filepath.Dir(at) { // others must get there
		if err := os.Chmod(at, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	first := filepath.Join(dir, tapedir.SegmentName(1))
	tape := mustOpenTape(t, dir)
	if err := os.Chmod(first, 0); err != nil {
		t.Fatal(err)
	}
	var looked error
	asNobody(t, func() { looked = tape.LookAtFiles() })
	if left := tape.LeftOut(); looked != nil || len(left) != 1 || left[0].Path != first {
		t.Errorf("%v, left out: %v", looked, left)
	}
}

// asNobody calls fn in a thread whose rights to files are those of nobody.
func asNobody(t *testing.T, fn func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if _, err := unix.SetfsuidRetUid(65534); err != nil {
			t.Error(err)
			return
		}
		if now, _ := unix.SetfsuidRetUid(-1); now != 65534 {
			t.Errorf("the thread is user %d", now)
			return
		}
		fn()
	}()
	<-done
}
