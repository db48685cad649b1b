package sqlitefile

import (
	"os"
	"testing"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// Whatever the name of a file leads to by the time SQLite opens it, SQLite reads the file that it was given.
func TestNameIsNotOpened(t *testing.T) {
	for name, swap := range map[string]func(path string) error{
		"another file": func(path string) error { return os.Rename(made(t), path) },
		"a link":       func(path string) error { return os.Symlink("/dev/zero", path) },
		"a directory":  func(path string) error { return os.Mkdir(path, 0o700) },
		"nothing":      func(string) error { return nil },
	} {
		path, _ := withSums(t)
		var w Watch
		defer w.Close()
		uri := uriOf(t, &w, path)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := swap(path); err != nil {
			t.Fatal(err)
		}
		conn, err := sqlite.OpenConn(uri, sqlite.OpenReadOnly|sqlite.OpenURI)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		defer conn.Close()
		rows := 0
		err = sqlitex.ExecuteTransient(conn, "SELECT * FROM t", &sqlitex.ExecOptions{ResultFunc: func(*sqlite.Stmt) error { rows++; return nil }})
		if err != nil || rows != 2000 {
			t.Errorf("%s: %d rows, %v", name, rows, err)
		}
		if err := sqlitex.ExecuteTransient(conn, "DELETE FROM t", nil); sqlite.ErrCode(err).ToPrimary() != sqlite.ResultReadOnly {
			t.Errorf("%s: writing: %v", name, err)
		}
	}
}

// A URI that nobody gave out, or that is not good any more, opens nothing.
func TestURIOfNobody(t *testing.T) {
	path, _ := withSums(t)
	w := new(Watch)
	uri := uriOf(t, w, path)
	w.Close()
	for _, uri := range []string{uri, "file:" + path + "?vfs=" + vfsName, "file:" + path + "?mode=ro&watch=x&vfs=" + vfsName} {
		if conn, err := sqlite.OpenConn(uri, sqlite.OpenReadOnly|sqlite.OpenURI); err == nil {
			conn.Close()
			t.Errorf("%s was opened", uri)
		}
	}
}
