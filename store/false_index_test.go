package store

import (
	"crypto/sha256"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/posting"
	"github.com/conntape/conntape/store/proof"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/sqlitefile"
)

// repack makes other postings in the place of those of a segment, as well packed as
// these, and with reach what else is made of them.
func repack(t testing.TB, dir string, number int, change func([]posting.Row) []posting.Row, reach bool) {
	t.Helper()
	alterWith(t, dir, number, func(conn *sqlite.Conn) {
		var all []posting.Row
		err := segment.Exec(conn, func(q *sqlite.Stmt) error {
			r := posting.NewReader(segment.ColumnBytes(q, 1, nil))
			for r.Next() {
				for id, n, ok := r.Row(); ok; id, n, ok = r.Row() {
					all = append(all, posting.Row{Remote: q.ColumnInt64(0), Task: r.Task, Shape: r.Shape, ID: id, Connects: n})
				}
			}
			return r.Err()
		}, "SELECT remote, list FROM posting ORDER BY remote, part")
		if err != nil {
			t.Fatal(err)
		}
		if err := segment.Exec(conn, nil, "DELETE FROM posting"); err != nil {
			t.Fatal(err)
		}
		b, err := segment.PostingsInto(conn)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range change(all) {
			if err := b.Add(r); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.Flush(); err != nil {
			t.Fatal(err)
		}
		if !reach {
			return
		}
		if err := segment.Exec(conn, nil, "DELETE FROM reach"); err != nil {
			t.Fatal(err)
		}
		if err := segment.PackReach(conn); err != nil {
			t.Fatal(err)
		}
	})
}

// falseIndex is what an intruder could do to an index so that a connection is not
// found, or found to be another's, and what verify says of it.
type falseIndex struct {
	tamper func(t testing.TB, dir string, number int)
	want   string
}

func falseIndexes() map[string]falseIndex {
	script := func(text string) func(testing.TB, string, int) {
		return func(t testing.TB, dir string, number int) { alter(t, dir, number, text) }
	}
	packed := func(reach bool, change func([]posting.Row) []posting.Row) func(testing.TB, string, int) {
		return func(t testing.TB, dir string, number int) { repack(t, dir, number, change, reach) }
	}
	const disagrees, odd = "its index posting does not agree with its rows: it has ", "its index posting is not what sealing makes of any rows"
	return map[string]falseIndex{
		"an endpoint left out":   {script("DELETE FROM posting WHERE remote = (SELECT min(remote) FROM posting)"), disagrees},
		"an endpoint renumbered": {script("UPDATE posting SET remote = 4000 WHERE remote = (SELECT min(remote) FROM posting)"), disagrees},
		"a row left out": {packed(true, func(rows []posting.Row) []posting.Row { return slices.Delete(rows, 17, 18) }),
			disagrees + "999 entries, and should have 1000"},
		"a row of another thread": {packed(true, func(rows []posting.Row) []posting.Row {
			rows[0].Task = 0
			return rows
		}), disagrees + "1000 entries, and should have 1000"},
		"a row that failed": {packed(false, func(rows []posting.Row) []posting.Row {
			rows[len(rows)-1].Shape++
			return rows
		}), disagrees + "1000 entries"},
		"a row at another time": {packed(false, func(rows []posting.Row) []posting.Row {
			rows[0].ID--
			return rows
		}), disagrees + "1000 entries"},
		"a count": {packed(false, func(rows []posting.Row) []posting.Row {
			rows[0].Connects++
			return rows
		}), disagrees + "1000 entries"},
		"a part with other connects": {script("UPDATE posting SET connects = connects + 1 WHERE remote = (SELECT min(remote) FROM posting)"), odd},
		"a part that ends early":     {script("UPDATE posting SET last_ns = first_ns WHERE remote = (SELECT min(remote) FROM posting)"), odd},
		"an empty part":              {script("INSERT INTO posting VALUES (4000, 0, 0, 0, 0, 0, x'')"), odd},
		"a list of nothing":          {script("UPDATE posting SET list = x'ffff' WHERE remote = (SELECT max(remote) FROM posting)"), odd},
		"a thread left out": {script("DELETE FROM reach WHERE task = (SELECT max(task) FROM reach)"),
			"its index reach does not agree with its rows: it has "},
		"an endpoint of a thread left out": {script("UPDATE reach SET remotes = substr(remotes, 1, length(remotes) - 1) WHERE task = (SELECT max(task) FROM reach)"),
			"its index reach does not agree with its rows: it has "},
		"a thread in two parts": {script("INSERT INTO reach SELECT task, 1, x'8008' FROM reach WHERE task = (SELECT max(task) FROM reach)"),
			"its index reach is not what sealing makes of any rows"},
		"the seal": {script("UPDATE seal SET first_ns = first_ns + 1"), "its summary seal does not agree with its rows"},
	}
}

// A recorder that lies when it seals, because somebody else is root: the hash is
// right, and what it is the hash of is not. The segment is named, and nothing else
// is said of it.
func TestFalseIndexes(t *testing.T) {
	indexes := falseIndexes()
	testFalseIndexes(t, slices.Sorted(maps.Keys(indexes)), indexes)
}

// sealAgain is what a recorder says that altered what it sealed, and what it makes of the file.
func sealAgain(t testing.TB, dir string, sealed SegmentSealed) SegmentSealed {
	t.Helper()
	path := filepath.Join(dir, sealed.File)
	sumAgain(t, path)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if sealed.PageSums, err = segment.HashOfSums(path); err != nil {
		t.Fatal(err)
	}
	sealed.SHA256, sealed.Bytes = sha256.Sum256(text), int64(len(text))
	return sealed
}

// sumAgain gives an altered file the sums of its pages.
func sumAgain(t testing.TB, path string) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(os.Chmod(path, 0o600), sqlitefile.AppendSums(path, 0), os.Chmod(path, info.Mode().Perm()))
	if err != nil {
		t.Fatal(err)
	}
}

// testFalseIndexes records a tape whose first segments each have one of them.
func testFalseIndexes(t *testing.T, names []string, indexes map[string]falseIndex) {
	s := &sealedTape{dir: filepath.Join(t.TempDir(), "tape")}
	s.record(t, len(names)+1, 100*second, func(o *WriterOptions, k *LogKeeper) {
		o.Events = func(e Event) {
			if sealed, ok := e.(SegmentSealed); ok {
				indexes[names[sealed.Segment-1]].tamper(t, s.dir, sealed.Segment)
				e = sealAgain(t, s.dir, sealed)
			}
			k.Listen(e)
		}
	})
	v := s.verify(t, proof.Options{})
	for i, name := range names {
		var found []string
		for _, p := range v.Problems {
			// It has the hash of the one before as it was before that was altered.
			if p.Segment == i+1 && !strings.Contains(p.What, "the hash that it has of") {
				found = append(found, p.What)
			}
		}
		if len(found) != 1 || !strings.HasPrefix(found[0], indexes[name].want) {
			t.Errorf("%s: found %q, want %q", name, found, indexes[name].want)
		}
	}
}
