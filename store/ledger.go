package store

import (
	"maps"
	"slices"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/escape"
	"github.com/conntape/conntape/store/segment"
)

// The account of a segment: runs, gaps, counters, heartbeat.

// recentGaps limits the search for a gap to replace: an open gap is among the newest.
const recentGaps = 64

// toldGap is the newest reported gap of a cause. The recorder reports a growing gap repeatedly and as a whole; a segment
// stores its own part.
type toldGap struct {
	from   uint64 // as reported, ns of CLOCK_BOOTTIME
	before uint64 // lost according to earlier segments
	lost   uint64 // lost, including this segment
}

// carryTold returns the reported gaps for a new segment.
func carryTold(told map[string]toldGap) map[string]toldGap {
	carried := map[string]toldGap{}
	for cause, t := range told {
		carried[cause] = toldGap{from: t.from, before: t.lost, lost: t.lost}
	}
	return carried
}

// putGap writes a gap, or replaces the one with the same from and cause. If an earlier segment has the gap's begin, it
// writes only the new part. It returns the gap as stored, and updates told.
func (s *activeSegment) putGap(g Gap, told map[string]toldGap) (Gap, error) {
	t := told[g.Cause]
	if t.from != g.From {
		t = toldGap{from: g.From}
	}
	t.lost = max(g.Lost, t.before) // an earlier segment cannot take back its part
	told[g.Cause] = t
	g.Lost = t.lost - t.before
	if t.before > 0 {
		g.From = max(g.From, uint64(s.created-s.offset))
		if g.To != 0 {
			g.To = max(g.To, g.From)
		}
	}
	var from, to any
	if g.From != 0 {
		from = s.at(g.From)
	}
	if g.To != 0 {
		to = s.at(g.To)
	}
	lost := any(g.Lost)
	if g.LostUnknown {
		lost = nil
	}
	return g, s.putGapAt(from, to, g.Cause, lost, g.Detail)
}

// putGapAt is putGap with times on the segment clock; nil is NULL. lost is nil for an unknown number.
func (s *activeSegment) putGapAt(from, to any, cause string, lost any, detail string) error {
	cause = escape.String(cause, nil)
	err := s.exec(`UPDATE gap SET to_ns = ?, lost = ?, detail = ?
		WHERE id > (SELECT max(id) FROM gap) - ? AND from_ns IS ? AND cause = ?`,
		to, lost, segment.TextOrNull(detail), recentGaps, from, cause)
	if err != nil || s.conn.Changes() > 0 {
		return err
	}
	return s.addGap(from, to, cause, lost, detail)
}

// addGap adds a gap even if one with the same cause and begin exists.
func (s *activeSegment) addGap(from, to any, cause string, lost any, detail string) error {
	return s.exec(`INSERT INTO gap (from_ns, to_ns, cause, lost, detail) VALUES (?, ?, ?, ?, ?)`,
		from, to, cause, lost, segment.TextOrNull(detail))
}

// endRun closes what the previous run left open, when recording continues at this time on the segment clock. After a
// clean stop its open gap ends; otherwise a gap from the last heartbeat is added.
func (s *activeSegment) endRun(at int64, detail string, h Handover) error {
	kept, err := s.handOver(h)
	if err != nil {
		return err
	}
	at = max(at, s.heartbeat)
	if kept != "" {
		at = s.heartbeat // nobody was blind
	}
	stopped := s.state == segment.StateStopped
	if stopped {
		err := s.exec(`UPDATE gap SET to_ns = max(?, from_ns), detail = detail || ? WHERE to_ns IS NULL AND cause = ?`, at, kept, segment.CauseStopped)
		if err != nil {
			return err
		}
		stopped = s.conn.Changes() > 0
	}
	err = s.exec(`UPDATE gap SET to_ns = max(?, coalesce(from_ns, 0)) WHERE to_ns IS NULL`, s.heartbeat)
	if err != nil || stopped && h.Lost == 0 {
		return err
	}
	if kept != "" {
		return s.putGapAt(s.heartbeat, at, segment.CauseCrash, h.Lost, detail+kept)
	}
	lost, err := s.loseInFlight()
	if err != nil {
		return err
	}
	if lost > 0 {
		err := s.putGapAt(s.heartbeat, s.heartbeat, segment.CauseUnwritten, lost, "the kernel had seen them, and the recorder ended before they were written")
		if err != nil {
			return err
		}
	}
	return s.putGapAt(s.heartbeat, at, segment.CauseCrash, nil, detail+unknownLoss)
}

// unknownLoss ends the text about a recorder that was killed.
const unknownLoss = "; it lost an unknown number of connections"

// loseInFlight counts the events in flight of a killed run as lost, and returns their number. Nobody knows how many
// events followed the last commit.
func (s *activeSegment) loseInFlight() (lost uint64, err error) {
	const last = `run = (SELECT max(id) FROM run)`
	err = s.query(func(q *sqlite.Stmt) error { lost = uint64(q.ColumnInt64(0)); return nil },
		`SELECT value FROM counter WHERE name = 'in_flight' AND value > 0 AND `+last)
	if err != nil || lost == 0 {
		return 0, err
	}
	if err := s.exec(`UPDATE counter SET value = 0 WHERE name = 'in_flight' AND ` + last); err != nil {
		return 0, err
	}
	for _, name := range []string{"lost", "lost_crash"} {
		if err := s.addToLastRun(name, lost); err != nil {
			return 0, err
		}
	}
	return lost, nil
}

