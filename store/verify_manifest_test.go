package store

import (
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
func forgeManifest(t testing.TB, dir string, n int, change func(*segment.Mark, *segment.Segment, *segment.Details)) {
	t.Helper()
	manifest := segment.ReadManifest(dir)
	defer manifest.Close()
	entry, file := manifest.Of(n), filepath.Join(dir, tapedir.SegmentName(n))
	seg := &segment.Segment{File: file, Stat: statOf(t, file)}
	if !entry.Fill(seg) {
		t.Fatalf("no entry for segment %d", n)
	}
	is := seg.Details()
	details := &segment.Details{End: is.End, Addresses: is.Addresses, Segments: is.Segments, Roots: is.Roots}
	change(&entry.Mark, seg, details)
	if err := new(segment.ManifestWriter).Append(dir, segment.Describing(n, entry.Mark, seg, details)); err != nil {
		t.Fatal(err)
	}
}

func statOf(t testing.TB, path string) os.FileInfo {
	t.Helper()
	stat, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return stat
}

// moveRoot has the entry of a segment tell another first page of a table.
func moveRoot(seg *segment.Segment, details *segment.Details, table string) {
	roots := maps.Clone(seg.TableRoots())
	roots[table]++
	details.Roots = segment.PackRoots(roots)
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
	for name, change := range map[string]func(*segment.Segment, *segment.Details){
		"first and last connection": func(seg *segment.Segment, _ *segment.Details) { seg.Info.First, seg.Info.Last = 0, -1 },
		"number":                    func(seg *segment.Segment, _ *segment.Details) { seg.Info.Number = 1 },
		"addresses":                 func(_ *segment.Segment, d *segment.Details) { d.Addresses = "\x00" },
		"gaps": func(seg *segment.Segment, _ *segment.Details) {
			seg.Gaps = segment.PackRows([][]segment.Cell{{{Kind: 1}}})
		},
		"counts":                         func(_ *segment.Segment, d *segment.Details) { d.Segments = segment.PackRows(nil) },
		"places of the tables":           func(seg *segment.Segment, d *segment.Details) { moveRoot(seg, d, "connection") },
		"places of the table":            func(_ *segment.Segment, d *segment.Details) { d.Roots = "x" },
		"boots":                          func(seg *segment.Segment, _ *segment.Details) { seg.Boots[0].Offset += int64(time.Hour) },
		"runs and counters":              func(seg *segment.Segment, _ *segment.Details) { seg.Runs[0].Counters()["lost"] = segment.Counted{} },
		"endings of earlier connections": func(seg *segment.Segment, _ *segment.Details) { seg.Endings.Last++ },
		"segment before":                 func(seg *segment.Segment, _ *segment.Details) { seg.Previous = 0 },
		"header":                         func(seg *segment.Segment, _ *segment.Details) { seg.Info.To = seg.Info.To.Add(-time.Minute) },
	} {
		forgeManifest(t, s.dir, 2, func(_ *segment.Mark, seg *segment.Segment, d *segment.Details) { change(seg, d) })
		check(name, "2 00000002.db: the manifest is false about it, so that answers may lack rows: remove the file manifest. False: "+name)
		// By the end of the file alone, as in a copy of the tape.
		forgeManifest(t, s.dir, 2, func(m *segment.Mark, seg *segment.Segment, d *segment.Details) {
			m.Inode, m.Changed = 0, 0
			change(seg, d)
		})
		check(name+", copied", "2 00000002.db: the manifest is false about it")
		forgeManifest(t, s.dir, 2, func(m *segment.Mark, seg *segment.Segment, d *segment.Details) { m.Size++; change(seg, d) })
		check(name+", of another size", "2 00000002.db: the manifest is false about it") // readers go by the inode
		forgeManifest(t, s.dir, 2, func(m *segment.Mark, seg *segment.Segment, d *segment.Details) {
			m.Size++
			m.Inode++
			change(seg, d)
		})
		check(name+", of another file", "")
	}
	forgeManifest(t, s.dir, 2, func(_ *segment.Mark, _ *segment.Segment, d *segment.Details) { d.End += "x" })
	check("last bytes", "False: last bytes")
	forgeManifest(t, s.dir, 2, func(m *segment.Mark, _ *segment.Segment, _ *segment.Details) { m.Size++ })
	check("size", "False: size")
	// A hold's link changes a time of the file: without the details, too, a right entry is no finding.
	link := filepath.Join(t.TempDir(), "link")
	details := filepath.Join(s.dir, segment.DetailsName)
	if err := os.Link(filepath.Join(s.dir, tapedir.SegmentName(2)), link); err != nil {
		t.Fatal(err)
	}
	without := func(name, want string) {
		t.Helper()
		if err := os.Rename(details, details+".away"); err != nil {
			t.Fatal(err)
		}
		check(name, want)
		if err := os.Rename(details+".away", details); err != nil {
			t.Fatal(err)
		}
	}
	without("without details", "")
	forgeManifest(t, s.dir, 2, func(_ *segment.Mark, seg *segment.Segment, _ *segment.Details) { seg.Previous = 0 })
	without("false, without details", "False: segment before")
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
	manifest, seg := segment.ReadManifest(s.dir), &segment.Segment{File: filepath.Join(s.dir, tapedir.SegmentName(2))}
	defer manifest.Close()
	seg.Stat = statOf(t, seg.File)
	if entry := manifest.Of(2); !entry.Fill(seg) {
		t.Fatal("no entry")
	}
	if err := new(segment.ManifestWriter).Append(s.dir, segment.Describing(3, segment.MarkOf(statOf(t, last)), seg, seg.Details())); err != nil {
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
	forgeManifest(t, dir, 2, func(_ *segment.Mark, seg *segment.Segment, _ *segment.Details) {
		seg.Info.Number, seg.Info.First, seg.Info.Last = 1, 0, -1
	})
	tape := mustOpenTape(t, dir)
	if info := tape.Segments()[1]; info.Number != 2 || info.First > info.Last {
		t.Errorf("the entry was taken: %+v", info)
	}
	if err := os.WriteFile(filepath.Join(dir, segment.ManifestName), honest, tapedir.FileMode); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*segment.Segment, *segment.Details){
		"last":  func(seg *segment.Segment, _ *segment.Details) { seg.Info.Last-- },
		"first": func(seg *segment.Segment, _ *segment.Details) { seg.Info.First++ },
		"root":  func(seg *segment.Segment, d *segment.Details) { moveRoot(seg, d, "endpoint") },
	} {
		forgeManifest(t, dir, 2, func(_ *segment.Mark, seg *segment.Segment, d *segment.Details) { change(seg, d) })
		err := mustOpenTape(t, dir).Use(1, func(*sqlite.Conn) error { return nil })
		if err == nil || !strings.Contains(err.Error(), "the manifest is false about it") {
			t.Errorf("%s: %v", name, err)
		}
		if err := os.WriteFile(filepath.Join(dir, segment.ManifestName), honest, tapedir.FileMode); err != nil {
			t.Fatal(err)
		}
	}
}
