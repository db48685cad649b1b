package recorder

import (
	"sync/atomic"
	"time"

	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/store/tapelog"
)

// tapeShares bound how much of a full tape's history one who floods can push out: half, and what he writes beyond that comes
// slower the longer he goes on.
//
// What is written is charged to its owner, in a tree as that of the queue. Each byte that a full tape takes removes an old
// one, and nobody knows whose: so everybody's charges shrink by the part of the tape that was written, and tell what he holds. A
// login may hold half of the tape; what is in a login a sixteenth less, and so on down to a process, so that beside one
// who floods his kin still have room. Who holds more is bound if he floods: if he writes more than half a tape a day,
// and half of that for every eighth of the tape that he wrote beyond what he may hold. So the first eighth takes him 6
// hours, the next 12, then a day, and in 90 days he writes 1.6 tapes at the most.
//
// As long as the tape is not full nobody is bound: the budget is there to be used.
type tapeShares struct {
	shares  *shares // nil: the tape has no bound
	full    *atomic.Bool
	bytes   int64  // of the tape
	written int64  // since the charges last shrank
	unkept  int64  // charged since keep last returned them
	bootID  string // of the host
	aged    uint64 // when what is recent last became less, ns CLOCK_BOOTTIME
}

// onTape is what a share of the tape has beside what others have, in bytes.
type onTape struct {
	recent int64 // written in about the last hour
	excess int64 // written beyond bound, and at no less than half of the rate that was allowed, since he last held half of bound
}

// newTapeShares divides a tape of so many bytes, 0 for one without a bound. full is set by somebody else, by whoever sees
// the tape remove history for its size.
func newTapeShares(bytes int64, full *atomic.Bool) *tapeShares {
	t := &tapeShares{bytes: bytes, full: full}
	if bytes > 0 {
		t.shares = newLongShares(0, bytes)
	}
	return t
}

// find returns the share of a process, nil when there is no bound.
func (t *tapeShares) find(o owner) *share {
	if t.shares == nil {
		return nil
	}
	process := t.shares.find(o)
	family, group := process.above, process.above.above
	// What only ever is "the system" holds most of it by right: root's services, where cgroups do not tell them apart, and
	// the children of init.
	root := o.login == 0 && o.uid == 0
	most := t.bytes / 2
	for _, level := range []struct {
		share *share
		all   bool
	}{{group.above, root}, {group, root && o.cgroup <= rootCgroup}, {family, root && o.parent.tgid <= 1}, {process, false}} {
		if level.share.bound = most; level.all {
			level.share.bound = 0
		}
		most -= most / 16
	}
	return process
}

// floods tells whether somebody, or somebody whom he belongs to, holds more than a part of what he may, and in the last hour wrote more
// than so many eighths of what he then may.
func (t *tapeShares) floods(who *share, part, eighths int64) bool {
	if who.tape == nil || !t.full.Load() {
		return false
	}
	for s := who.tape; s.above != nil; s = s.above {
		if s.bound > 0 && s.used > s.bound/part && s.recent > t.hourly(s)/8*eighths {
			return true
		}
	}
	return false
}

// hourly is what somebody may write in an hour while he holds more than he may.
func (t *tapeShares) hourly(s *share) int64 { return t.bytes / 2 / 24 >> min(62, s.excess/(t.bytes/8)) }

// pressed tells whether somebody holds half of what he may: what he does is counted together where it is alike.
func (t *tapeShares) pressed(who *share) bool { return t.floods(who, 2, 7) }

// over tells whether he holds all of it: there is one row for what he does.
func (t *tapeShares) over(who *share) bool { return t.floods(who, 1, 7) }

// spent tells whether even the rows that count all that a process did have become too many: there may be one in each batch for
// each of thousands of processes.
func (t *tapeShares) spent(who *share) bool { return t.floods(who, 1, 8) }

// charge notes that n bytes will be written for somebody.
func (t *tapeShares) charge(who *share, n int64) {
	if who.tape == nil {
		return
	}
	for s := who.tape; s != nil; s = s.above {
		s.used += n
		s.recent += n
		if s.bound > 0 && s.used > s.bound && t.full.Load() && s.recent > t.hourly(s)/2 {
			s.excess += n
		}
	}
	t.unkept += n
	if t.written += n; t.written > t.bytes/256 {
		t.shrink()
	}
}

// shrink takes the part of the tape that was written off every share.
func (t *tapeShares) shrink() {
	kept := 1 - min(1, float64(t.written)/float64(t.bytes))
	t.written = 0
	for _, s := range t.shares.of {
		if s.used = int64(float64(s.used) * kept); s.used < s.bound/2 {
			s.excess = 0
		}
	}
}

// age makes what was recent less so, once a minute.
func (t *tapeShares) age(now uint64) {
	if t.shares == nil || now < t.aged+uint64(time.Minute) {
		return
	}
	t.aged = now
	for _, s := range t.shares.of {
		s.recent -= (s.recent + 59) / 60
	}
}

// noticeFull returns a listener to what happens to a tape that sets full when history is removed to make room.
func noticeFull(full *atomic.Bool, next func(store.Event)) func(store.Event) {
	return func(e store.Event) {
		if gone, ok := e.(store.SegmentExpired); ok && gone.Why != tapelog.ExpiredAge {
			full.Store(true)
		}
		next(e)
	}
}
