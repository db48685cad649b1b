package segment

import (
	"fmt"
	"math"
	"strings"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/failure"
)

// What becomes of a connection is often told after its row was written: a row of ending, and one of changed if the connection has another
// shape then, which are 60 bytes. Sealing moves the outcome into the row of its connection, where it takes 18, and what the chain needs
// of the rest takes 6 more ([Told]). Where a connection was told of several times, or something is unusual, it stays as it was recorded.

// folder copies the three tables from the recorded file.
type folder struct {
	finals map[int64]int64 // of the shapes that have one

	connections, endings, changes                     cursor
	insertRow, insertMany, insertEnding, insertChange *sqlite.Stmt

	left int // connections that are not bound yet
	slot int // of the next one in insertMany

	toldOf  []endingRow // endings of the connection at hand
	changed []changeRow // its changes, in the order of batches
	outcome []byte      // reused
	told    []byte      // likewise
}

// foldedRows is how many connections one statement inserts.
const foldedRows = 16

type endingRow struct {
	id, cookie, batch, final int64
	outcome                  []byte
}

type changeRow struct{ id, batch, shape int64 }

// cursor is at a row of a table in the order of ids.
type cursor struct {
	*sqlite.Stmt
	id int64 // of the row; the highest number if there is none
}

func openCursor(conn *sqlite.Conn, query string) (c cursor, err error) {
	if c.Stmt, err = conn.Prepare(query); err == nil {
		err = c.next()
	}
	return c, err
}

func (c *cursor) next() error {
	more, err := c.Step()
	c.id = math.MaxInt64
	if more {
		c.id = c.ColumnInt64(0)
	}
	return err
}

func (f *folder) run(conn *sqlite.Conn) error {
	err := Exec(conn, func(q *sqlite.Stmt) error { f.finals[q.ColumnInt64(0)] = q.ColumnInt64(1); return nil },
		"SELECT id, final FROM recorded.shape WHERE final IS NOT NULL")
	if err != nil {
		return err
	}
	err = Exec(conn, func(q *sqlite.Stmt) error { f.left = q.ColumnInt(0); return nil }, "SELECT count(*) FROM recorded.connection")
	if err != nil {
		return err
	}
	for query, c := range map[string]*cursor{
		"SELECT id, task, remote, shape, local, fd, cookie, outcome FROM recorded.connection NOT INDEXED ORDER BY id": &f.connections,
		"SELECT id, cookie, batch, final, outcome FROM recorded.ending ORDER BY id, cookie, batch":                    &f.endings,
		"SELECT id, batch, shape FROM recorded.changed ORDER BY id, batch":                                            &f.changes,
	} {
		if *c, err = openCursor(conn, query); err != nil {
			return err
		}
		defer c.Reset()
	}
	const row = "(?, ?, ?, ?, ?, ?, ?, ?)"
	for query, stmt := range map[string]**sqlite.Stmt{
		"INSERT INTO main.connection VALUES " + row:                                          &f.insertRow,
		"INSERT INTO main.connection VALUES " + row + strings.Repeat(", "+row, foldedRows-1): &f.insertMany,
		"INSERT INTO main.ending VALUES (?, ?, ?, ?, ?)":                                     &f.insertEnding,
		"INSERT INTO main.changed VALUES (?, ?, ?)":                                          &f.insertChange,
	} {
		if *stmt, err = conn.Prepare(query); err != nil {
			return err
		}
	}
	for f.connections.id < math.MaxInt64 {
		if err := f.connection(f.connections.id); err != nil {
			return err
		}
		if err := f.connections.next(); err != nil {
			return err
		}
	}
	if f.left != 0 {
		return fmt.Errorf("%w: there are not as many connections as it counts", failure.ErrDamaged)
	}
	return f.others(math.MaxInt64)
}

