package proof

import (
	"errors"
	"fmt"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapelog"
)

// errEnough ends a replay early.
var errEnough = errors.New("enough")

// checkChain recomputes the hashes of the segment's commits from its rows and compares them with the signed ones in the
// log. An altered, added or removed row shows at the first checkpoint after its commit. checkChain passes each row to fn
// too.
func (s *segmentVerifier) checkChain(conn *sqlite.Conn, fn func(*storedRow)) error {
	if s.book.salvaged() { // there is no whole chain
		err := replayRows(conn, fn, func(int64, [32]byte, [32]byte) error { return errEnough })
		if errors.Is(err, errEnough) {
			return nil
		}
		return err
	}
	var points []chainPoint
	if s.book != nil {
		points = s.book.points
	}
	if n := len(points); n > 0 && points[n-1].batches > s.seg.Batches {
		since := s.rightUntil()
		for _, p := range points {
			if p.batches <= s.seg.Batches {
				since = segment.WallTime(p.real)
			}
		}
		s.fail(since, "it has %d commits, and the log saw %d: it was rolled back, or replaced by an older copy", s.seg.Batches, points[n-1].batches)
	}
	c := chainCheck{points: points}
	err := replayRows(conn, fn, c.batch)
	if err == nil {
		err = c.upTo(s.seg.Batches)
	}
	if err == nil && c.odd > 0 {
		c.problem = fmt.Sprintf("the stored hash of batch %d is not that of its rows, which match the log", c.odd)
		err = errEnough
	}
	s.chained = c.matched
	switch {
	case err == nil:
		return nil
	case !errors.Is(err, errEnough):
		return err
	}
	s.fail(c.since, "%s", c.problem)
	return nil
}

// chainCheck compares batch after batch with the checkpoints.
type chainCheck struct {
	points  []chainPoint // not compared yet
	chain   [32]byte     // so far
	matched int64        // batches up to the last checkpoint that matches
	since   time.Time    // of that checkpoint
	problem string
	odd     int64 // first batch whose stored hash differs from its rows' hash
}

// batch adds the hash after a batch: chain from its rows, said as stored.
func (c *chainCheck) batch(n int64, chain, said [32]byte) error {
	if err := c.upTo(n - 1); err != nil {
		return err
	}
	c.chain = chain
	if chain != said {
		if len(c.points) == 0 {
			c.problem = fmt.Sprintf("the rows of batch %d are not those that were written: after the last checkpoint, rows were altered, added or removed", n)
			return errEnough
		}
		if c.odd == 0 { // the next checkpoint will fail too, or the rows are right
			c.odd = n
		}
	}
	return nil
}

// upTo compares the checkpoints after at most n batches.
func (c *chainCheck) upTo(n int64) error {
	for len(c.points) > 0 && c.points[0].batches <= n {
		p := c.points[0]
		c.points = c.points[1:]
		if tapelog.Hash(c.chain) != p.chain {
			c.problem = fmt.Sprintf("its rows up to batch %d are not those that the log saw (leaf %d): since batch %d rows were altered, added or removed",
				p.batches, p.leaf, c.matched+1)
			return errEnough
		}
		c.matched, c.since = p.batches, segment.WallTime(p.real)
	}
	return nil
}
