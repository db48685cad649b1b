package store

import (
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/segment"
)

// A slow connect is written before it returns, and updated with its result later. If the segment was closed in between,
// the row is in the previous segment. So sealing waits as long as a connect can take, if any had not returned.

// outcomePatience limits this wait: SYNs are retransmitted for 127 s (tcp_syn_retries = 6).
const outcomePatience = 150 * time.Second

// pendingOutcomes reports whether rows of unfinished attempts exist, by the recorder's counters.
func (w *Writer) pendingOutcomes() bool { return w.counted["in_flight_stored"] > w.counted["updated"] }

// sealsAfter returns how long a segment that is closed now waits for what may still come for its rows.
func (w *Writer) sealsAfter() time.Duration {
	switch {
	case w.pendingOutcomes():
		return outcomePatience
	case w.o.LateNames:
		return namesPatience
	}
	return 0
}

// giveOutcomes updates rows of the previous segment with results and names that have no row in the active one. Others stay
// counted as missed.
func (w *Writer) giveOutcomes() {
	missed, unnamed := w.seg.rows.missed, w.seg.rows.unnamed
	if len(missed)+len(unnamed) == 0 {
		return
	}
	before := w.claim(w.seg.previous)
	if before == nil {
		return
	}
	err := before.seg.reopen()
	if err == nil {
		err = w.give(before.seg, missed, unnamed)
	}
	if err == nil {
		err = before.seg.checkpoint()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	before.bytes, before.closed = before.seg.bytes(), before.seg.pages*pageSize
	close(before.done)
	before.done = nil
	switch {
	case isFull(err) || isBusy(err):
		w.log.Warn("results of connects not written", "path", before.path, "error", err)
	case err != nil:
		w.log.Error("results of connects not written", "path", before.path, "error", err)
		before.state = aside
		w.aside = append(w.aside, before.seg)
	}
}

// give writes results and names to a closed segment. Those found are no longer missed, which the next batch writes.
func (w *Writer) give(s *activeSegment, missed []Connection, unnamed []Naming) error {
	if len(missed) > 0 {
		found, err := s.writeOutcomes(missed)
		if err != nil {
			return err
		}
		w.seg.missedUpdates -= uint64(found)
	}
	if len(unnamed) > 0 {
		found, err := s.writeLateNames(unnamed)
		if err != nil {
			return err
		}
		w.seg.missedNames -= uint64(found)
	}
	return nil
}

// claim returns the stored segment with this number for exclusive use, if it waits for results. Sealing and removal wait
// until its done is closed.
func (w *Writer) claim(number int) *stored {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.catalog.find(number)
	if s == nil || s.state != unsealed || s.seg == nil || s.done != nil || !time.Now().Before(s.notBefore) {
		return nil
	}
	s.stop, s.done = make(chan struct{}), make(chan struct{})
	return s
}

// writeOutcomes updates rows with their results in one transaction, and returns their number. It compares values: the
// writer's marks are of the active segment.
func (s *activeSegment) writeOutcomes(conns []Connection) (found int, err error) {
	return correctEach(s, conns, s.giveOutcome)
}

// correctEach does it for each of a list, in one correction, and returns for how many there was a row.
func correctEach[T any](s *activeSegment, list []T, do func(*T) (bool, error)) (found int, err error) {
	err = s.correct(func() error {
		for i := range list {
			ok, err := do(&list[i])
			if err != nil {
				return err
			}
			if ok {
				found++
			}
		}
		return nil
	})
	return found, err
}

// correct changes rows of a closed segment in one transaction, as a batch of its own.
func (s *activeSegment) correct(change func() error) error {
	var chain [32]byte
	var after segment.Marks
	err := s.inTransaction(func() (err error) {
		s.chainer.begin(s.batches + 1)
		if err := change(); err != nil {
			return err
		}
		if chain, after, err = s.chainer.end(s.conn, s.rows.maxID); err != nil {
			return err
		}
		return s.exec(`UPDATE segment SET batches = ?, committed_ns = ?`, s.batches+1, time.Now().UnixNano())
	})
	if err != nil {
		return err
	}
	s.batches++
	s.chainer.chain, s.chainer.marks = chain, after
	return nil
}

func (s *activeSegment) giveOutcome(c *Connection) (found bool, err error) {
	var cookie any
	if c.Cookie != 0 {
		cookie = int64(c.Cookie)
	}
	id, was := int64(0), int64(0)
	err = s.query(func(q *sqlite.Stmt) error { id, was = q.ColumnInt64(0), q.ColumnInt64(1); return nil },
		`SELECT c.id, c.shape FROM connection c JOIN task t ON t.id = c.task JOIN endpoint e ON e.id = c.remote
		WHERE c.id >= ?1 AND c.id < ?1 + ?2 AND +c.cookie IS ?3 AND +t.tid = ?4 AND +e.address = ?5 AND +e.port = ?6 AND +e.family = ?7
		ORDER BY c.id LIMIT 1`,
		s.at(c.BootTime), updateWindow, cookie, c.Task.Tid, c.Remote.Address, int64(c.Remote.Port), int64(c.Remote.Family))
	if err != nil || id == 0 {
		return false, err
	}
	shape, err := s.intern.withFinalOf(was, c.Shape)
	if err != nil || shape == was {
		return err == nil, err
	}
	return true, s.changeShape(id, was, shape)
}

// changeShape changes a row's shape so that the chain can be recomputed.
func (s *activeSegment) changeShape(id, was, shape int64) error {
	// Its first shape in this batch is what it had before.
	err := s.exec(`INSERT OR IGNORE INTO changed (id, batch, shape) VALUES (?, ?, ?)`, id, s.chainer.batch, was)
	if err != nil {
		return err
	}
	s.chainer.changes[id] = shape
	return s.exec(`UPDATE connection SET shape = ? WHERE id = ?`, shape, id)
}
