package store

import (
	"encoding/binary"
	"hash/crc32"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/tapedir"
)

// forgeManifest appends an entry for segment n to the manifest of a tape, as root can: the last one altered.
func forgeManifest(t testing.TB, dir string, n int, change func(*fileMark, *openSegment)) {
	t.Helper()
	entries, _ := readManifest(dir)
	entry, ok := entries[n]
	if !ok {
		t.Fatalf("no entry for segment %d", n)
	}
	seg := &openSegment{}
	(&codec{in: entry.segment, reading: true}).segment(seg)
	change(&entry.mark, seg)
	c, number := &codec{}, int64(n)
	c.head(&number, &entry.mark)
	c.segment(seg)
	record := binary.BigEndian.AppendUint32(nil, uint32(len(c.out)))
	record = binary.BigEndian.AppendUint32(record, crc32.ChecksumIEEE(c.out))
	if err := appendManifest(dir, append(record, c.out...)); err != nil {
		t.Fatal(err)
	}
}

// moveRoot has the entry of a segment tell another first page of a table.
func moveRoot(seg *openSegment, table string) {
	roots := maps.Clone(seg.tableRoots())
	roots[table]++
	seg.roots.pack(roots, (*codec).roots)
}

// Whatever an entry of the manifest says that its segment does not: verify says so. It says nothing of an entry that no
// reader takes.
func TestVerifyManifest(t *testing.T) {
	s := recordTape(t, filepath.Join(t.TempDir(), "tape"), 3)
	path := filepath.Join(s.dir, manifestName)
	honest, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	check := func(name, want string) {
		t.Helper()
		got := problems(s.verify(t, VerifyOptions{}))
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%s: verify finds %q, want %q", name, got, want)
		}
		if err := os.WriteFile(path, honest, tapedir.FileMode); err != nil {
			t.Fatal(err)
		}
	}
	check("honest", "")
	for name, change := range map[string]func(*openSegment){
		"first and last connection": func(seg *openSegment) { seg.info.First, seg.info.Last = 0, -1 },
		"number":                    func(seg *openSegment) { seg.info.Number = 1 },
		"gaps and counts":           func(seg *openSegment) { seg.gaps.pack(nil, (*codec).rows) },
		"places of the tables":      func(seg *openSegment) { moveRoot(seg, "connection") },
		"places of the table":       func(seg *openSegment) { seg.roots.text = "x" },
		"boots":                     func(seg *openSegment) { seg.boots[0].offset += int64(time.Hour) },
		"runs and counters":         func(seg *openSegment) { seg.runs[0].counters["lost"] = counted{} },
		"segment before":            func(seg *openSegment) { seg.previous = 0 },
		"header":                    func(seg *openSegment) { seg.info.To = seg.info.To.Add(-time.Minute) },
	} {
		forgeManifest(t, s.dir, 2, func(_ *fileMark, seg *openSegment) { change(seg) })
		check(name, "2 00000002.db: the manifest is false about it, so that answers may lack rows: remove the file manifest. False: "+name)
		// By the end of the file alone, as in a copy of the tape.
		forgeManifest(t, s.dir, 2, func(m *fileMark, seg *openSegment) { m.inode, m.changed = 0, 0; change(seg) })
		check(name+", copied", "2 00000002.db: the manifest is false about it")
		forgeManifest(t, s.dir, 2, func(m *fileMark, seg *openSegment) { m.size++; change(seg) })
		check(name+", of another file", "")
	}
	for name, text := range map[string][]byte{"missing": nil, "torn": honest[:len(honest)-9], "another version": append([]byte("conntape manifest 2\n"), honest[20:]...)} {
		if err := os.WriteFile(path, text, tapedir.FileMode); err != nil {
			t.Fatal(err)
		}
		check(name, "")
	}
	// A segment that is not sealed, made to look so, to hide its rows.
	last := filepath.Join(s.dir, tapedir.SegmentName(3))
	if err := os.Chmod(last, 0o440); err != nil {
		t.Fatal(err)
	}
	stat, err := os.Lstat(last)
	if err != nil {
		t.Fatal(err)
	}
	entries, _ := readManifest(s.dir)
	c, number, mark := &codec{}, int64(3), markOf(stat)
	c.head(&number, &mark)
	c.out = append(c.out, entries[2].segment...)
	record := binary.BigEndian.AppendUint32(nil, uint32(len(c.out)))
	record = binary.BigEndian.AppendUint32(record, crc32.ChecksumIEEE(c.out))
	if err := appendManifest(s.dir, append(record, c.out...)); err != nil {
		t.Fatal(err)
	}
	check("not sealed", "3 00000003.db: the manifest ")
}

// A reader does not take an entry that is of another segment, and does not go on with one that is false about a segment
// that it opens.
func TestFalseManifestIsMet(t *testing.T) {
	dir := turnedTape(t, 4)
	honest, err := os.ReadFile(filepath.Join(dir, manifestName))
	if err != nil {
		t.Fatal(err)
	}
	forgeManifest(t, dir, 2, func(_ *fileMark, seg *openSegment) { seg.info.Number, seg.info.First, seg.info.Last = 1, 0, -1 })
	tape := mustOpenTape(t, dir)
	if info := tape.Segments()[1]; info.Number != 2 || info.First > info.Last {
		t.Errorf("the entry was taken: %+v", info)
	}
	if err := os.WriteFile(filepath.Join(dir, manifestName), honest, tapedir.FileMode); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*openSegment){
		"last":  func(seg *openSegment) { seg.info.Last-- },
		"first": func(seg *openSegment) { seg.info.First++ },
		"root":  func(seg *openSegment) { moveRoot(seg, "endpoint") },
	} {
		forgeManifest(t, dir, 2, func(_ *fileMark, seg *openSegment) { change(seg) })
		err := mustOpenTape(t, dir).Use(1, func(*sqlite.Conn) error { return nil })
		if err == nil || !strings.Contains(err.Error(), "the manifest is false about it") {
			t.Errorf("%s: %v", name, err)
		}
		if err := os.WriteFile(filepath.Join(dir, manifestName), honest, tapedir.FileMode); err != nil {
			t.Fatal(err)
		}
	}
}
