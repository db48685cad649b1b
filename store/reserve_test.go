package store

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/store/retain"
)

// mountImage makes a file system of that size in a file and mounts it.
func mountImage(t *testing.T, bytes int64, mkfs ...string) (mount string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("NOT TESTED: needs root to mount a file system")
	}
	if _, err := exec.LookPath(mkfs[0]); err != nil {
		t.Skipf("NOT TESTED: needs %s", mkfs[0])
	}
	image := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, bytes); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(mkfs[0], append(mkfs[1:], image)...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	mount, err := os.MkdirTemp("", "mount") // others must get there
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(mount) })
	if err := os.Chmod(mount, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-o", "loop", image, mount).CombinedOutput(); err != nil {
		t.Skipf("NOT TESTED: needs to mount a loop device: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "-l", mount).CombinedOutput(); err != nil {
			t.Errorf("unmount: %v: %s", err, out)
		}
	})
	return mount
}

// fillers starts processes of nobody that take every block of a file system that they
// can get, until the function that it returns is called.
func fillers(t *testing.T, mount string, n int) (stop func()) {
	t.Helper()
	const nobody = 65534
	dir := filepath.Join(mount, "nobody")
	if err := os.MkdirAll(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	as := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}, Setpgid: true, Pdeathsig: syscall.SIGKILL}
	d, err := retain.ReadDisk(mount)
	if err != nil {
		t.Fatal(err)
	}
	if most := d.Available - 16<<20; most > 0 { // at once: in steps of 4 MiB it takes xfs minutes where other tests have the disk
		first := exec.Command("fallocate", "-l", fmt.Sprint(most), "first")
		first.Dir, first.SysProcAttr = dir, as
		if out, err := first.CombinedOutput(); err != nil {
			t.Logf("not all at once: %v: %s", err, out)
		}
	}
	var running []*exec.Cmd
	for i := range n {
		script := `i=0; while :; do i=$((i+1)); fallocate -l 4M ` + fmt.Sprint("f", i) + `.$i 2>/dev/null || fallocate -l 64K ` +
			fmt.Sprint("g", i) + `.$i 2>/dev/null || dd if=/dev/zero of=` + fmt.Sprint("d", i) + ` bs=64k oflag=append conv=notrunc status=none 2>/dev/null; done`
		cmd := exec.Command("sh", "-c", script)
		cmd.Dir = dir
		cmd.SysProcAttr = as
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		running = append(running, cmd)
	}
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		for _, cmd := range running {
			unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
			cmd.Wait()
		}
	}
	t.Cleanup(stop)
	return stop
}

// nearlyFull is what fillers leave at most, bytes: one of them asks for 4 MiB, then for less.
const nearlyFull = 4 << 20

// waitFull waits until fillers have taken a file system, which takes them long where other tests have the processors.
func waitFull(t *testing.T, mount string) {
	t.Helper()
	var d retain.Disk
	for begin := time.Now(); time.Since(begin) < 2*time.Minute; time.Sleep(20 * time.Millisecond) {
		var err error
		if d, err = retain.ReadDisk(mount); err != nil {
			t.Fatal(err)
		}
		if d.Available <= nearlyFull {
			return
		}
	}
	t.Fatalf("others have not filled the disk: %d bytes are left", d.Available)
}

