package recorder

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/bpf"
	"github.com/conntape/conntape/recorder/hash"
	"github.com/conntape/conntape/store"
)

// programs plays processes of files that there are.
type programs struct {
	t      *testing.T
	dir    string
	src    *script
	parent bpf.ProcessKey // which lives, so that paths can be looked up where it is
	pid    uint32
}

func newPrograms(t *testing.T, src *script) *programs {
	p := &programs{t: t, dir: t.TempDir(), src: src, parent: key(uint32(os.Getpid()), 1, 1), pid: 1 << 23}
	src.process(execOf(p.parent, bpf.ProcessKey{}, bootNow(), "/bin/sh", "sh\x00"))
	return p
}

// write makes or replaces a program.
func (p *programs) write(name, body string) {
	p.t.Helper()
	fresh := filepath.Join(p.dir, ".new")
	if err := os.WriteFile(fresh, []byte(body), 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.Rename(fresh, filepath.Join(p.dir, name)); err != nil {
		p.t.Fatal(err)
	}
}

// run plays a process that executes a program, as a script if it says of what, connects, and ends.
func (p *programs) run(name, script string) {
	p.t.Helper()
	var stat unix.Stat_t
	path := filepath.Join(p.dir, name)
	if err := unix.Stat(path, &stat); err != nil {
		p.t.Fatal(err)
	}
	p.pid++
	now, k := bootNow(), key(p.pid, uint64(p.pid), 1)
	exec := execOf(k, p.parent, now, path, name+"\x00")
	exec.ExeDev, exec.ExeIno, exec.ExeCtime, exec.ExeSize = unix.Major(stat.Dev)<<20|unix.Minor(stat.Dev), stat.Ino, uint64(stat.Ctim.Nano()), uint64(stat.Size)
	if script != "" {
		exec.Flags, exec.Filename = bpf.Script, filepath.Join(p.dir, script)
	}
	p.src.process(exec)
	p.src.connect(connectBy(k, now+1))
	p.src.process(bpf.Process{Kind: bpf.KindExit, Key: k, BootTime: now + 2})
}

// digestsOf returns what is known of the program of each row, and counts the rows.
func digestsOf(out *memory) (digests []store.Digests) {
	out.mu.Lock()
	defer out.mu.Unlock()
	for _, row := range out.rows {
		if d := row.Task.Process.ExeFile.Digests(); d != nil {
			digests = append(digests, *d)
		} else {
			digests = append(digests, store.Digests{})
		}
	}
	return digests
}

func hashing(o hash.Options) config {
	c := quick()
	o.Proc = "/proc"
	c.hash = &o
	return c
}

// waitForRows waits for so many rows and digests: on a busy machine, whoever reads with the lowest priority takes long.
func waitForRows(t *testing.T, out *memory, rows, files int) {
	t.Helper()
	for until := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		out.mu.Lock()
		done := len(out.rows) >= rows && len(out.files) >= files
		out.mu.Unlock()
		if done {
			return
		}
		if time.Now().After(until) {
			t.Fatalf("waited in vain: %d rows of %d, %d digests of %d", len(out.rows), rows, len(out.files), files)
		}
	}
}

// TestEachProgramIsReadOnce: 10,000 short processes of 50 programs are 50 reads.
func TestEachProgramIsReadOnce(t *testing.T) {
	src, out := newScript(), newMemory()
	stop := start(t, src, out, hashing(hash.Options{}), Options{})
	p := newPrograms(t, src)
	for i := range 50 {
		p.write(fmt.Sprint(i), fmt.Sprint("program ", i))
	}
	for i := range 10_000 {
		p.run(fmt.Sprint(i%50), "")
		if i%500 == 499 { // more at once may be counted together
			waitForRows(t, out, i+1, 0)
		}
	}
	waitForRows(t, out, 10_000, 50)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if out.counters["hash_reads"] != 50 || out.counters["hash_skipped"] != 0 || out.counters["hash_failed"] != 0 {
		t.Errorf("counters %v", out.counters)
	}
	for i, d := range digestsOf(out) {
		if name := filepath.Base(out.rows[i].Task.Process.Exe); !d.Known || d.Source != "exec" || d.SHA256 != sha256.Sum256([]byte("program "+name)) {
			t.Fatalf("%s: %+v", name, d)
		}
	}
	files := map[*store.File]int{}
	for _, f := range out.files {
		files[f]++
	}
	if len(files) != 50 {
		t.Errorf("the tape was told of %d files", len(files))
	}
}

