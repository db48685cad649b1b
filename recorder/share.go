package recorder

import "github.com/conntape/conntape/store"

// share is somebody's part of a bounded memory. Shares form a tree: all of the memory, a login, its processes of one
// user in one cgroup, those of one parent, one process. Who is alone in the tree may take most of the memory, and each
// other one who comes makes that less: nobody at any level can take what another at that level needs.
//
// Of what the share above has left, a share may take seven eighths, what it holds already included (dynamic thresholds,
// Choudhury and Hahne, 1998). An eighth always stays free for whoever comes next.
type share struct {
	above *share
	bound int64 // bytes; of the queue only that of the whole, where above is nil; see tapeShares.find
	used  int64 // bytes, with those of the shares below
	gone  bool  // it is no longer in the tree: look it up again
	depth int   // 0 all of the memory, 4 a process

	// Of a process, in the queue:
	open   int64  // of used, what the open batch holds
	credit int64  // of open, what is not needed yet
	tape   *share // of the tape; nil: that has no bound

	onTape // of a share of the tape
}

// room is how much more may be taken, in bytes; 0 or less: nothing.
func (s *share) room() int64 {
	if s.above == nil {
		return s.bound - s.used
	}
	return (7*s.above.room() - s.used) / 8
}

// pressed tells whether more than half of what may be taken is taken.
func (s *share) pressed() bool { return s.room() <= s.used }

// charge takes n bytes; a negative number gives them back.
func (s *share) charge(n int64) {
	for ; s != nil; s = s.above {
		s.used += n
	}
}

// shareKey tells shares below the same one apart: a and b are whatever does at that level.
type shareKey struct {
	above *share
	a, b  uint64
}

// shares is the tree of one bounded memory.
//
// Who is one? A login: its loginuid, which no process can change and children inherit, or the uid where nobody logged
// in. So neither cgroups, nor uids of a user namespace, nor processes make more than one of it. In it, a uid in a cgroup;
// in that, the children of one parent, so that a thousand short processes count like one; in that, a process across its
// executions.
type shares struct {
	all     share
	of      map[shareKey]*share
	least   int64 // what a share may hold and be forgotten, bytes; what it holds stays charged to those above it
	sweepAt int   // number of shares at which to look for those to forget
}

// processDepth is that of a process in the tree.
const processDepth = 4

// leastSweep is the number of shares below which nobody looks for some to forget.
const leastSweep = 4096

func newShares(bound int64) *shares {
	return &shares{all: share{bound: bound}, of: map[shareKey]*share{}, sweepAt: leastSweep}
}

// newLongShares is newShares for charges that stay long after their process has ended. When there are many shares, those of less
// than a 4096th of whole are forgotten: of processes, then of families, then of cgroups. So there are never many, however many
// processes there were. A login's stays.
func newLongShares(bound, whole int64) *shares {
	s := newShares(bound)
	s.least = whole / 4096
	return s
}

// owner is who somebody is.
type owner struct {
	login, uid   uint32
	cgroup       uint64
	parent, life lifeKey
}

// ownerOf is who a described process is.
func ownerOf(p *store.Process) owner {
	o := owner{login: uint32(p.LoginUID), uid: p.UID, cgroup: p.CgroupID, parent: parentOf(p), life: lifeKey{p.Key.StartBoot, p.Key.Tgid}}
	if p.LoginUID < 0 {
		o.login = p.UID
	}
	return o
}

// parentOf returns who forked a process; zero: unknown.
func parentOf(p *store.Process) lifeKey {
	if p.Parent != nil {
		return lifeKey{p.Parent.Key.StartBoot, p.Parent.Key.Tgid}
	}
	return lifeKey{p.ParentKey.StartBoot, p.ParentKey.Tgid}
}

// find returns the share of a process.
func (s *shares) find(o owner) *share {
	if len(s.of) >= s.sweepAt {
		s.sweep()
	}
	login := s.below(shareKey{above: &s.all, a: uint64(o.login)})
	group := s.below(shareKey{above: login, a: o.cgroup, b: uint64(o.uid)})
	family := s.below(shareKey{above: group, a: uint64(o.parent.tgid), b: o.parent.start})
	return s.below(shareKey{above: family, a: uint64(o.life.tgid), b: o.life.start})
}

func (s *shares) below(k shareKey) *share {
	found := s.of[k]
	if found == nil {
		found = &share{above: k.above, depth: k.above.depth + 1}
		s.of[k] = found
	}
	return found
}

// sweep drops shares that hold nothing, and if there still are many, small ones.
func (s *shares) sweep() {
	s.forget(1, 0)
	for depth := processDepth; depth > 1 && s.least > 0 && len(s.of) > s.sweepAt/2; depth-- {
		s.forget(depth, s.least)
	}
	s.sweepAt = max(leastSweep, 2*len(s.of))
}

// forget drops the shares at a depth or deeper that hold no more than least. What is below one of those holds no more.
func (s *shares) forget(depth int, least int64) {
	for k, one := range s.of {
		if one.depth >= depth && (one.used <= least || one.above.gone) {
			one.gone = true
			delete(s.of, k)
		}
	}
}
