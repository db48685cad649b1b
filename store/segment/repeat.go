package segment

import "zombiezen.com/go/sqlite"

// Repeats reads table repeat beside the connections.
type Repeats struct {
	stmt            *sqlite.Stmt
	begun, done     bool
	id, count, last int64
}

func NewRepeats(conn *sqlite.Conn) (*Repeats, error) {
	stmt, err := conn.Prepare("SELECT id, count, last_ns FROM repeat ORDER BY id")
	return &Repeats{stmt: stmt}, err
}

func (c *Repeats) Close() { c.stmt.Reset() }

// Find returns the count and last time of a connection's row in repeat, 1 and 0 if there is none. Call it in the order
// of id.
func (c *Repeats) Find(id int64) (count, last int64, err error) {
	for !c.done && (!c.begun || c.id < id) {
		more, err := c.stmt.Step()
		if err != nil {
			return 0, 0, err
		}
		c.begun, c.done = true, !more
		if more {
			c.id, c.count, c.last = c.stmt.ColumnInt64(0), c.stmt.ColumnInt64(1), c.stmt.ColumnInt64(2)
		}
	}
	if !c.done && c.id == id {
		return c.count, c.last, nil
	}
	return 1, 0, nil
}
