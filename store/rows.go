package store

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/segment"
)

// rowsPerStatement is how many connections one INSERT carries. Running a
// statement costs as much as several rows; beyond 25 to 100 rows nothing more is
// gained (BenchmarkRowsPerStatement), and a batch ends with fewer than this one
// by one.
const rowsPerStatement = 50

// columnsPerRow is the number of values bound for each: all of the table.
const columnsPerRow = 8

// updateWindow bounds how far from its time a row may have been moved by others
// of the same nanosecond and still be found by an update.
const updateWindow = 4096

// rowWriter puts connections into the table, oldest first, so that pages fill
// from left to right and to the brim.
type rowWriter struct {
	segment *activeSegment
	maxID   int64 // highest id in the table
	many    *sqlite.Stmt
	single  *sqlite.Stmt
	size    int // rows a statement, for benchmarks; 0 = rowsPerStatement

	missed  []Connection // updates of the batch whose row is not in this segment
	unnamed []Naming     // names likewise

	order []int32 // scratch: indexes of a batch in order of time
	ids   []int64 // scratch: ids bound to many
	fates []byte  // scratch: outcomes bound to many, one after another
}

// load reads the highest id.
func (w *rowWriter) load() error {
	w.maxID = 0
	return w.segment.query(func(q *sqlite.Stmt) error { w.maxID = q.ColumnInt64(0); return nil },
		`SELECT coalesce(max(id), 0) FROM connection`)
}

func (w *rowWriter) prepare() (err error) {
	if w.many != nil {
		return nil
	}
	if w.size == 0 {
		w.size = rowsPerStatement
	}
	w.ids = make([]int64, w.size)
	row := "(?" + strings.Repeat(", ?", columnsPerRow-1) + ")"
	const into = " INTO connection (id, task, remote, shape, local, fd, cookie, outcome) VALUES "
	if w.single, err = w.segment.conn.Prepare("INSERT OR IGNORE" + into + row); err != nil {
		return err
	}
	w.many, err = w.segment.conn.Prepare("INSERT" + into + row + strings.Repeat(", "+row, w.size-1))
	return err
}

// write inserts the connections of a batch, then applies its updates.
func (w *rowWriter) write(conns []Connection) error {
	clear(w.missed)
	w.missed = w.missed[:0]
	if len(conns) == 0 {
		return nil
	}
	if err := w.prepare(); err != nil {
		return err
	}
	updates := w.sort(conns)
	if err := w.insert(conns); err != nil {
		return err
	}
	if updates == 0 {
		return nil
	}
	for i := range conns {
		if conns[i].Update {
			if err := w.update(&conns[i]); err != nil {
				return fmt.Errorf("update connection: %w", err)
			}
		}
	}
	return nil
}

// sort fills w.order with the new rows in order of time and returns the number
// of updates among conns.
func (w *rowWriter) sort(conns []Connection) (updates int) {
	w.order = w.order[:0]
	sorted, last := true, uint64(0)
	for i := range conns {
		c := &conns[i]
		if c.Update {
			updates++
			continue
		}
		if c.BootTime < last {
			sorted = false
		}
		last = c.BootTime
		w.order = append(w.order, int32(i))
	}
	if !sorted {
		slices.SortStableFunc(w.order, func(a, b int32) int {
			return cmp.Compare(conns[a].BootTime, conns[b].BootTime)
		})
	}
	return updates
}

// insert gives each row in w.order its id and writes it. An id is the time, or
// the next nanosecond that is free. Rows not newer than all that the table has
// go in one by one, since only the table knows which ids are free there.
func (w *rowWriter) insert(conns []Connection) error {
	last := int64(0) // id given last in this batch
	for rest := w.order; len(rest) > 0; {
		if len(rest) < w.size || max(w.segment.at(conns[rest[0]].BootTime), last+1) <= w.maxID {
			id, err := w.insertOne(&conns[rest[0]], last+1)
			if err != nil {
				return fmt.Errorf("insert connection: %w", err)
			}
			last, rest = id, rest[1:]
			continue
		}
		id, err := w.insertMany(conns, rest[:w.size], last+1)
		if err != nil {
			return fmt.Errorf("insert connections: %w", err)
		}
		last, rest = id, rest[w.size:]
	}
	return nil
}

// insertMany writes w.size rows that are all newer than the table. It returns
// the last id.
func (w *rowWriter) insertMany(conns []Connection, rows []int32, from int64) (int64, error) {
	s := w.segment
	repeats := false
	w.fates = slices.Grow(w.fates[:0], len(rows)*mostOutcomeBytes)
	for slot, i := range rows {
		c := &conns[i]
		refs, err := s.intern.resolve(c)
		if err != nil {
			return 0, err
		}
		id := max(s.at(c.BootTime), from)
		outcome := w.outcome(c, refs)
		bindRow(w.many, slot, id, c, refs, outcome)
		w.note(id, c, refs, outcome)
		s.blocks.add(refs.remote, refs.task)
		w.ids[slot] = id
		from = id + 1
		repeats = repeats || c.Count > 1
	}
	if err := segment.Run(w.many); err != nil {
		return 0, err
	}
	w.maxID = from - 1
	if repeats {
		for slot, i := range rows {
			if err := w.repeat(w.ids[slot], &conns[i]); err != nil {
				return 0, err
			}
		}
	}
	return w.maxID, nil
}

