package proof

import (
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/escape"
	"github.com/conntape/conntape/store/segment"
)

// bootNamed returns the segment's boot with this id of the log; nil: none.
func (s *segmentVerifier) bootNamed(id string) *segment.Boot {
	id = escape.String(id, nil)
	for i := range s.seg.Boots {
		if s.seg.Boots[i].BootID == id {
			return &s.seg.Boots[i]
		}
	}
	return nil
}

// checkBoots compares the segment's boots with each other, with the log and with the gaps: while the host was down there
// has to be a gap.
func (s *segmentVerifier) checkBoots(conn *sqlite.Conn) error {
	boots := s.seg.Boots
	for i := 1; i < len(boots); i++ {
		before, b := &boots[i-1], &boots[i]
		if b.Offset <= before.Last || b.First < b.Offset || b.BootID == before.BootID {
			s.fail(s.rightUntil(), "boot %d of it begins before the one before has ended", b.ID)
			continue
		}
		covered := false
		err := segment.Exec(conn, func(q *sqlite.Stmt) error { covered = true; return nil },
			`SELECT 1 FROM gap WHERE from_ns <= ? AND to_ns >= ?`, before.Last, b.First)
		if err != nil {
			return err
		}
		if !covered {
			s.fail(s.rightUntil(), "the host was restarted between %v and %v of its clock, and there is no gap that says so",
				segment.WallTime(before.Last).Format(time.RFC3339), segment.WallTime(b.First).Format(time.RFC3339))
		}
	}
	if s.book == nil {
		return nil
	}
	// Each boot in the log, in order. Between them may be boots without a checkpoint, killed too early.
	at := 0
	for _, l := range s.book.boots {
		want := escape.String(l.bootID, nil)
		for at < len(boots) && boots[at].BootID != want {
			at++
		}
		if at == len(boots) {
			s.fail(s.rightUntil(), "it was not recorded in the boot %s, and the log says that it was (leaf %d)", want, l.Seq)
			return nil
		}
	}
	if begun := s.book.begun; begun != nil && boots[0].BootID != escape.String(begun.BootID, nil) {
		s.fail(s.rightUntil(), "it was begun in another boot: %s, and the log says %s",
			escape.Bytes([]byte(boots[0].BootID)), escape.String(begun.BootID, nil))
	}
	return nil
}
