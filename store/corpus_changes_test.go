package store

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/proof"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/sqlitefile"
	"github.com/conntape/conntape/store/tapedir"
)

// changes is a tape to which chance does what an intruder could, with a copy of another
// one from which he takes things.
type changes struct {
	*rand.Rand
	tape, other *sealedTape
}

// coveredColumns are the columns of a segment that is not sealed that the log covers.
func coveredColumns(t testing.TB, dir string, number int) map[string][]string {
	t.Helper()
	columns := map[string][]string{}
	err := segment.Peek(t.Context(), filepath.Join(dir, tapedir.SegmentName(number)), func(conn *sqlite.Conn) error {
		for _, table := range []string{"connection", "repeat", "task", "process", "endpoint", "shape", "counter", "batch"} {
			err := segment.Exec(conn, func(q *sqlite.Stmt) error {
				columns[table] = append(columns[table], q.ColumnText(0))
				return nil
			}, "SELECT name FROM pragma_table_info(?) WHERE pk = 0", table)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return columns
}

// row alters, removes or doubles a row of the segment that is not sealed, or of a sealed
// one, of which the page sums are then made to agree.
func (c *changes) row(t testing.TB, dir string) (what string, number int) {
	number = 1 + c.IntN(4)
	columns := coveredColumns(t, c.tape.dir, 4)
	tables := slices.Sorted(func(yield func(string) bool) {
		for table := range columns {
			if !yield(table) {
				return
			}
		}
	})
	for {
		table := tables[c.IntN(len(tables))]
		column := columns[table][c.IntN(len(columns[table]))]
		at := fmt.Sprintf("rowid = (SELECT rowid FROM %s ORDER BY rowid LIMIT 1 OFFSET abs(random()) %% (SELECT count(*) FROM %s))", table, table)
		script := ""
		switch c.IntN(4) {
		case 0:
			script = fmt.Sprintf("DELETE FROM %s WHERE %s", table, at)
		default:
			script = fmt.Sprintf("UPDATE %s SET %s = CASE typeof(%s) WHEN 'integer' THEN %s + 1 WHEN 'null' THEN 7 WHEN 'blob' THEN zeroblob(length(%s) + 1) ELSE %s || 'x' END WHERE %s",
				table, column, column, column, column, column, at)
		}
		changed := 0
		alterWith(t, dir, number, func(conn *sqlite.Conn) {
			// A table without a rowid, or a constraint: then another one.
			if err := segment.Exec(conn, nil, script); err == nil {
				changed = conn.Changes()
			}
		})
		if changed == 0 {
			continue
		}
		if number < 4 {
			sumAgain(t, filepath.Join(dir, tapedir.SegmentName(number)))
		}
		return script, number
	}
}

// bit flips a bit of a sealed segment.
func (c *changes) bit(t testing.TB, dir string) (what string, segment int) {
	segment = 1 + c.IntN(3)
	at := 0
	edit(t, filepath.Join(dir, tapedir.SegmentName(segment)), func(text []byte) []byte {
		at = c.IntN(len(text) * 8)
		text[at/8] ^= 1 << (at % 8)
		return text
	})
	return fmt.Sprintf("bit %d", at), segment
}

// leaf alters the log.
func (c *changes) leaf(t testing.TB, dir string) (what string, segment int) {
	path := filepath.Join(dir, tapedir.LogDir, "00000001.log")
	edit(t, path, func(text []byte) []byte {
		lines := bytes.SplitAfter(text, []byte("\n"))
		lines = lines[:len(lines)-1] // what is behind the last
		i, j := 8+c.IntN(len(lines)-8), 8+c.IntN(len(lines)-8)
		switch c.IntN(6) {
		case 0:
			what, lines = "leaf removed", slices.Delete(lines, i, i+1)
		case 1:
			for j == i {
				j = 8 + c.IntN(len(lines)-8)
			}
			what = "leaves swapped"
			lines[i], lines[j] = lines[j], lines[i]
		case 2:
			what, lines = "leaf twice", slices.Insert(lines, j, bytes.Clone(lines[i]))
			if i == len(lines)-2 && j == len(lines)-2 { // also that is one
				what = "the last leaf twice"
			}
		case 3:
			what, lines = "end cut off", lines[:i]
		case 4:
			what = "digit altered"
			line := lines[i]
			var digits []int
			for k, b := range line {
				if '0' <= b && b <= '9' {
					digits = append(digits, k)
				}
			}
			k := digits[c.IntN(len(digits))]
			line[k] = '0' + (line[k]-'0'+1)%10
		default:
			k := c.IntN(len(text) * 8)
			text = bytes.Clone(text)
			text[k/8] ^= 1 << (k % 8)
			what, lines = fmt.Sprintf("bit %d", k), [][]byte{text}
		}
		return bytes.Join(lines, nil)
	})
	return what, 0
}

// file does something to the files of the tape.
func (c *changes) file(t testing.TB, dir string) (what string, segment int) {
	segment = 1 + c.IntN(4)
	path := filepath.Join(dir, tapedir.SegmentName(segment))
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	other := 1 + (segment+c.IntN(3))%4
	sealed := 1 + c.IntN(3)
	switch c.IntN(11) {
	case 0:
		must(os.Remove(path))
		return "removed", segment
	case 1:
		must(os.Truncate(path, int64(c.IntN(3*sqlitefile.PageSize))))
		return "cut", segment
	case 2:
		path = filepath.Join(dir, tapedir.SegmentName(sealed))
		edit(t, path, func(text []byte) []byte { return append(text, make([]byte, 1+c.IntN(2*sqlitefile.PageSize))...) })
		return "made longer", sealed
	case 3:
		replaceFile(t, filepath.Join(dir, tapedir.SegmentName(other)), path)
		return fmt.Sprintf("replaced by segment %d", other), segment
	case 4:
		replaceFile(t, filepath.Join(c.other.dir, tapedir.SegmentName(segment)), path)
		return "replaced by one of another tape", segment
	case 5:
		must(os.Rename(path, filepath.Join(dir, tapedir.SegmentName(9))))
		return "renamed to 9", 9
	case 6:
		must(os.Remove(path))
		must(os.Mkdir(path, 0o700))
		return "a directory", segment
	case 7:
		must(os.Remove(path))
		must(unix.Mkfifo(path, 0o600))
		return "a pipe", segment
	case 8:
		must(os.Rename(path, path+".x"))
		must(os.Symlink(path+".x", path))
		return "a link", segment
	case 9:
		replaceFile(t, filepath.Join(c.other.dir, tapedir.SegmentName(other)), filepath.Join(dir, tapedir.SegmentName(7)))
		return "one more", 7
	default:
		must(os.RemoveAll(filepath.Join(dir, tapedir.LogDir)))
		if c.IntN(2) == 0 {
			must(os.CopyFS(filepath.Join(dir, tapedir.LogDir), os.DirFS(filepath.Join(c.other.dir, tapedir.LogDir))))
			return "another log", 0
		}
		return "no log", 0
	}
}

// edit changes a file, whatever its mode is.
func edit(t testing.TB, path string, change func([]byte) []byte) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, change(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, info.Mode().Perm()); err != nil {
		t.Fatal(err)
	}
}

// Changes by chance to rows, bits, leaves and files, 110 of them and 2,000 when
// CONNTAPE_TEST_LONG is set: verify misses none, and names the segment.
func TestRandomChanges(t *testing.T) {
	base := t.TempDir()
	c := &changes{Rand: rand.New(rand.NewPCG(13, 110)), tape: recordTape(t, filepath.Join(base, "tape"), 4), other: recordTape(t, filepath.Join(base, "other"), 4)}
	kinds := []struct {
		name string
		do   func(testing.TB, string) (string, int)
	}{{"row", c.row}, {"bit", c.bit}, {"leaf", c.leaf}, {"file", c.file}}
	missed := 0
	for round := range rounds(24, 110, 2000) {
		kind := kinds[round%len(kinds)]
		tape := &sealedTape{dir: copyTape(t, c.tape.dir), key: c.tape.key}
		what, segment := kind.do(t, tape.dir)
		v := tape.verify(t, proof.Options{Key: c.tape.key, Head: c.tape.lastHead()})
		named := segment == 0 && len(v.Problems) > 0 || slices.ContainsFunc(v.Problems, func(p proof.Problem) bool { return p.Segment == segment })
		if !named {
			missed++
			t.Errorf("round %d: %s, segment %d: %s: not found: %s", round, kind.name, segment, what, strings.TrimSpace(problems(v)))
		}
		if err := os.RemoveAll(filepath.Dir(tape.dir)); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d missed", missed)
}
