package proof

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/conntape/conntape/migrations"
	"github.com/conntape/conntape/store/sqlitefile"

	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/segment"
)

// Salvaged is the result of salvaging a segment.
type Salvaged struct {
	Pages   int              // of the file and its WAL
	Unread  int              // left out: they gave an I/O error or are beyond the file's end
	Altered int              // left out: they differ from their sums
	Frames  int              // left out: damaged frames of the WAL
	Broken  int              // unreadable rows on readable pages
	Rows    map[string]int64 // by table
	Missing int64            // connections that the segment counted but that are not there; -1: unknown
	Unknown int64            // connections whose process, address or result was lost
}

// Salvage copies all readable rows of a segment, in any state, into a new sealed segment at path to, which must not
// exist. It does not change the damaged segment and trusts nothing in it: SQLite never opens it. When ctx is done it leaves
// no new segment, and the error is ctx's cause.
func Salvage(ctx context.Context, from, to string) (*Salvaged, error) {
	fail := func(op, path string, err error, hint string) (*Salvaged, error) {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, &failure.Error{Op: op, Path: path, Err: failure.Bare(err), Hint: cmp.Or(hint, failure.HintFor(err))}
	}
	source, err := findPlace(from)
	if err != nil {
		return fail("salvage segment", from, err, "")
	}
	defer source.folder.Close()
	pages, err := source.openPages(ctx)
	if err != nil {
		return fail("salvage segment", from, err, "")
	}
	defer pages.Close()
	target, err := findPlace(to)
	if err != nil {
		return fail("make segment", to, err, "name a file in a directory of yours")
	}
	defer target.folder.Close()
	made, err := target.make()
	switch {
	case errors.Is(err, fs.ErrExist):
		return fail("make segment", to, err, "name a file that does not exist yet")
	case err != nil:
		return fail("make segment", to, err, "")
	}
	defer made.file.Close()
	result, err := salvageInto(ctx, pages, source.path(), made)
	if err == nil {
		err = made.close(ctx)
	}
	if err != nil {
		os.Remove(made.path())
		return fail("salvage segment", from, err, "")
	}
	return result, nil
}

// salvager fills a new segment with salvaged rows.
type salvager struct {
	conn   *sqlite.Conn
	tables []tableShape
	result *Salvaged
}

// tableShape describes the rows of a table. The tables of a segment differ in it, so a row is recognized even if no page
// that leads to it is left.
type tableShape struct {
	name    string
	kind    sqlitefile.Kind
	columns []columnShape
	insert  *sqlite.Stmt
}

type columnShape struct {
	kind    string // INTEGER, TEXT, BLOB
	notNull bool
	alias   bool // stands for the rowid: stored as NULL
}

func salvageInto(ctx context.Context, pages *sqlitefile.Pages, from string, to newFile) (_ *Salvaged, err error) {
	conn, err := segment.OpenConn(to.path(), sqlite.OpenReadWrite)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, segment.CloseConn(conn)) }()
	conn.SetInterrupt(ctx.Done())
	script, err := migrations.Script(migrations.Version)
	if err != nil {
		return nil, err
	}
	for _, pragma := range []string{
		"PRAGMA locking_mode = EXCLUSIVE", fmt.Sprintf("PRAGMA page_size = %d", sqlitefile.PageSize), "PRAGMA synchronous = OFF",
		"PRAGMA journal_mode = OFF", "PRAGMA trusted_schema = OFF",
		"BEGIN EXCLUSIVE", // nobody else may open it
	} {
		if err := segment.Exec(conn, nil, pragma); err != nil {
			return nil, err
		}
	}
	if err := to.checkLocked(); err != nil {
		return nil, err
	}
	script = fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d;\n", segment.ApplicationID, migrations.Version) + script
	if err := sqlitex.ExecuteScript(conn, script, nil); err != nil {
		return nil, fmt.Errorf("make schema: %w", err)
	}
	s := &salvager{conn: conn, result: &Salvaged{Pages: int(pages.Count), Rows: map[string]int64{}}}
	if err := s.findTables(); err != nil {
		return nil, err
	}
	if err := s.scan(ctx, pages); err != nil {
		return nil, err
	}
	if s.result.Rows["connection"] == 0 && s.result.Rows["segment"] == 0 {
		return nil, fmt.Errorf("%w: nothing of it can be read", failure.ErrNotSegment)
	}
	if err := s.complete(ctx, from); err != nil {
		return nil, err
	}
	if err := segment.Exec(conn, nil, "COMMIT"); err != nil {
		return nil, err
	}
	if err := segment.AddSeal(conn, migrations.Version, to.dir()); err != nil {
		return nil, fmt.Errorf("build index: %w", err)
	}
	return s.result, segment.CheckIntegrity(conn)
}

// findTables reads the shapes of the tables from the schema.
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

// is reports whether a row fits the table.
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

// scan salvages every row that it finds.
func (s *salvager) scan(ctx context.Context, pages *sqlitefile.Pages) error {
	page := make([]byte, pages.Size)
	var failed error
	for n := uint32(1); n <= pages.Count && failed == nil; n++ {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
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

// insert writes a row. It leaves out duplicates and rows that violate a constraint.
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
