package proof

import (
	"fmt"
	"hash/maphash"
	"slices"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/escape"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
	"github.com/conntape/conntape/store/tapelog"
)

// rowPass is what is gathered while the connections are read, which is done once.
type rowPass struct {
	rows   int64
	odd    int64       // rows with a value that is never written
	index  *rowSum     // of a sealed segment, else nil
	blocks *blockCheck // of one that is not sealed
}

// checkRows reads all connections, and compares the chain of hashes and the blocks
// with them.
func (s *segmentVerifier) checkRows(conn *sqlite.Conn) error {
	sealed, err := segment.HasSeal(conn)
	if err != nil {
		return err
	}
	if sealed {
		s.pass.index = &rowSum{seed: maphash.MakeSeed()}
	}
	if s.pass.blocks, err = newBlockCheck(conn); err != nil {
		return err
	}
	if sealed && len(s.pass.blocks.left) > 0 {
		s.fail(s.rightUntil(), "it is sealed, and has blocks as one that is written")
	}
	if err := s.checkChain(conn, s.pass.row); err != nil {
		return err
	}
	if problem := s.pass.blocks.finish(); problem != "" {
		s.fail(s.rightUntil(), "%s", problem)
	}
	return nil
}

// row takes the next connection.
func (p *rowPass) row(r *storedRow) {
	p.rows++
	if r.odd {
		p.odd++
	}
	if p.index != nil {
		p.index.addRow(r.Remote, r.Task, r.Shape, r.ID, segment.ConnectsOf(r.Count))
	}
	p.blocks.row(r.ID, r.Remote, r.Task)
}

// checkSealed compares what sealing added with the rows: an index that leaves out
// one would make every answer wrong while the rows are right.
func (s *segmentVerifier) checkSealed(conn *sqlite.Conn) error {
	sealed, err := segment.HasSeal(conn)
	if err != nil {
		return err
	}
	if !sealed {
		if s.book.sealLeaf() != nil {
			s.fail(s.rightUntil(), "it was sealed, and what sealing adds is not there")
		}
		return nil
	}
	if s.book != nil && s.book.sealLeaf() == nil && tapedir.ClosedFile(s.path) {
		s.fail(s.book.lastSeen, "it is sealed, and the log does not say so")
	}
	return s.checkIndex(conn, s.pass.index)
}

// checkCounters makes sure that seen = stored + coalesced + lost, and that there
// are as many rows as were stored.
func (s *segmentVerifier) checkCounters(conn *sqlite.Conn) error {
	n := map[string]int64{}
	for _, r := range s.seg.Runs {
		for name, c := range r.Counters {
			n[name] += c.Since()
		}
	}
	var coalesced, odd int64
	err := segment.Exec(conn, func(q *sqlite.Stmt) error { coalesced, odd = q.ColumnInt64(0), q.ColumnInt64(1); return nil },
		`SELECT coalesce(sum(count - 1), 0), count(*) FILTER (WHERE count < 2) FROM repeat`)
	if err != nil {
		return err
	}
	if odd += s.pass.odd; odd > 0 { // what stands for NULL in the chain of hashes
		s.fail(s.rightUntil(), "%d rows have values that are never written", odd)
	}
	if seal := s.book.sealLeaf(); seal != nil && seal.Rows != s.pass.rows {
		s.fail(s.rightUntil(), "it has %d connections, and %d were sealed", s.pass.rows, seal.Rows)
	}
	if len(n) == 0 { // nothing was counted: killed before the first batch
		return nil
	}
	if done := n["stored"] + n["coalesced"] + n["lost"] + n["in_flight"]; n["seen"] != done {
		s.fail(s.rightUntil(), "its counters do not add up: %d seen, and %d stored + %d coalesced + %d lost + %d in flight = %d",
			n["seen"], n["stored"], n["coalesced"], n["lost"], n["in_flight"], done)
	}
	if s.book != nil && s.book.aside { // its last commit may be in the next segment too
		return nil
	}
	if s.pass.rows != n["stored"] {
		s.fail(s.rightUntil(), "it has %d connections, and %d were stored", s.pass.rows, n["stored"])
	}
	if coalesced != n["coalesced"] {
		s.fail(s.rightUntil(), "its connect count is %d higher than its rows account for, and %d were coalesced", coalesced, n["coalesced"])
	}
	return nil
}

