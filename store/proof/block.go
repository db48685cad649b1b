package proof

import (
	"bytes"
	"fmt"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/segment"
)

// blockCheck compares the blocks of a segment with its rows, which it gets in order. A block that lacks an endpoint
// would hide that endpoint's rows.
type blockCheck struct {
	left    []writtenBlock
	late    map[int64]struct{}
	remotes segment.IDSet // of the rows since the previous block
	tasks   segment.IDSet
	last    int64  // previous id
	problem string // first problem; "": none
}

// writtenBlock is a row of table block.
type writtenBlock struct {
	id             int64
	remotes, tasks []byte // nil: anything
}

func newBlockCheck(conn *sqlite.Conn) (*blockCheck, error) {
	c := &blockCheck{late: map[int64]struct{}{}}
	list := func(q *sqlite.Stmt, column int) []byte {
		if q.ColumnIsNull(column) {
			return nil
		}
		return segment.ColumnBytes(q, column, []byte{})
	}
	err := segment.Exec(conn, func(q *sqlite.Stmt) error {
		c.left = append(c.left, writtenBlock{q.ColumnInt64(0), list(q, 1), list(q, 2)})
		return nil
	}, `SELECT id, remotes, tasks FROM block ORDER BY id`)
	if err != nil {
		return nil, err
	}
	return c, segment.Exec(conn, func(q *sqlite.Stmt) error { c.late[q.ColumnInt64(0)] = struct{}{}; return nil }, `SELECT id FROM late`)
}

// row adds the next row of connection.
func (c *blockCheck) row(id, remote, task int64) {
	for len(c.left) > 0 && id > c.left[0].id {
		c.end()
	}
	c.last = id
	if len(c.left) == 0 {
		return
	}
	if _, late := c.late[id]; !late {
		c.remotes.Add(remote)
		c.tasks.Add(task)
	}
}

// end compares a block after its last row.
func (c *blockCheck) end() {
	b := c.left[0]
	if b.id != c.last && c.problem == "" {
		c.problem = fmt.Sprintf("its block up to %d ends at no row", b.id)
	}
	for _, list := range []struct {
		of         string
		made, said []byte
	}{{"endpoints", c.remotes.List(), b.remotes}, {"threads", c.tasks.List(), b.tasks}} {
		if list.said != nil && !bytes.Equal(list.made, list.said) && c.problem == "" {
			c.problem = fmt.Sprintf("its block up to %d has other %s than its rows", b.id, list.of)
		}
	}
	c.remotes.Clear()
	c.tasks.Clear()
	c.left = c.left[1:]
}

// finish returns the first problem, "" for none. Call it after the last row.
func (c *blockCheck) finish() string {
	for len(c.left) > 0 {
		c.end()
	}
	return c.problem
}

// CheckBlocks compares the blocks of an open segment with its rows. It returns the number of blocks and the first
// problem, "" for none.
func CheckBlocks(conn *sqlite.Conn) (blocks int, problem string, err error) {
	c, err := newBlockCheck(conn)
	if err != nil {
		return 0, "", err
	}
	blocks = len(c.left)
	err = segment.Exec(conn, func(q *sqlite.Stmt) error {
		c.row(q.ColumnInt64(0), q.ColumnInt64(1), q.ColumnInt64(2))
		return nil
	}, "SELECT id, remote, task FROM connection ORDER BY id")
	return blocks, c.finish(), err
}
