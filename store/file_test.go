package store

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
)

// known returns the digests of a text.
func known(text, source string) *Digests {
	b := []byte(text)
	return &Digests{Known: true, SHA256: sha256.Sum256(b), SHA1: sha1.Sum(b), MD5: md5.Sum(b), Source: source}
}

// sum returns the SHA-256 of a text as the views have it.
func sum(text string) string {
	s := sha256.Sum256([]byte(text))
	return hex.EncodeToString(s[:])
}

// program returns a connection of a process of its own that executes a file.
func (w *world) program(n uint32, boot uint64, f *File, script string) Connection {
	p := copyOf(w.curl)
	p.Key, p.ExeFile, p.Script = ProcessKey{Tgid: n, StartBoot: boot, Exec: 2}, f, script
	c := w.connection(boot)
	c.Task = &Task{Process: p, Tid: n, Comm: "curl"}
	return c
}

func copyOf(p *Process) *Process {
	return &Process{Key: p.Key, Parent: p.Parent, PPID: p.PPID, Comm: p.Comm, Exe: p.Exe, Argv: p.Argv, ExecBoot: p.ExecBoot, LoginUID: -1, SessionID: -1, Source: p.Source}
}

// TestHashesOfProcesses: what is known when a process is written, what comes later, what never comes, and why; one row a file.
func TestHashesOfProcesses(t *testing.T) {
	dir := t.TempDir()
	w := mustOpenWriter(t, dir, options(100*second))
	x := newWorld()
	files := make([]*File, 4)
	for i := range files {
		files[i] = &File{Device: 8<<20 | 1, Inode: uint64(77 + i), Ctime: 1e18, Size: 10}
	}
	files[0].SetDigests(known("zero", "exec"))
	var batch Batch
	for i := range 40 {
		batch.Connections = append(batch.Connections, x.program(uint32(1000+i), uint64(101*second)+uint64(i), files[i%4], ""))
	}
	mustAppend(t, w, batch)
	files[1].SetDigests(&Digests{Source: "skipped"})
	mustAppend(t, w, Batch{Files: files[1:2]})
	files[1].SetDigests(known("one", "later")) // another process of it made it be read after all
	files[2].SetDigests(&Digests{Source: "gone"})
	mustAppend(t, w, Batch{Files: files[1:3]})
	mustClose(t, w, 110*second)
	tape := mustOpenTape(t, dir)
	conn := connOf(t, tape, 1)
	want := []string{sum("zero") + "|exec|10", sum("one") + "|later|10", "NULL|gone|10", "NULL|unknown|10"}
	slices.Sort(want)
	got := rows(t, conn, "SELECT DISTINCT exe_sha256, hash_source, exe_size FROM processes WHERE comm = 'curl'")
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := rows(t, conn, "SELECT hash_source, count(*) FROM connections GROUP BY 1 ORDER BY 1"); !slices.Equal(got, []string{"exec|10", "gone|10", "later|10", "unknown|10"}) {
		t.Errorf("connections: %q", got)
	}
	if got := one(t, conn, "SELECT count(*) FROM hash"); got != "4" {
		t.Errorf("%s rows of 4 files", got)
	}
	if got := one(t, conn, "SELECT exe_sha1 || exe_md5 FROM processes WHERE hash_source = 'exec' LIMIT 1"); got != fmt.Sprintf("%x%x", sha1.Sum([]byte("zero")), md5.Sum([]byte("zero"))) {
		t.Errorf("sha1 and md5: %s", got)
	}
	chainsOf(t, tape, 1)
}

// TestHashesOfLaterSegments: digests and scripts that come when their process is in a closed segment are those of the process
// for whoever reads the tape, and the segment is not written again.
func TestHashesOfLaterSegments(t *testing.T) {
	dir := t.TempDir()
	w := mustOpenWriter(t, dir, options(100*second))
	x := newWorld()
	file, script := &File{Inode: 1, Size: 3}, &File{Inode: 2, Size: 4, Later: true}
	lost := &File{Inode: 3}
	first := x.program(1000, 101*second, file, "/run.sh")
	second1 := x.program(1001, 102*second, lost, "")
	mustAppend(t, w, Batch{Connections: []Connection{first, second1}})
	if err := w.Rotate(); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, w, Batch{Connections: []Connection{x.connection(103 * second)}})
	file.SetDigests(known("program", "exec"))
	script.SetDigests(known("script", "later"))
	mustAppend(t, w, Batch{Files: []*File{file}, Scripts: []Script{{first.Task.Process, script}}})
	check := func(when string) {
		t.Helper()
		tape := mustOpenTape(t, dir)
		defer tape.Close()
		want := []string{"1000|" + sum("program") + "|exec|" + sum("script") + "|later", "1001|NULL|unknown|NULL|NULL"}
		for _, view := range []string{"processes", "connections"} {
			got := rows(t, tape.Conn(), "SELECT pid, exe_sha256, hash_source, script_sha256, script_hash_source FROM "+view+" WHERE pid IN (1000, 1001) ORDER BY 1")
			if !slices.Equal(got, want) {
				t.Errorf("%s, %s: got %q, want %q", when, view, got, want)
			}
		}
	}
	check("while it records")
	mustClose(t, w, 110*second)
	check("at the end")
	alone := mustOpenTape(t, filepath.Join(dir, "00000001.db"))
	defer alone.Close()
	if got := rows(t, alone.Conn(), "SELECT DISTINCT hash_source FROM connections"); !slices.Equal(got, []string{"unknown"}) {
		t.Errorf("the closed segment was written: %q", got)
	}
	tape := mustOpenTape(t, dir)
	chainsOf(t, tape, 1)
	chainsOf(t, tape, 2)
}
