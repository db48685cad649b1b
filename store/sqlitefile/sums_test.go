package sqlitefile

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// made returns the path of a database with a table of some pages and an index over it.
func made(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a b?.db") // characters to escape in a URI
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite|sqlite.OpenCreate)
	if err != nil {
		t.Fatal(err)
	}
	err = sqlitex.ExecuteScript(conn, `CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT);
		WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) INSERT INTO t SELECT i, 'row ' || i * 7919 FROM n;
		CREATE INDEX tx ON t (x)`, nil)
	if err := errors.Join(err, conn.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

func withSums(t testing.TB) (path string, data []byte) {
	t.Helper()
	path = made(t)
	if err := AppendSums(path, 0); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, data
}

// uriOf opens a file and returns the URI under which SQLite reads it.
func uriOf(t testing.TB, w *Watch, path string) string {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	uri, err := w.URI(file, path)
	if err != nil {
		t.Fatal(err)
	}
	return uri
}

// ask reads the whole of the table and of the index through the VFS.
func ask(t testing.TB, path string) (answer string, found []Damage, err error) {
	t.Helper()
	var w Watch
	defer w.Close()
	uri := uriOf(t, &w, path)
	conn, err := sqlite.OpenConn(uri, sqlite.OpenReadOnly|sqlite.OpenURI)
	if err != nil {
		return "", w.Damage(), err
	}
	defer conn.Close()
	err = sqlitex.ExecuteTransient(conn, "SELECT count(*), sum(length(x)), (SELECT group_concat(x) FROM (SELECT x FROM t ORDER BY x)) FROM t NOT INDEXED", &sqlitex.ExecOptions{
		ResultFunc: func(q *sqlite.Stmt) error {
			answer = fmt.Sprint(q.ColumnInt64(0), q.ColumnInt64(1), q.ColumnText(2))
			return nil
		}})
	return answer, w.Damage(), err
}

func TestSumsAreBehindTheDatabase(t *testing.T) {
	path := made(t)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(bytes.Clone(before), make([]byte, 3*PageSize)...), 0o600); err != nil { // a longer slot
		t.Fatal(err)
	}
	for range 2 { // again: the same bytes
		if err := AppendSums(path, 0); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		pages := len(before) / PageSize
		if !bytes.Equal(data[:len(before)], before) || len(data) != len(before)+4*pages+SumsEnd {
			t.Fatalf("%d bytes became %d", len(before), len(data))
		}
		sums, err := ReadSums(bytes.NewReader(data), int64(len(data)))
		if err != nil || int(sums.Pages()) != pages {
			t.Fatal(err)
		}
		for n := range pages {
			if err := sums.Check(uint32(n+1), data[n*PageSize:][:PageSize]); err != nil {
				t.Error(err)
			}
		}
		if sums.Check(0, data[:PageSize]) == nil || sums.Check(uint32(pages+1), data[:PageSize]) == nil {
			t.Error("a page that is not there was checked")
		}
	}
	if answer, found, err := ask(t, path); err != nil || len(found) > 0 || !strings.HasPrefix(answer, "2000") {
		t.Errorf("%v, %v, %.20s", err, found, answer)
	}
	if shell, err := exec.LookPath("sqlite3"); err == nil {
		out, err := exec.Command(shell, path, "SELECT count(*) FROM t; PRAGMA integrity_check").CombinedOutput()
		if err != nil || string(out) != "2000\nok\n" {
			t.Errorf("the stock shell: %v, %s", err, out)
		}
	}
}