// warnings is a log of what goes wrong.
func warnings(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// fileSystems are those on which others can fill the disk and win nothing by it.
var fileSystems = map[string][]string{
	"ext4":      {"mkfs.ext4", "-q"},
	"ext4 -m 0": {"mkfs.ext4", "-q", "-m", "0"},
	"xfs":       {"mkfs.xfs", "-q"},
}

// Somebody else who fills the file system to the last block, for as long as he likes,
// takes no segment and no batch of a tape that has reserved its room.
func TestOthersFillTheDisk(t *testing.T) {
	for name, mkfs := range fileSystems {
		t.Run(name, func(t *testing.T) { testOthersFillTheDisk(t, mountImage(t, 400<<20, mkfs...)) })
	}
}

func testOthersFillTheDisk(t *testing.T, mount string) {
	dir := filepath.Join(mount, "tape")
	h := &heard{}
	o := options(999 * second)
	o.Limits, o.Events = retain.Limits{MaxBytes: 64 << 20, Reserve: true, KeepFreePercent: 5}, h.listen
	o.Logger = warnings(t)
	w := mustOpenWriter(t, dir, o)
	l := newLoad(50, 500)
	w.now = func(string) (Anchor, error) { return at(l.boot), nil }
	conns := make([]Connection, 10_000)
	record := func(batches int, pause time.Duration) {
		for range batches {
			l.fill(conns)
			mustAppend(t, w, l.batch(conns))
			time.Sleep(pause)
		}
	}
	record(60, 0) // a third of the budget
	most := int64(0)
	watched := watchEvery(10*time.Millisecond, func() { most = max(most, taken(dir)) })
	stop := fillers(t, mount, 3)
	waitFull(t, mount)
	record(rounds(100, 150, 3000), 10*time.Millisecond)
	waitSealed(t, w)
	w.waitForRemovals()
	d, err := retain.ReadDisk(mount)
	if err != nil {
		t.Fatal(err)
	}
	free := len(w.reserve.free)
	mustClose(t, w, l.boot)
	o.Now = at(l.boot + second)
	w = mustOpenWriter(t, dir, o) // still full
	l.boot += 2 * second
	record(20, 0)
	stop()
	watched()
	kept := history(t, dir)
	t.Logf("others left %d bytes; at most %.1f%% of the budget taken, %.1f%% history, %d free slots", d.Available, 100*float64(most)/float64(o.Limits.MaxBytes),
		100*float64(kept)/float64(o.Limits.MaxBytes), free)
	if most > o.Limits.MaxBytes {
		t.Errorf("the tape took %d bytes", most)
	}
	if kept < o.Limits.MaxBytes/100*80 {
		t.Errorf("only %d bytes of history", kept)
	}
	if d.Available > nearlyFull {
		t.Errorf("the disk was not full: %d bytes", d.Available)
	}
	for _, line := range h.lines {
		if strings.HasPrefix(line, "SegmentExpired") && !strings.HasSuffix(line, ": size") {
			t.Error(line)
		}
	}
	mustClose(t, w, l.boot)
}

// Where no room can be reserved, others who take at once what a removal frees get one
// segment, and not one after the other.
func TestFullDiskCostsHistorySlowly(t *testing.T) {
	mount := t.TempDir()
	if err := unix.Mount("tmpfs", mount, "tmpfs", 0, "size=24m"); err != nil {
		t.Skipf("NOT TESTED: needs to mount a tmpfs: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(mount, unix.MNT_DETACH) })
	dir := filepath.Join(mount, "tape")
	h := &heard{}
	o := options(999 * second)
	o.Limits, o.Events = retain.Limits{MaxBytes: 16 << 20, Reserve: true}, h.listen
	w := mustOpenWriter(t, dir, o)
	l := newLoad(50, 500)
	w.now = func(string) (Anchor, error) { return at(l.boot), nil }
	conns := make([]Connection, 10_000)
	for range 20 {
		l.fill(conns)
		mustAppend(t, w, l.batch(conns))
	}
	waitSealed(t, w)
	ballast, err := os.Create(filepath.Join(mount, "ballast"))
	if err != nil {
		t.Fatal(err)
	}
	defer ballast.Close()
	refused := 0
	for range 100 {
		for _, err := ballast.Write(make([]byte, 4096)); err == nil; {
			_, err = ballast.Write(make([]byte, 4096))
		}
		l.fill(conns)
		if err := w.Append(l.batch(conns)); err != nil {
			refused++
		}
	}
	gone := 0
	for _, line := range h.lines {
		if strings.HasPrefix(line, "SegmentExpired") {
			gone++
		}
	}
	if gone > 2 || refused == 0 { // the second after 10 s, on a slow machine
		t.Errorf("%d segments went, %d batches were refused", gone, refused)
	}
	if err := os.Remove(ballast.Name()); err != nil {
		t.Fatal(err)
	}
	ballast.Close()
	mustAppend(t, w, l.batch(conns))
	mustClose(t, w, l.boot+second)
}

// A segment that finds no free slot has the spare WAL: with one of its own beside that the tape would be larger than it may
// be.
func TestNoSlotAndOneWAL(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	o := options(999 * second)
	o.Limits = retain.Limits{MaxBytes: 16 << 20, Reserve: true}
	w := mustOpenWriter(t, dir, o)
	l := newLoad(10, 40)
	w.now = func(string) (Anchor, error) { return at(l.boot), nil }
	conns := make([]Connection, 200)
	l.fill(conns)
	mustAppend(t, w, l.batch(conns))
	if !w.slotted() {
		t.Skip("the file system reserves nothing")
	}
	w.reserve.mu.Lock()
	free := w.reserve.free
	w.reserve.free = nil
	w.reserve.mu.Unlock()
	now, err := w.now("start")
	if err != nil {
		t.Fatal(err)
	}
	w.writing.Lock()
	old := w.seg
	err = w.detachWAL(old)
	if err == nil {
		w.seg, err = w.create(now, w.counted, ReasonSize, nothingMore)
	}
	w.handOver(old)
	w.noteActive()
	w.writing.Unlock()
	w.reserve.mu.Lock()
	w.reserve.free = free
	w.reserve.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	wals, err := filepath.Glob(filepath.Join(dir, "*-wal"))
	if err != nil || len(wals) != 1 || wals[0] != w.seg.path+"-wal" {
		t.Errorf("%v, WALs %v, want that of %s", err, wals, w.seg.path)
	}
	l.fill(conns)
	mustAppend(t, w, l.batch(conns))
	mustClose(t, w, l.boot)
	if got := one(t, mustOpenTape(t, dir).Conn(), "SELECT count(*) FROM connections"); got != "400" {
		t.Errorf("%s connections", got)
	}
}