// insertOne writes a row at its time, or at the first free id above, but not
// below from. It returns the id.
func (w *rowWriter) insertOne(c *Connection, from int64) (int64, error) {
	s := w.segment
	refs, err := s.intern.resolve(c)
	if err != nil {
		return 0, err
	}
	w.fates = w.fates[:0]
	outcome := w.outcome(c, refs)
	for id := max(s.at(c.BootTime), from); ; id++ {
		bindRow(w.single, 0, id, c, refs, outcome)
		if err := segment.Run(w.single); err != nil {
			return 0, err
		}
		if s.conn.Changes() == 1 {
			w.maxID = max(w.maxID, id)
			w.note(id, c, refs, outcome)
			if id > s.chainer.marks.Newest {
				s.blocks.add(refs.remote, refs.task)
			} else if err := s.exec(`INSERT INTO late (id, batch) VALUES (?, ?)`, id, s.chainer.batch); err != nil {
				return 0, err
			}
			return id, w.repeat(id, c)
		}
	}
}

// outcome returns the outcome of a connection as it is stored, nil none. It is good until the next statement is run.
func (w *rowWriter) outcome(c *Connection, refs refs) []byte {
	if c.Outcome == nil {
		return nil
	}
	begin := len(w.fates)
	w.fates = appendOutcome(w.fates, c.Outcome, refs.source)
	return w.fates[begin:]
}

// note adds a row that is written to the chain and to the ruler.
func (w *rowWriter) note(id int64, c *Connection, refs refs, outcome []byte) {
	row := segment.HashedRow{ID: id, Task: refs.task, Remote: refs.remote, Shape: refs.shape, Local: refs.local,
		Fd: int64(max(c.FD, -1)), Cookie: int64(c.Cookie), Count: int64(max(c.Count, 1)), Outcome: outcome}
	if c.Count > 1 {
		row.Last = w.segment.at(cmp.Or(c.LastBootTime, c.BootTime))
	}
	w.segment.ruler.add(id)
	w.segment.chainer.rows++
	w.segment.chainer.hasher.Connection(&row)
}

// bindRow binds one row to the slot-th group of parameters.
func bindRow(stmt *sqlite.Stmt, slot int, id int64, c *Connection, refs refs, outcome []byte) {
	at := slot * columnsPerRow
	stmt.BindInt64(at+1, id)
	stmt.BindInt64(at+2, refs.task)
	stmt.BindInt64(at+3, refs.remote)
	stmt.BindInt64(at+4, refs.shape)
	if refs.local == 0 {
		stmt.BindNull(at + 5)
	} else {
		stmt.BindInt64(at+5, refs.local)
	}
	if c.FD < 0 {
		stmt.BindNull(at + 6)
	} else {
		stmt.BindInt64(at+6, int64(c.FD))
	}
	if c.Cookie == 0 {
		stmt.BindNull(at + 7)
	} else {
		stmt.BindInt64(at+7, int64(c.Cookie))
	}
	if outcome == nil {
		stmt.BindNull(at + 8)
	} else {
		stmt.BindBytes(at+8, outcome)
	}
}

// repeat writes how often and until when, for a row that stands for several.
func (w *rowWriter) repeat(id int64, c *Connection) error {
	if c.Count <= 1 {
		return nil
	}
	return w.segment.exec(`INSERT INTO repeat (id, count, last_ns) VALUES (?, ?, ?)`,
		id, int64(c.Count), w.segment.at(cmp.Or(c.LastBootTime, c.BootTime)))
}

// update gives the row of an attempt that has returned meanwhile its shape. The
// row is at its time or, moved by others of the same nanosecond, right after it;
// cookie, remote address and thread tell it from those. A row that is not here
// is in an earlier segment: counted, and left as it is.
func (w *rowWriter) update(c *Connection) error {
	s := w.segment
	refs, err := s.intern.resolve(c)
	if err != nil {
		return err
	}
	var cookie any
	if c.Cookie != 0 {
		cookie = int64(c.Cookie)
	}
	at := s.at(c.BootTime)
	id, shape := int64(0), int64(0)
	err = s.query(func(q *sqlite.Stmt) error { id, shape = q.ColumnInt64(0), q.ColumnInt64(1); return nil },
		`SELECT c.id, c.shape FROM connection c JOIN task t ON t.id = c.task
		WHERE c.id >= ?1 AND c.id < ?1 + ?2 AND +c.cookie IS ?3 AND +c.remote = ?4
		  AND t.tid = (SELECT tid FROM task WHERE id = ?5)
		ORDER BY c.id LIMIT 1`,
		at, updateWindow, cookie, refs.remote, refs.task)
	switch {
	case err != nil:
		return err
	case id == 0:
		s.missedUpdates++
		w.missed = append(w.missed, *c)
		return nil
	}
	to, err := s.intern.withFinalOf(shape, c.Shape)
	if err != nil || to == shape {
		return err
	}
	return s.changeShape(id, shape, to)
}