// connection copies the row at hand, and what was told of it.
func (f *folder) connection(id int64) error {
	if err := f.others(id); err != nil {
		return err
	}
	f.toldOf, f.changed = f.toldOf[:0], f.changed[:0]
	for f.endings.id == id {
		f.toldOf = append(f.toldOf, f.endings.ending())
		if err := f.endings.next(); err != nil {
			return err
		}
	}
	for f.changes.id == id {
		f.changed = append(f.changed, f.changes.change())
		if err := f.changes.next(); err != nil {
			return err
		}
	}
	if err := f.insert(); err != nil {
		return err
	}
	for _, e := range f.toldOf {
		if err := f.keepEnding(e); err != nil {
			return err
		}
	}
	for _, c := range f.changed {
		if err := f.keepChange(c); err != nil {
			return err
		}
	}
	return nil
}

// insert copies the row at hand, with the outcome that was told of it later if it can have it.
func (f *folder) insert() error {
	to, many := f.insertRow, f.slot > 0 || f.left >= foldedRows
	if many {
		to = f.insertMany
	}
	row, at := f.connections.Stmt, f.slot*8
	for i := range 8 {
		switch row.ColumnType(i) {
		case sqlite.TypeNull:
			to.BindNull(at + i + 1)
		case sqlite.TypeBlob:
			f.outcome = ColumnBytes(row, i, f.outcome)
			to.BindBytes(at+i+1, f.outcome)
		default:
			to.BindInt64(at+i+1, row.ColumnInt64(i))
		}
	}
	if told, ok := f.fold(); ok {
		to.BindBytes(at+8, told)
	}
	f.left--
	if many {
		if f.slot++; f.slot < foldedRows {
			return nil
		}
		f.slot = 0
	}
	return Run(to)
}

// fold returns the outcome for the row at hand if it was told once, with the last change of its shape if any. What is then in the row is
// no more in toldOf and changed.
func (f *folder) fold() ([]byte, bool) {
	if len(f.toldOf) != 1 || f.toldOf[0].cookie != 0 {
		return nil, false
	}
	e, row, last := f.toldOf[0], f.connections, len(f.changed)-1
	if final, known := f.finals[row.ColumnInt64(3)]; !known || final != e.final {
		return nil, false
	}
	told := Told{Batch: e.batch}
	if last >= 0 && f.changed[last].batch >= e.batch {
		if f.changed[last].batch > e.batch {
			return nil, false
		}
		if told.Shape = f.changed[last].shape; told.Shape == 0 {
			return nil, false
		}
	}
	if row.ColumnType(7) != sqlite.TypeNull {
		told.Before = ColumnBytes(row.Stmt, 7, []byte{})
	}
	b, ok := told.Append(f.told[:0], e.outcome)
	if f.told = b; !ok {
		return nil, false
	}
	f.toldOf = f.toldOf[:0]
	if told.Shape != 0 {
		f.changed = f.changed[:last]
	}
	return b, true
}

// others copies what is about connections below an id that are not in this segment.
func (f *folder) others(below int64) error {
	for f.endings.id < below {
		if err := f.keepEnding(f.endings.ending()); err != nil {
			return err
		}
		if err := f.endings.next(); err != nil {
			return err
		}
	}
	for f.changes.id < below {
		if err := f.keepChange(f.changes.change()); err != nil {
			return err
		}
		if err := f.changes.next(); err != nil {
			return err
		}
	}
	return nil
}

func (c *cursor) ending() endingRow {
	return endingRow{c.id, c.ColumnInt64(1), c.ColumnInt64(2), c.ColumnInt64(3), ColumnBytes(c.Stmt, 4, []byte{})}
}

func (c *cursor) change() changeRow { return changeRow{c.id, c.ColumnInt64(1), c.ColumnInt64(2)} }

func (f *folder) keepEnding(e endingRow) error {
	for i, n := range [...]int64{e.id, e.cookie, e.batch, e.final} {
		f.insertEnding.BindInt64(i+1, n)
	}
	f.insertEnding.BindBytes(5, e.outcome)
	return Run(f.insertEnding)
}

func (f *folder) keepChange(c changeRow) error {
	for i, n := range [...]int64{c.id, c.batch, c.shape} {
		f.insertChange.BindInt64(i+1, n)
	}
	return Run(f.insertChange)
}