// checkLedger compares counters and recorders with those that the log knows. Of a
// sealed segment the hash says more.
func (s *segmentVerifier) checkLedger(*sqlite.Conn) error {
	if s.book == nil || s.hashed {
		return nil
	}
	runs := s.seg.Runs
	starts := s.tape.book.starts
	for _, r := range runs {
		known := slices.ContainsFunc(starts, func(l tapelog.Leaf) bool {
			return escape.String(l.Version, nil) == r.Version && escape.String(l.Backend, nil) == r.Backend && l.Detail == tapelog.Cut(r.BlindSpots)
		})
		// One that was killed before its first commit may not have said so, and of
		// one that began long ago the log may have been pruned.
		if !known && len(r.Counters) > 0 && s.book.start != nil {
			s.fail(s.rightUntil(), "a recorder that the log does not know: %s, %s", escape.Bytes([]byte(r.Version)), escape.Bytes([]byte(r.Backend)))
		}
	}
	last := s.book.last
	if last == nil || len(starts) > 0 && starts[len(starts)-1].Seq > last.Seq {
		return nil
	}
	var differs string
	for i := len(runs) - 1; i >= 0; i-- {
		what := accountDiffers(&runs[i], last, s.seg.Batches == last.Batches)
		if what == "" {
			return nil
		}
		if differs == "" && len(runs[i].Counters) > 0 {
			differs = what
		}
	}
	if differs == "" {
		differs = "its counters are gone"
	}
	s.fail(segment.WallTime(last.Real), "%s (leaf %d)", differs, last.Seq)
	return nil
}

// accountDiffers says which counter is not what it was when the log saw it, "" none.
// exact: nothing was committed since.
func accountDiffers(r *segment.Recorder, l *tapelog.Leaf, exact bool) string {
	for _, c := range []struct {
		name string
		was  uint64
	}{{"seen", l.Seen}, {"stored", l.Stored}, {"coalesced", l.Coalesced}, {"lost", l.Lost}} {
		is, was := r.Counters[c.name].Value, int64(c.was)
		// What a killed recorder had in flight is counted as lost afterwards.
		if is < was || exact && is != was && c.name != "lost" {
			return fmt.Sprintf("its counter %s is %d, and was %d when the log saw it", c.name, is, was)
		}
	}
	return ""
}

// gapKey is what tells one gap from another.
type gapKey struct {
	from  int64 // segment clock
	cause string
}

// checkGaps makes sure that every loss that the log tells of is in the segment.
func (s *segmentVerifier) checkGaps(conn *sqlite.Conn) error {
	type gap struct{ to, lost int64 }
	found := map[gapKey]gap{}
	err := segment.Exec(conn, func(q *sqlite.Stmt) error {
		to := q.ColumnInt64(1)
		found[gapKey{q.ColumnInt64(0), q.ColumnText(2)}] = gap{to, q.ColumnInt64(3)}
		s.gapAfter = s.gapAfter || q.ColumnIsNull(1) || to >= s.heartbeat
		s.gapBefore = s.gapBefore || q.ColumnIsNull(0) || q.ColumnInt64(0) <= s.seg.Created
		if q.ColumnText(2) == segment.CauseFull {
			s.removed = append(s.removed, q.ColumnText(4))
		}
		return nil
	}, `SELECT from_ns, to_ns, cause, lost, detail FROM gap`)
	if err != nil || s.book == nil || s.book.aside {
		return err
	}
	// The last word on each gap counts: one that lasts is told again and again.
	last := map[gapKey]gap{}
	var order []gapKey
	for _, l := range s.book.gaps {
		boot := s.bootNamed(l.bootID)
		if boot == nil {
			continue // checkBoots says so
		}
		k := gapKey{boot.At(l.From), escape.String(l.Cause, nil)}
		if _, ok := last[k]; !ok {
			order = append(order, k)
		}
		last[k] = gap{boot.At(l.To), int64(l.Lost)}
	}
	slices.SortFunc(order, func(a, b gapKey) int { return int(a.from - b.from) })
	for _, k := range order {
		want, is := last[k], found[k]
		_, there := found[k]
		switch {
		case !there:
			s.fail(s.rightUntil(), "a gap that the log tells of is not there: %s, %d lost", escape.Bytes([]byte(k.cause)), want.lost)
		case k.cause != segment.CauseStopped && is.lost < want.lost:
			s.fail(s.rightUntil(), "the gap %s says %d lost, and the log %d", escape.Bytes([]byte(k.cause)), is.lost, want.lost)
		}
	}
	return nil
}
