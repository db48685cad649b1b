package store

import (
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/escape"
)

// bootNamed returns the boot of the segment with an id as the log has it, nil none.
func (s *segmentVerifier) bootNamed(id string) *bootSpan {
	id = escape.String(id, nil)
	for i := range s.seg.boots {
		if s.seg.boots[i].bootID == id {
			return &s.seg.boots[i]
		}
	}
	return nil
}

// checkBoots compares the boots of the segment with each other, with the log, and
// with the gaps: the recorder cannot have seen anything while the host was down.
func (s *segmentVerifier) checkBoots(conn *sqlite.Conn) error {
	boots := s.seg.boots
	for i := 1; i < len(boots); i++ {
		before, b := &boots[i-1], &boots[i]
		if b.offset <= before.last || b.first < b.offset || b.bootID == before.bootID {
			s.fail(s.rightUntil(), "boot %d of it begins before the one before has ended", b.id)
			continue
		}
		covered := false
		err := execOn(conn, func(q *sqlite.Stmt) error { covered = true; return nil },
			`SELECT 1 FROM gap WHERE from_ns <= ? AND to_ns >= ?`, before.last, b.first)
		if err != nil {
			return err
		}
		if !covered {
			s.fail(s.rightUntil(), "the host was restarted between %v and %v of its clock, and there is no gap that says so",
				wallTime(before.last).Format(time.RFC3339), wallTime(b.first).Format(time.RFC3339))
		}
	}
	if s.book == nil {
		return nil
	}
	// Each boot that the log tells of, in its order. One of which the log has no
	// checkpoint may be in between: it was killed before that.
	at := 0
	for _, l := range s.book.boots {
		want := escape.String(l.bootID, nil)
		for at < len(boots) && boots[at].bootID != want {
			at++
		}
		if at == len(boots) {
			s.fail(s.rightUntil(), "it was not recorded in the boot %s, and the log says that it was (leaf %d)", want, l.Seq)
			return nil
		}
	}
	if begun := s.book.begun; begun != nil && boots[0].bootID != escape.String(begun.BootID, nil) {
		s.fail(s.rightUntil(), "it was begun in another boot: %s, and the log says %s",
			escape.Bytes([]byte(boots[0].bootID)), escape.String(begun.BootID, nil))
	}
	return nil
}
