package proof

import (
	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/segment"
)

// revisions are the values that a column of connections had before batches changed them.
type revisions struct {
	column string
	of     map[int64][]int64    // batch → connections, ascending
	before map[int64][]revision // connection → changes, ascending
}

// revision is a value before a batch changed it.
type revision struct{ batch, value int64 }

func newRevisions(column string) revisions {
	return revisions{column, map[int64][]int64{}, map[int64][]revision{}}
}

// add reads a row of batch, connection and value.
func (r *revisions) add(q *sqlite.Stmt) error {
	batch, id := q.ColumnInt64(0), q.ColumnInt64(1)
	r.of[batch] = append(r.of[batch], id)
	r.before[id] = append(r.before[id], revision{batch, q.ColumnInt64(2)})
	return nil
}

// first returns the value that a connection was written with, given the value now.
func (r *revisions) first(id, now int64) int64 {
	if changes := r.before[id]; len(changes) > 0 {
		return changes[0].value
	}
	return now
}

// each passes on the connections that a batch changed and the value that it gave each.
func (r *revisions) each(conn *sqlite.Conn, batch int64, to func(id, value int64)) error {
	for _, id := range r.of[batch] {
		value, err := r.after(conn, id, batch)
		if err != nil {
			return err
		}
		to(id, value)
	}
	return nil
}

// after returns the value that a batch gave a connection.
func (r *revisions) after(conn *sqlite.Conn, id, batch int64) (value int64, err error) {
	for _, c := range r.before[id] {
		if c.batch > batch {
			return c.value, nil
		}
	}
	err = segment.Exec(conn, func(q *sqlite.Stmt) error { value = q.ColumnInt64(0); return nil },
		"SELECT "+r.column+" FROM connection WHERE id = ?", id)
	return value, err
}
