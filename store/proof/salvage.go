package proof

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/conntape/conntape/migrations"
	"github.com/conntape/conntape/store/sqlitefile"

	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
	"github.com/conntape/conntape/store/trusted"
)

// Salvaged says what came of a damaged segment.
type Salvaged struct {
	Pages   int              // of the file and its WAL
	Unread  int              // that gave an I/O error, or that the file cuts short; they were left out
	Altered int              // that are not as they were sealed, and were left out
	Frames  int              // of the WAL that are damaged, and were left out
	Broken  int              // rows that could not be read on pages that could
	Rows    map[string]int64 // by table
	Missing int64            // connections that the segment counted and that are not there; -1 unknown
	Unknown int64            // connections whose process, address or result was lost
}

// Salvage reads what can be read of a segment, whatever state it and its WAL are
// in, into a new sealed segment at path to, which must not exist. The damaged one
// is not touched, and nothing in it is trusted: SQLite never opens it.
func Salvage(from, to string) (_ *Salvaged, err error) {
	pages, err := openPages(from)
	if err != nil {
		return nil, &failure.Error{Op: "salvage segment", Path: from, Err: failure.Bare(err), Hint: failure.HintFor(err)}
	}
	defer pages.Close()
	folder, err := trusted.Open(filepath.Dir(to)) // by no link of somebody else
	if err != nil {
		return nil, &failure.Error{Op: "make segment", Path: to, Err: failure.Bare(err), Hint: "name a file in a directory of yours"}
	}
	defer folder.Close()
	file, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_RDWR, tapedir.BirthMode)
	if err != nil {
		hint := ""
		if errors.Is(err, fs.ErrExist) {
			hint = "name a file that does not exist yet"
		}
		return nil, &failure.Error{Op: "make segment", Path: to, Err: failure.Bare(err), Hint: hint}
	}
	defer func() {
		if err != nil {
			os.Remove(to)
			os.Remove(to + "-journal")
		}
	}()
	if err := file.Close(); err != nil {
		return nil, &failure.Error{Op: "make segment", Path: to, Err: failure.Bare(err)}
	}
	result, err := salvageInto(pages, from, to)
	if err == nil {
		err = sqlitefile.AppendSums(to, 0)
	}
	if err == nil {
		err = errors.Join(os.Chmod(to, tapedir.ClosedMode), tapedir.SyncFile(to), tapedir.SyncDir(filepath.Dir(to)))
	}
	if err != nil {
		return nil, &failure.Error{Op: "salvage segment", Path: from, Err: err, Hint: failure.HintFor(err)}
	}
	return result, nil
}

// openPages opens what there is of a segment.
func openPages(path string) (*sqlitefile.Pages, error) {
	db, err := tapedir.OpenForCopy(path)
	if err != nil {
		return nil, err
	}
	wal, err := tapedir.OpenForCopy(path + "-wal")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		db.Close()
		return nil, err
	}
	return sqlitefile.OpenPages(db, wal)
}

// salvager fills a new segment with rows that are found.
type salvager struct {
	conn   *sqlite.Conn
	tables []tableShape
	result *Salvaged
}

// tableShape is what rows of a table look like. Tables of a segment can be told
// apart by that alone, so that a row is found although no page that leads to it is
// left.
type tableShape struct {
	name    string
	kind    sqlitefile.Kind
	columns []columnShape
	insert  *sqlite.Stmt
}

type columnShape struct {
	kind    string // INTEGER, TEXT, BLOB
	notNull bool
	alias   bool // of the rowid: stored as NULL
}

