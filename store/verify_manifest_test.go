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

	"github.com/conntape/conntape/store/proof"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
)

// forgeManifest appends an entry for segment n to the manifest of a tape, as root can: the last one altered.
func forgeManifest(t testing.TB, dir string, n int, change func(*segment.Mark, *segment.Segment)) {
	t.Helper()
	entries, _ := segment.ReadManifest(dir)
	entry, ok := entries[n]
	if !ok {
		t.Fatalf("no entry for segment %d", n)
	}
	seg := &segment.Segment{}
	(&segment.Codec{In: entry.Segment, Reading: true}).Segment(seg)
	change(&entry.Mark, seg)
	c, number := &segment.Codec{}, int64(n)
	c.Head(&number, &entry.Mark)
	c.Segment(seg)
	record := binary.BigEndian.AppendUint32(nil, uint32(len(c.Out)))
	record = binary.BigEndian.AppendUint32(record, crc32.ChecksumIEEE(c.Out))
	if err := segment.AppendManifest(dir, append(record, c.Out...)); err != nil {
		t.Fatal(err)
	}
}

// moveRoot has the entry of a segment tell another first page of a table.
func moveRoot(seg *segment.Segment, table string) {
	roots := maps.Clone(seg.TableRoots())
	roots[table]++
	seg.Roots.Pack(roots, (*segment.Codec).Roots)
}

// Whatever an entry of the manifest says that its segment does not: verify says so. It says nothing of an entry that no
// reader takes.
func TestVerifyManifest(t *testing.T) {
	s := recordTape(t, filepath.Join(t.TempDir(), "tape"), 3)
	path := filepath.Join(s.dir, segment.ManifestName)
	honest, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	check := func(name, want string) {
		t.Helper()
		got := problems(s.verify(t, proof.Options{}))
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%s: verify finds %q, want %q", name, got, want)
		}
		if err := os.WriteFile(path, honest, tapedir.FileMode); err != nil {
			t.Fatal(err)
		}
	}
	check("honest", "")
	for name, change := range map[string]func(*segment.Segment){
		"first and last connection": func(seg *segment.Segment) { seg.Info.First, seg.Info.Last = 0, -1 },
		"number":                    func(seg *segment.Segment) { seg.Info.Number = 1 },
		"addresses":                 func(seg *segment.Segment) { seg.Addresses = "\x00" },
		"gaps and counts":           func(seg *segment.Segment) { seg.Gaps.Pack(nil, (*segment.Codec).Rows) },
		"places of the tables":      func(seg *segment.Segment) { moveRoot(seg, "connection") },
		"places of the table":       func(seg *segment.Segment) { seg.Roots.Text = "x" },
		"boots":                     func(seg *segment.Segment) { seg.Boots[0].Offset += int64(time.Hour) },
		"runs and counters":         func(seg *segment.Segment) { seg.Runs[0].Counters()["lost"] = segment.Counted{} },
		"segment before":            func(seg *segment.Segment) { seg.Previous = 0 },
		"header":                    func(seg *segment.Segment) { seg.Info.To = seg.Info.To.Add(-time.Minute) },
	} {
		forgeManifest(t, s.dir, 2, func(_ *segment.Mark, seg *segment.Segment) { change(seg) })
		check(name, "2 00000002.db: the manifest is false about it, so that answers may lack rows: remove the file manifest. False: "+name)
		// By the end of the file alone, as in a copy of the tape.
		forgeManifest(t, s.dir, 2, func(m *segment.Mark, seg *segment.Segment) { m.Inode, m.Changed = 0, 0; change(seg) })
		check(name+", copied", "2 00000002.db: the manifest is false about it")
		forgeManifest(t, s.dir, 2, func(m *segment.Mark, seg *segment.Segment) { m.Size++; change(seg) })
		check(name+", of another file", "")
	}
	for name, text := range map[string][]byte{"missing": nil, "torn": honest[:len(honest)-9], "another version": append([]byte("conntape manifest 3\n"), honest[20:]...)} {
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
	entries, _ := segment.ReadManifest(s.dir)
	c, number, mark := &segment.Codec{}, int64(3), segment.MarkOf(stat)
	c.Head(&number, &mark)
	c.Out = append(c.Out, entries[2].Segment...)
	record := binary.BigEndian.AppendUint32(nil, uint32(len(c.Out)))
	record = binary.BigEndian.AppendUint32(record, crc32.ChecksumIEEE(c.Out))
	if err := segment.AppendManifest(s.dir, append(record, c.Out...)); err != nil {
		t.Fatal(err)
	}
	check("not sealed", "3 00000003.db: the manifest ")
}

// A reader does not take an entry that is of another segment, and does not go on with one that is false about a segment
// that it opens.
func TestFalseManifestIsMet(t *testing.T) {
	dir := turnedTape(t, 4)
	honest, err := os.ReadFile(filepath.Join(dir, segment.ManifestName))
	if err != nil {
		t.Fatal(err)
	}
	forgeManifest(t, dir, 2, func(_ *segment.Mark, seg *segment.Segment) { seg.Info.Number, seg.Info.First, seg.Info.Last = 1, 0, -1 })
	tape := mustOpenTape(t, dir)
	if info := tape.Segments()[1]; info.Number != 2 || info.First > info.Last {
		t.Errorf("the entry was taken: %+v", info)
	}
	if err := os.WriteFile(filepath.Join(dir, segment.ManifestName), honest, tapedir.FileMode); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*segment.Segment){
		"last":  func(seg *segment.Segment) { seg.Info.Last-- },
		"first": func(seg *segment.Segment) { seg.Info.First++ },
		"root":  func(seg *segment.Segment) { moveRoot(seg, "endpoint") },
	} {
		forgeManifest(t, dir, 2, func(_ *segment.Mark, seg *segment.Segment) { change(seg) })
		err := mustOpenTape(t, dir).Use(1, func(*sqlite.Conn) error { return nil })
		if err == nil || !strings.Contains(err.Error(), "the manifest is false about it") {
			t.Errorf("%s: %v", name, err)
		}
		if err := os.WriteFile(filepath.Join(dir, segment.ManifestName), honest, tapedir.FileMode); err != nil {
			t.Fatal(err)
		}
	}
}
