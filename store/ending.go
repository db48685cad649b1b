package store

import (
	"fmt"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/segment"
)

// An outcome after the commit of a connection's row is a row of ending in the segment active then. If this segment has
// the connection too, its shape is changed as well, so that queries by shape need not read ending.

// noCookie in table ending stands for a socket without cookie, and for a connection in the same segment.
const noCookie = -1

// writeEndings writes the endings of a batch, after its connections.
func (s *activeSegment) writeEndings(endings []Ending) error {
	for i := range endings {
		if err := s.writeEnding(&endings[i]); err != nil {
			return fmt.Errorf("write ending: %w", err)
		}
	}
	return nil
}

func (s *activeSegment) writeEnding(e *Ending) error {
	id, shape, err := s.findConnection(e)
	if err != nil {
		return err
	}
	key := segment.EndingKey{ID: id}
	if id == 0 {
		key = segment.EndingKey{ID: s.at(e.Connect), Cookie: int64(e.Cookie)}
		if e.Cookie == 0 {
			key.Cookie = noCookie
		}
	} else if err := s.changeFinal(id, shape, e.Final); err != nil {
		return err
	}
	local, err := s.intern.local(e.Outcome)
	if err != nil {
		return err
	}
	s.ruler.wrote(s.at(e.Connect))
	s.chainer.endings[key] = struct{}{}
	return s.exec(`INSERT OR REPLACE INTO ending (id, cookie, batch, final, outcome) VALUES (?, ?, ?, ?, ?)`,
		key.ID, key.Cookie, s.chainer.batch, e.Final.stored(), appendOutcome(nil, e.Outcome, local))
}

// findConnection returns the id and shape of a connection's row in this segment; id 0: none. Rows of the same nanosecond
// may have moved it. The + is for speed: SQLite would plan the statement anew for each value of a column without index.
func (s *activeSegment) findConnection(e *Ending) (id, shape int64, err error) {
	at := s.at(e.Connect)
	if at > s.rows.maxID {
		return 0, 0, nil
	}
	var cookie any
	if e.Cookie != 0 {
		cookie = int64(e.Cookie)
	}
	err = s.query(func(q *sqlite.Stmt) error { id, shape = q.ColumnInt64(0), q.ColumnInt64(1); return nil },
		`SELECT id, shape FROM connection WHERE id >= ?1 AND id < ?1 + ?2 AND +cookie IS ?3 ORDER BY id LIMIT 1`, at, updateWindow, cookie)
	return id, shape, err
}

// changeFinal changes a row's shape to one with this final.
func (s *activeSegment) changeFinal(id, shape int64, final Final) error {
	with, ok := s.intern.shapeOf(shape)
	if !ok || with.Final == final {
		return nil
	}
	with.Final = final
	to, err := s.intern.addShape(&with)
	if err != nil {
		return err
	}
	return s.changeShape(id, shape, to)
}

// withFinalOf returns a shape with the row's final, which connect(2) does not report when it returns.
func (in *interner) withFinalOf(row int64, shape *Shape) (int64, error) {
	if has, ok := in.shapeOf(row); ok && has.Final != shape.Final && shape.Final == FinalUnknown {
		with := *shape
		with.Final = has.Final
		return in.addShape(&with)
	}
	return in.addShape(shape)
}

// local returns the id of an outcome's local address; 0: unknown.
func (in *interner) local(o *Outcome) (int64, error) {
	if o == nil || o.Local == nil {
		return 0, nil
	}
	return in.endpoint(o.Local)
}

// shapeOf returns a shape by id. There are few.
func (in *interner) shapeOf(id int64) (Shape, bool) {
	if in.shapeByID == nil {
		in.shapeByID = map[int64]Shape{}
	}
	if s, ok := in.shapeByID[id]; ok {
		return s, true
	}
	for s, row := range in.shapes {
		in.shapeByID[row] = s
	}
	s, ok := in.shapeByID[id]
	return s, ok
}