func salvageInto(pages *sqlitefile.Pages, from, to string) (_ *Salvaged, err error) {
	conn, err := sqlite.OpenConn(to, sqlite.OpenReadWrite)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	script, err := migrations.Script(migrations.Version)
	if err != nil {
		return nil, err
	}
	for _, pragma := range []string{
		"PRAGMA locking_mode = EXCLUSIVE", fmt.Sprintf("PRAGMA page_size = %d", sqlitefile.PageSize), "PRAGMA synchronous = OFF",
		"PRAGMA journal_mode = OFF", "PRAGMA trusted_schema = OFF",
		fmt.Sprintf("PRAGMA application_id = %d", segment.ApplicationID), fmt.Sprintf("PRAGMA user_version = %d", migrations.Version),
		"BEGIN",
	} {
		if err := segment.Exec(conn, nil, pragma); err != nil {
			return nil, err
		}
	}
	if err := sqlitex.ExecuteScript(conn, script, nil); err != nil {
		return nil, fmt.Errorf("make schema: %w", err)
	}
	s := &salvager{conn: conn, result: &Salvaged{Pages: int(pages.Count), Rows: map[string]int64{}}}
	if err := s.findTables(); err != nil {
		return nil, err
	}
	if err := s.scan(pages); err != nil {
		return nil, err
	}
	if s.result.Rows["connection"] == 0 && s.result.Rows["segment"] == 0 {
		return nil, fmt.Errorf("%w: nothing of it can be read", failure.ErrNotSegment)
	}
	if err := s.complete(from); err != nil {
		return nil, err
	}
	if err := segment.Exec(conn, nil, "COMMIT"); err != nil {
		return nil, err
	}
	if err := segment.AddSeal(conn, migrations.Version, filepath.Dir(to)); err != nil {
		return nil, fmt.Errorf("build index: %w", err)
	}
	return s.result, segment.CheckIntegrity(conn)
}

// findTables learns the shapes of the tables from the schema.
func (s *salvager) findTables() error {
	names := map[string]bool{} // without rowid?
	err := segment.Exec(s.conn, func(q *sqlite.Stmt) error { names[q.ColumnText(0)] = q.ColumnBool(1); return nil },
		`SELECT name, wr FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND name NOT LIKE 'sqlite_%'`)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		t := tableShape{name: name, kind: sqlitefile.TableLeaf}
		if names[name] {
			t.kind = sqlitefile.IndexLeaf
		}
		err := segment.Exec(s.conn, func(q *sqlite.Stmt) error {
			t.columns = append(t.columns, columnShape{kind: q.ColumnText(0), notNull: q.ColumnBool(1),
				alias: t.kind == sqlitefile.TableLeaf && q.ColumnInt(2) == 1})
			return nil
		}, `SELECT type, "notnull", pk FROM pragma_table_info(?) ORDER BY cid`, name)
		if err != nil {
			return err
		}
		t.insert, err = s.conn.Prepare("INSERT OR IGNORE INTO " + name + " VALUES (?" + strings.Repeat(", ?", len(t.columns)-1) + ")")
		if err != nil {
			return err
		}
		s.tables = append(s.tables, t)
	}
	return nil
}

// is reports whether a row can be one of the table.
func (t *tableShape) is(c *sqlitefile.Cell) bool {
	if c.Kind != t.kind || len(c.Row) != len(t.columns) {
		return false
	}
	for i, v := range c.Row {
		column := t.columns[i]
		fits := false
		switch v.(type) {
		case nil:
			fits = column.alias || !column.notNull
		case int64:
			fits = column.kind == "INTEGER" && !column.alias
		case string:
			fits = column.kind == "TEXT"
		case []byte:
			fits = column.kind == "BLOB"
		}
		if !fits {
			return false
		}
	}
	return true
}

// scan takes every row that it finds.
func (s *salvager) scan(pages *sqlitefile.Pages) error {
	page := make([]byte, pages.Size)
	var failed error
	for n := uint32(1); n <= pages.Count && failed == nil; n++ {
		pages.Read(n, page)
		s.result.Broken += pages.Cells(n, page, func(c sqlitefile.Cell) {
			for i := range s.tables {
				if failed == nil && s.tables[i].is(&c) {
					failed = s.insert(&s.tables[i], &c)
					return
				}
			}
		})
	}
	s.result.Unread, s.result.Altered, s.result.Frames = pages.Unread, pages.Altered, pages.Frames
	return failed
}

// insert writes a row. One that a constraint refuses, or that is there already, is
// left out.
func (s *salvager) insert(t *tableShape, c *sqlitefile.Cell) error {
	for i, v := range c.Row {
		if t.columns[i].alias {
			v = c.Rowid
		}
		if err := segment.Bind(t.insert, i+1, v); err != nil {
			return err
		}
	}
	_, err := t.insert.Step()
	if rerr := t.insert.Reset(); err == nil {
		err = rerr
	}
	if sqlite.ErrCode(err).ToPrimary() == sqlite.ResultConstraint {
		s.result.Broken++
		return nil
	}
	if err == nil {
		s.result.Rows[t.name] += int64(s.conn.Changes())
	}
	return err
}
