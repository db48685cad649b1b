package hash

import (
	"bytes"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// started returns a Hasher that ends with the test, and a function that waits for its results.
func started(t *testing.T, o Options) (*Hasher, func(n int) []Result) {
	t.Helper()
	h := New(o)
	t.Cleanup(h.Close)
	return h, func(n int) (results []Result) {
		t.Helper()
		for until := time.Now().Add(20 * time.Second); time.Now().Before(until); time.Sleep(2 * time.Millisecond) {
			h.Results(func(r *Result) { results = append(results, *r) })
			if len(results) >= n {
				return results
			}
		}
		t.Fatalf("%d results of %d", len(results), n)
		return nil
	}
}

func write(t *testing.T, path string, body []byte) *Identity {
	t.Helper()
	if err := os.WriteFile(path, body, 0o755); err != nil {
		t.Fatal(err)
	}
	return identityOf(t, path)
}

func identityOf(t *testing.T, path string) *Identity {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	id, _, err := identify(int(file.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	return &id
}

func self() []uint32 { return []uint32{uint32(os.Getpid())} }

// nobody is a process that there is not.
const nobody = 1 << 30

func TestDigestsOfOneRead(t *testing.T) {
	h, wait := started(t, Options{})
	body := bytes.Repeat([]byte("conntape"), 100_000)
	path := filepath.Join(t.TempDir(), "program")
	want := write(t, path, body)
	h.Add(Job{PID: nobody, Roots: self(), Path: path, Want: want})
	r := wait(1)[0]
	if r.Source != Exec || r.Found != *want || r.Digests != (Digests{sha256.Sum256(body), sha1.Sum(body), md5.Sum(body)}) {
		t.Errorf("%+v", r)
	}
	if c := h.Counts(); c.Reads != 1 || c.Bytes != uint64(len(body)) || h.Waiting() != 0 {
		t.Errorf("%+v", c)
	}
}

// TestOnlyTheFileOfTheExec: at the path of a program is another file by now, or none.
func TestOnlyTheFileOfTheExec(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	jobs := map[string]Job{}
	want := map[string]Source{"replaced": Changed, "written": Changed, "gone": Gone, "directory": Unreadable, "fifo": Unreadable, "device": Unreadable, "link": Unreadable, "large": Large, "remote": Remote}
	for name := range want {
		jobs[name] = Job{PID: nobody, Roots: self(), Path: at(name), Want: &Identity{Inode: 1}}
	}
	add := func(name string, id *Identity) { j := jobs[name]; j.Want = id; jobs[name] = j }
	add("replaced", write(t, at("replaced"), []byte("first")))
	write(t, at("other"), []byte("other"))
	if err := os.Rename(at("other"), at("replaced")); err != nil {
		t.Fatal(err)
	}
	add("written", write(t, at("written"), []byte("first")))
	time.Sleep(20 * time.Millisecond) // a tick of the clock that a file system uses
	write(t, at("written"), []byte("fIrst"))
	if err := os.Mkdir(at("directory"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(at("fifo"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/dev/zero", at("device")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/proc/self/exe", at("link")); err != nil { // a link of the kernel's, which leads out of every root
		t.Fatal(err)
	}
	write(t, at("large"), nil)
	if err := os.Truncate(at("large"), 1<<40); err != nil { // sparse
		t.Fatal(err)
	}
	add("large", identityOf(t, at("large")))
	remote := jobs["remote"]
	remote.FS = unix.NFS_SUPER_MAGIC
	jobs["remote"] = remote
	h, wait := started(t, Options{})
	for name, j := range jobs {
		j.Tag = name
		h.Add(j)
	}
	for _, r := range wait(len(jobs)) {
		if name := r.Tag.(string); r.Source != want[name] || r.Digests != (Digests{}) {
			t.Errorf("%s: %s, not %s", name, r.Source, want[name])
		}
	}
	if c := h.Counts(); c.Reads != 0 || c.Failed != uint64(len(jobs)) {
		t.Errorf("%+v", c)
	}
}

// TestDeletedAndMemfd: what a process executes is read while the process lives, whatever became of its name.
func TestDeletedAndMemfd(t *testing.T) {
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	body, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	h, wait := started(t, Options{})
	deleted := filepath.Join(t.TempDir(), "sleep")
	want := write(t, deleted, body)
	memfd, err := unix.MemfdCreate("sleep", 0)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(memfd), "memfd")
	defer file.Close()
	if _, err := file.Write(body); err != nil {
		t.Fatal(err)
	}
	inMemory, _, err := identify(memfd)
	if err != nil {
		t.Fatal(err)
	}
	for i, path := range []string{deleted, fmt.Sprintf("/proc/self/fd/%d", memfd)} {
		child := exec.Command(path, "60")
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { child.Process.Kill(); child.Wait() }()
		j := Job{PID: uint32(child.Process.Pid), Path: path, Want: want}
		if i == 0 {
			if err := os.Remove(deleted); err != nil {
				t.Fatal(err)
			}
		} else {
			j.Want = &inMemory
		}
		h.Add(j)
		r := wait(1)[0]
		if r.Digests.SHA256 != sha256.Sum256(body) || r.Source != []Source{Later, Exec}[i] { // to be deleted changes a file
			t.Errorf("%s: %+v", path, r)
		}
	}
}

// TestProcessOfAnotherProgram: the pid of a job executes another program by now, which gets no hash as the first one's.
func TestProcessOfAnotherProgram(t *testing.T) {
	h, wait := started(t, Options{})
	path := filepath.Join(t.TempDir(), "gone")
	want := write(t, path, []byte("x"))
	os.Remove(path)
	h.Add(Job{PID: uint32(os.Getpid()), Roots: self(), Path: path, Want: want})
	if r := wait(1)[0]; r.Source != Gone || r.Known() {
		t.Errorf("%+v", r)
	}
}

func TestScript(t *testing.T) {
	h, wait := started(t, Options{})
	path := filepath.Join(t.TempDir(), "run.sh")
	found := write(t, path, []byte("#!/bin/sh\n"))
	h.Add(Job{PID: uint32(os.Getpid()), Roots: []uint32{nobody, uint32(os.Getpid())}, Path: path, Script: true})
	if r := wait(1)[0]; r.Source != Later || r.Found != *found || r.Digests.SHA256 != sha256.Sum256([]byte("#!/bin/sh\n")) {
		t.Errorf("%+v", r)
	}
}

// TestChangedWhileRead: whoever writes to a file while it is read gives it no hash of bytes that never were there together.
func TestChangedWhileRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "program")
	body := bytes.Repeat([]byte("x"), 4*chunk)
	want := write(t, path, body)
	h, wait := started(t, Options{BytesPerSecond: 10 * chunk})
	h.Add(Job{PID: nobody, Roots: self(), Path: path, Want: want})
	for until := time.Now().Add(10 * time.Second); h.Counts().Bytes == 0 && time.Now().Before(until); {
		time.Sleep(time.Millisecond)
	}
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteAt([]byte("y"), int64(len(body))-1); err != nil {
		t.Fatal(err)
	}
	if r := wait(1)[0]; r.Source != Changed || r.Known() {
		t.Errorf("%s", r.Source)
	}
}

// TestBounded: bytes are read no faster than was asked for, and jobs beyond the bound are counted.
func TestBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "program")
	want := write(t, path, make([]byte, 2*chunk))
	h, wait := started(t, Options{BytesPerSecond: 4 * chunk, Waiting: 2})
	begun, added := time.Now(), 0
	for range mostOpen + 100 {
		if h.Add(Job{PID: nobody, Roots: self(), Path: path, Want: want}) {
			added++
		}
	}
	if c := h.Counts(); c.Skipped == 0 || int(c.Skipped)+added != mostOpen+100 {
		t.Errorf("%d added, %+v", added, c)
	}
	wait(1)
	if took := time.Since(begun); took < 400*time.Millisecond {
		t.Errorf("half a second's bytes took %s", took)
	}
	if open := openFiles(t, path); open > mostOpen+3 {
		t.Errorf("%d files are open", open)
	}
}

func openFiles(t *testing.T, path string) (n int) {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range list {
		if to, _ := os.Readlink("/proc/self/fd/" + fd.Name()); strings.HasPrefix(to, path) {
			n++
		}
	}
	return n
}

// TestFileSystemThatHangs: work that does not return is given up, and others go on, up to a bound.
func TestFileSystemThatHangs(t *testing.T) {
	h, _ := started(t, Options{Patience: 20 * time.Millisecond})
	hang, late := make(chan struct{}), make(chan int, mostStuck)
	for i := range mostStuck + 1 {
		if _, ok := guard(h, &h.never, func() int { <-hang; return i }, func(i int) { late <- i }); ok {
			t.Error("it returned")
		}
	}
	if n := h.stuck.Load(); n != mostStuck {
		t.Errorf("%d are stuck", n)
	}
	close(hang)
	for range mostStuck {
		<-late
	}
	for until := time.Now().Add(5 * time.Second); h.stuck.Load() > 0 && time.Now().Before(until); {
		time.Sleep(time.Millisecond)
	}
	if n, ok := guard(h, &h.never, func() int { return 7 }, nil); !ok || n != 7 {
		t.Error("nothing works any more")
	}
}

// TestLanes: whoever gives many jobs leaves room for others, who come in turn.
func TestLanes(t *testing.T) {
	l := newLanes(1000)
	flood := 0
	for range 2000 {
		if l.add(Job{Lane: 1}) {
			flood++
		}
	}
	if flood != 500 || !l.add(Job{Lane: 2}) {
		t.Fatalf("one lane has %d jobs of 1000", flood)
	}
	seen := map[uint64]int{}
	for range mostLaneOpen + 1 {
		j, ok := l.nextJob()
		if !ok {
			t.Fatal("no job")
		}
		seen[j.Lane]++
		l.addOpen(openFile{job: j})
	}
	if seen[2] != 1 || seen[1] != mostLaneOpen {
		t.Errorf("%v", seen)
	}
	if _, ok := l.nextJob(); ok {
		t.Error("a lane has more files open than it may")
	}
	for i := range mostLaneOpen + 1 {
		if f, ok := l.nextOpen(); !ok || i < 2 && f.job.Lane == 1 && i == 1 && seen[2] == 0 {
			t.Errorf("%d: %v", i, ok)
		}
	}
	if _, ok := l.nextOpen(); ok || l.open != 0 {
		t.Errorf("%d are open", l.open)
	}
}
