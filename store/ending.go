package store

import (
	"fmt"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/segment"
)

// What becomes of a connection after its row was committed is a row of ending, in the segment that is active then. Where
// that has the connection too, its shape is changed beside, so that what counts shapes need not look there.

// noCookie stands in ending for the cookie of a socket that has none, and of a connection that is elsewhere.
const noCookie = -1

// writeEndings writes those of a batch, when its connections are written.
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
	s.chainer.endings[key] = struct{}{}
	return s.exec(`INSERT OR REPLACE INTO ending (id, cookie, batch, final, outcome) VALUES (?, ?, ?, ?, ?)`,
		key.ID, key.Cookie, s.chainer.batch, e.Final.stored(), appendOutcome(nil, e.Outcome, local))
}

// findConnection returns the row of a connection in this segment, and its shape; id 0: there is none. Rows of the same
// nanosecond may have moved it.
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
		`SELECT id, shape FROM connection WHERE id >= ?1 AND id < ?1 + ?2 AND cookie IS ?3 ORDER BY id LIMIT 1`, at, updateWindow, cookie)
	return id, shape, err
}

// changeFinal gives a row the shape that it has otherwise with what it came to.
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

// withFinalOf finds or writes a shape for a row that has another: it keeps what the row came to, which connect(2) does not
// tell when it returns.
func (in *interner) withFinalOf(row int64, shape *Shape) (int64, error) {
	if has, ok := in.shapeOf(row); ok && has.Final != shape.Final && shape.Final == FinalUnknown {
		with := *shape
		with.Final = has.Final
		return in.addShape(&with)
	}
	return in.addShape(shape)
}

// local returns the row of the local address of an outcome, 0 unknown.
func (in *interner) local(o *Outcome) (int64, error) {
	if o == nil || o.Local == nil {
		return 0, nil
	}
	return in.endpoint(o.Local)
}

// shapeOf returns the shape of a row. There are few.
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