// beginRun writes that a recorder has begun. counted are its counters so far: empty for a new recorder.
func (s *activeSegment) beginRun(pid int, o *WriterOptions, counted segment.Counters) error {
	err := s.exec(`INSERT INTO run (boot, start_boot_ns, pid, version, backend, blind_spots) VALUES (?, ?, ?, ?, ?, ?)`,
		s.boot, o.Now.Boot, pid, escape.String(o.Version, nil), escape.String(o.Backend, nil), escapeLines(o.BlindSpots))
	if err != nil {
		return err
	}
	s.run = s.conn.LastInsertRowID()
	s.counted = segment.Counters{}
	for _, name := range slices.Sorted(maps.Keys(counted)) {
		if err := s.putCounter(name, counted[name], counted[name]); err != nil {
			return err
		}
		s.counted[name] = counted[name]
	}
	s.missedUpdates, s.missedNames = counted[missedUpdatesCounter], counted[missedNamesCounter]
	return nil
}

func escapeLines(lines []string) string {
	var out string
	for i, line := range lines {
		if i > 0 {
			out += "\n"
		}
		out += escape.String(line, nil)
	}
	return out
}

func (s *activeSegment) putCounter(name string, first, value uint64) error {
	return s.exec(`INSERT INTO counter (run, name, first, value) VALUES (?, ?, ?, ?)
		ON CONFLICT (run, name) DO UPDATE SET value = excluded.value`,
		s.run, escape.String(name, nil), first, value)
}

// putCounters writes the counters that changed since the last commit.
func (s *activeSegment) putCounters(c segment.Counters) error {
	for name, value := range c {
		if old, ok := s.counted[name]; ok && old == value {
			continue
		}
		if err := s.putCounter(name, 0, value); err != nil {
			return err
		}
	}
	return nil
}

// missedUpdatesCounter counts updates whose row is in another segment.
const missedUpdatesCounter = "store_updates_missed"

// withMissed adds the counters of what is not in this segment, if they changed.
func (s *activeSegment) withMissed(c segment.Counters) segment.Counters {
	if s.missedUpdates == s.counted[missedUpdatesCounter] && s.missedNames == s.counted[missedNamesCounter] {
		return c
	}
	with := segment.Counters{missedUpdatesCounter: s.missedUpdates, missedNamesCounter: s.missedNames}
	maps.Copy(with, c)
	return with
}

// write writes a batch in one transaction, durable when it returns nil. state is the segment's new state; more adds to
// the transaction.
func (s *activeSegment) write(b *Batch, state string, more func(*activeSegment) error) error {
	missed, unnamed := s.missedUpdates, s.missedNames
	heartbeat := s.heartbeat
	if b.Now != 0 {
		heartbeat = max(heartbeat, s.at(b.Now))
	}
	counters := b.Counters
	var chain [32]byte
	var after segment.Marks
	told := maps.Clone(s.told)
	gaps := make([]Gap, 0, len(b.Gaps))
	err := s.inTransaction(func() (err error) {
		s.chainer.begin(s.batches + 1)
		if err := s.rows.write(b.Connections); err != nil {
			return err
		}
		if err := s.writeEndings(b.Endings); err != nil {
			return err
		}
		if err := s.writeNamings(b.Namings); err != nil {
			return err
		}
		if err := s.writeSocketEvents(b.Sockets); err != nil {
			return err
		}
		if err := s.writeFiles(b.Files, b.Scripts); err != nil {
			return err
		}
		if chain, after, err = s.chainer.end(s.conn, s.rows.maxID); err != nil {
			return err
		}
		if err := s.blocks.end(s); err != nil {
			return err
		}
		for _, g := range b.Gaps {
			if g, err = s.putGap(g, told); err != nil {
				return err
			}
			gaps = append(gaps, g)
		}
		for _, a := range b.Anchors {
			if err := s.insertAnchor(a); err != nil {
				return err
			}
		}
		if err := more(s); err != nil {
			return err
		}
		counters = s.withMissed(counters)
		if err := s.putCounters(counters); err != nil {
			return err
		}
		return s.exec(`UPDATE segment SET state = ?, heartbeat_ns = ?, committed_ns = ?, batches = ?,
			previous_hash = coalesce(previous_hash, ?)`,
			state, heartbeat, time.Now().UnixNano(), s.batches+1, segment.BlobOrNull(s.previousHash))
	})
	if err != nil {
		s.missedUpdates, s.missedNames = missed, unnamed
		return err
	}
	s.batches++
	s.chainer.chain, s.chainer.marks = chain, after
	s.blocks.committed()
	s.state, s.heartbeat = state, heartbeat
	s.told, s.gaps = told, gaps
	s.tally = countedIn(s.tally, b.Connections)
	maps.Copy(s.counted, counters)
	return nil
}

// checkpoint moves the WAL into the database if it is large enough. A failure does not affect the batch.
func (s *activeSegment) checkpoint() error {
	read := func(q *sqlite.Stmt) error { s.walPages = q.ColumnInt64(1) - q.ColumnInt64(2); return nil }
	if err := s.query(read, "PRAGMA wal_checkpoint(NOOP)"); err != nil {
		return err
	}
	most := s.walKeep / pageSize
	due := s.walPages >= min(checkpointPages, most) && time.Since(s.checkpointed) >= checkpointEvery
	if due || s.walPages >= most {
		s.checkpointed = time.Now()
		if err := s.query(read, "PRAGMA wal_checkpoint(PASSIVE)"); err != nil {
			return err
		}
	}
	return s.measure()
}

// countedIn adds the connections of a committed batch.
func countedIn(t segment.Tally, conns []Connection) segment.Tally {
	for i := range conns {
		if !conns[i].Update {
			t.Rows++
			t.Connects += int64(max(1, conns[i].Count))
		}
	}
	return t
}