// A database without sums can be read.
func TestNoSums(t *testing.T) {
	path := made(t)
	if answer, found, err := ask(t, path); err != nil || len(found) > 0 || !strings.HasPrefix(answer, "2000") {
		t.Errorf("%v, %v, %.20s", err, found, answer)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := SumsOf(f); !errors.Is(err, ErrNoSums) {
		t.Error(err)
	}
}

// Flips one bit anywhere: the answer is right, or there is none and the error names the page.
func TestFlippedBit(t *testing.T) {
	path, data := withSums(t)
	want, _, err := ask(t, path)
	if err != nil {
		t.Fatal(err)
	}
	told := 0
	for at := 0; at < len(data); at += 997 {
		for _, bit := range []byte{1, 0x80} {
			data[at] ^= bit
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			data[at] ^= bit
			answer, found, err := ask(t, path)
			inEnd := at >= len(data)-SumsEnd
			var page *PageError
			switch {
			case err == nil && answer == want && (len(found) == 0 || inEnd):
			case err == nil:
				t.Fatalf("byte %d: another answer, in silence", at)
			case len(found) != 1 || found[0].Path != path || !errors.Is(found[0].Err, ErrDamaged):
				t.Fatalf("byte %d: %v, found %v", at, err, found)
			case errors.As(found[0].Err, &page) && at/PageSize+1 != int(page.Page):
				t.Fatalf("byte %d: %v", at, page)
			default:
				told++
			}
		}
	}
	if told < len(data)/997 {
		t.Errorf("%d of %d told", told, 2*len(data)/997)
	}
}

// Moved pages, whole and with their sums, are found.
func TestMovedPages(t *testing.T) {
	for name, change := range map[string]func(data []byte) []byte{
		"two pages swapped": func(data []byte) []byte {
			page := bytes.Clone(data[PageSize:][:PageSize])
			copy(data[PageSize:], data[2*PageSize:][:PageSize])
			copy(data[2*PageSize:], page)
			return data
		},
		"cut":              func(data []byte) []byte { return append(data[:4*PageSize], data[5*PageSize:]...) },
		"fewer cells":      func(data []byte) []byte { data[2*PageSize+4]--; return data },
		"sums of others":   func(data []byte) []byte { data[len(data)-SumsEnd-6]++; return data },
		"cut in the sums":  func(data []byte) []byte { return append(data[:len(data)-100], data[len(data)-SumsEnd:]...) },
		"page count lower": func(data []byte) []byte { data[31]--; return data },
	} {
		path, data := withSums(t)
		if err := os.WriteFile(path, change(data), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, found, err := ask(t, path); err == nil || len(found) != 1 {
			t.Errorf("%s: %v, %v", name, err, found)
		}
	}
}

// Changes a page while SQLite has the file open, as when the room of the file is used again.
func TestChangedWhileOpen(t *testing.T) {
	path, data := withSums(t)
	var w Watch
	defer w.Close()
	uri := uriOf(t, &w, path)
	conn, err := sqlite.OpenConn(uri, sqlite.OpenReadOnly|sqlite.OpenURI)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := sqlitex.ExecuteTransient(conn, "SELECT * FROM t LIMIT 1", nil); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, make([]byte, len(data)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := sqlitex.ExecuteTransient(conn, "SELECT * FROM t", nil); sqlite.ErrCode(err) != sqlite.ResultCorrupt || len(w.Damage()) != 1 {
		t.Errorf("%v, %v", err, w.Damage())
	}
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	if err := sqlitex.ExecuteTransient(conn, "SELECT max(x) FROM t INDEXED BY tx", nil); sqlite.ErrCode(err) != sqlite.ResultCorrupt {
		t.Error(err)
	}
}

func TestAppendSumsRefuses(t *testing.T) {
	for name, data := range map[string][]byte{"empty": nil, "zeros": make([]byte, 3*PageSize)} {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := AppendSums(path, 0); err == nil {
			t.Errorf("%s has sums", name)
		}
		if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, data) {
			t.Errorf("%s was changed", name)
		}
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(made(t), link); err != nil {
		t.Fatal(err)
	}
	if err := AppendSums(link, 0); err == nil {
		t.Error("a link was followed")
	}
}

// The sums read from any file take no more memory than the file.
func FuzzReadSums(f *testing.F) {
	_, data := withSums(f)
	f.Add(data[len(data)-2*PageSize:])
	f.Add([]byte(sumsMagic))
	f.Fuzz(func(t *testing.T, data []byte) {
		sums, err := ReadSums(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		if 4*int64(sums.Pages()) > int64(len(data)) || sums.Pages() == 0 {
			t.Errorf("%d pages in %d bytes", sums.Pages(), len(data))
		}
	})
}