// TestProgramReplacedBetweenExecs: each process has the hash of what it executed, or none.
func TestProgramReplacedBetweenExecs(t *testing.T) {
	src, out := newScript(), newMemory()
	stop := start(t, src, out, hashing(hash.Options{}), Options{})
	p := newPrograms(t, src)
	told := func(n int) {
		t.Helper()
		waitFor(t, "hashes", func() bool {
			d := digestsOf(out)
			return len(d) == n && d[n-1].Source != ""
		})
	}
	for i, body := range []string{"first", "other", "third"} { // of one size
		p.write("program", body)
		p.run("program", "")
		told(i + 1)
	}
	p.write("lost", "first")
	p.run("lost", "")
	p.write("lost", "other") // before anybody has looked
	told(4)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	digests := digestsOf(out)
	for i, body := range []string{"first", "other", "third"} {
		if digests[i].SHA256 != sha256.Sum256([]byte(body)) || digests[i].Source != "exec" {
			t.Errorf("process %d: %+v", i, digests[i])
		}
	}
	if d := digests[3]; d.Known && d.SHA256 != sha256.Sum256([]byte("first")) || !d.Known && d.Source != "changed" {
		t.Errorf("a program that was replaced at once: %+v", d)
	}
}

// TestScriptIsReadBesideItsInterpreter: each process has the script as it was when it was looked at.
func TestScriptIsReadBesideItsInterpreter(t *testing.T) {
	src, out := newScript(), newMemory()
	stop := start(t, src, out, hashing(hash.Options{}), Options{})
	p := newPrograms(t, src)
	p.write("sh", "interpreter")
	p.write("a.sh", "script a")
	for range 5 {
		p.run("sh", "a.sh")
	}
	p.run("sh", "none.sh")
	waitFor(t, "scripts", func() bool { out.mu.Lock(); defer out.mu.Unlock(); return len(out.scripts) == 6 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if out.counters["hash_reads"] != 2 {
		t.Errorf("counters %v", out.counters)
	}
	for _, s := range out.scripts {
		d := s.File.Digests()
		switch filepath.Base(s.Process.Script) {
		case "a.sh":
			if !d.Known || d.Source != "later" || d.SHA256 != sha256.Sum256([]byte("script a")) {
				t.Errorf("%+v", d)
			}
		case "none.sh":
			if d.Known || d.Source != "gone" {
				t.Errorf("%+v", d)
			}
		}
	}
}

// TestFloodOfPrograms: beyond what may wait, programs are counted, and say so; nobody else's are left out for it.
func TestFloodOfPrograms(t *testing.T) {
	src, out := newScript(), newMemory()
	stop := start(t, src, out, hashing(hash.Options{Waiting: 50, BytesPerSecond: 20 << 20}), Options{})
	p := newPrograms(t, src)
	const n = 1000
	for i := range n {
		p.write(fmt.Sprint(i), fmt.Sprint("program ", i))
	}
	for i := range n {
		p.run(fmt.Sprint(i), "")
	}
	waitForRows(t, out, n, 0)
	waits := func(d store.Digests) bool { return d.Source == "" }
	for until := time.Now().Add(2 * time.Minute); slices.ContainsFunc(digestsOf(out), waits) && time.Now().Before(until); {
		time.Sleep(10 * time.Millisecond)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	known, skipped := uint64(0), uint64(0)
	for _, d := range digestsOf(out) {
		switch {
		case d.Known:
			known++
		case d.Source == "skipped":
			skipped++
		default:
			t.Errorf("%+v", d)
		}
	}
	if c := out.counters; known+skipped != n || skipped == 0 || c["hash_skipped"] != skipped || c["hash_reads"] != known {
		t.Errorf("%d known, %d skipped, counters %v", known, skipped, c)
	}
}

// TestHangingFileDelaysNothing: rows are on the tape while a program cannot be read.
func TestHangingFileDelaysNothing(t *testing.T) {
	src, out := newScript(), newMemory()
	stop := start(t, src, out, hashing(hash.Options{BytesPerSecond: 1}), Options{})
	p := newPrograms(t, src)
	p.write("slow", string(make([]byte, 1<<20)))
	p.run("slow", "")
	p.run("slow", "")
	waitForRows(t, out, 2, 0) // long before the file is read: a megabyte at a byte a second
	begun := time.Now()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took > hashesEndWithin+5*time.Second {
		t.Errorf("the end took %s", took)
	}
	if d := digestsOf(out)[0]; d.Known {
		t.Errorf("%+v", d)
	}
}
