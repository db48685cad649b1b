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

// rowPass collects data in the only pass over the connections.
type rowPass struct {
	rows   int64
	odd    int64       // rows with a value that the recorder never writes
	index  *rowSum     // of a sealed segment; else nil
	blocks *blockCheck // of an unsealed segment; else nil
}

// checkRows reads all connections and checks the chain of hashes and the blocks.
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

// row adds the next connection.
func (p *rowPass) row(r *storedRow) {
	p.rows++
	if r.odd || r.told != nil && p.index == nil { // only sealing folds endings
		p.odd++
	}
	if p.index != nil {
		p.index.addRow(r.Remote, r.Task, r.Shape, r.ID, segment.ConnectsOf(r.Count))
	}
	p.blocks.row(r.ID, r.Remote, r.Task)
}

// checkSealed compares the tables added by sealing with the rows: an index without a row would make answers wrong
// although the rows are right.
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

// checkCounters checks that seen = stored + coalesced + excluded + lost, and that the number of rows is the number stored.
func (s *segmentVerifier) checkCounters(conn *sqlite.Conn) error {
	n := map[string]int64{}
	for _, r := range s.seg.Runs {
		for name, c := range r.Counters() {
			n[name] += c.Since()
		}
	}
	var coalesced, odd int64
	err := segment.Exec(conn, func(q *sqlite.Stmt) error { coalesced, odd = q.ColumnInt64(0), q.ColumnInt64(1); return nil },
		`SELECT coalesce(sum(count - 1), 0), count(*) FILTER (WHERE count < 2) FROM repeat`)
	if err != nil {
		return err
	}
	if odd += s.pass.odd; odd > 0 { // such a value stands for NULL in the chain
		s.fail(s.rightUntil(), "%d rows have values that are never written", odd)
	}
	if seal := s.book.sealLeaf(); seal != nil && seal.Rows != s.pass.rows {
		s.fail(s.rightUntil(), "it has %d connections, and %d were sealed", s.pass.rows, seal.Rows)
	}
	if len(n) == 0 { // killed before the first batch
		return nil
	}
	n["seen"] -= n[segment.HandedOverCounter] // in the account of the next run
	if done := n["stored"] + n["coalesced"] + n["excluded"] + n["lost"] + n["in_flight"]; n["seen"] != done {
		s.fail(s.rightUntil(), "its counters do not add up: %d seen, and %d stored + %d coalesced + %d excluded + %d lost + %d in flight = %d",
			n["seen"], n["stored"], n["coalesced"], n["excluded"], n["lost"], n["in_flight"], done)
	}
	if s.book != nil && s.book.aside { // its last commit may be repeated in the next segment
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

// checkLedger compares counters and recorders with the log. Of a sealed segment the hash proves more.
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
		// A recorder killed before its first commit may not be in the log, and the start of an old one may be pruned.
		if !known && len(r.Counters()) > 0 && s.book.start != nil {
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
		if differs == "" && len(runs[i].Counters()) > 0 {
			differs = what
		}
	}
	if differs == "" {
		differs = "its counters are gone"
	}
	s.fail(segment.WallTime(last.Real), "%s (leaf %d)", differs, last.Seq)
	return nil
}

// accountDiffers names the first counter that contradicts the log, "" for none. exact: there was no commit since the
// leaf.
func accountDiffers(r *segment.Recorder, l *tapelog.Leaf, exact bool) string {
	for _, c := range []struct {
		name string
		was  uint64
	}{{"seen", l.Seen}, {"stored", l.Stored}, {"coalesced", l.Coalesced}, {"lost", l.Lost}} {
		is, was := r.Counters()[c.name].Value, int64(c.was)
		// Events in flight in a killed recorder are counted as lost afterwards.
		if is < was || exact && is != was && c.name != "lost" {
			return fmt.Sprintf("its counter %s is %d, and was %d when the log saw it", c.name, is, was)
		}
	}
	return ""
}

// gapKey identifies a gap.
type gapKey struct {
	from  int64 // segment clock
	cause string
}

// checkGaps checks that the segment has every loss that is in the log.
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
	// The last report of each gap counts: a lasting gap is reported repeatedly.
	last := map[gapKey]gap{}
	var order []gapKey
	for _, l := range s.book.gaps {
		boot := s.bootNamed(l.bootID)
		if boot == nil {
			continue // reported by checkBoots
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
