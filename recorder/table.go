package recorder

import (
	"slices"
	"strings"

	"github.com/conntape/conntape/bpf"
	"github.com/conntape/conntape/store"
)

// maxGenerations bounds a chain of parents: what forks itself without end (a service that re-executes, a fork bomb)
// must not keep all that it ever was in memory. A chain that grows longer is cut to keptGenerations.
const (
	maxGenerations  = 64
	keptGenerations = 32
)

// lifeKey names a process across its executions.
type lifeKey struct {
	start uint64
	tgid  uint32
}

func lifeOf(k bpf.ProcessKey) lifeKey { return lifeKey{k.Start, k.Tgid} }

// life holds the executions of one process that a connect may still name: nearly always one.
type life struct {
	executions []*store.Process // by rising exec number
	share      *share           // of the table's memory, which they take
	missed     int              // snapshots in a row that did not see it
}

func (l *life) find(exec uint32) *store.Process {
	for i := len(l.executions) - 1; i >= 0; i-- {
		if l.executions[i].Key.Exec == exec {
			return l.executions[i]
		}
	}
	return nil
}

// before returns the latest execution earlier than exec.
func (l *life) before(exec uint32) *store.Process {
	for i := len(l.executions) - 1; i >= 0; i-- {
		if l.executions[i].Key.Exec < exec {
			return l.executions[i]
		}
	}
	return nil
}

func (l *life) newest() *store.Process {
	return l.executions[len(l.executions)-1]
}

// insert puts p in its place, instead of a description of the same execution.
func (l *life) insert(p *store.Process) {
	i, found := slices.BinarySearchFunc(l.executions, p.Key.Exec, func(q *store.Process, exec uint32) int {
		return int(int64(q.Key.Exec) - int64(exec))
	})
	l.share.charge(longArgv(p))
	if found {
		l.share.charge(-longArgv(l.executions[i]))
		l.executions[i] = p
		return
	}
	l.executions = slices.Insert(l.executions, i, p)
}

// drop removes the executions up to one, oldest first. It tells whether none is left.
func (l *life) drop(exec uint32) bool {
	for len(l.executions) > 0 && l.executions[0].Key.Exec <= exec {
		l.share.charge(-longArgv(l.executions[0]))
		l.executions[0] = nil
		l.executions = l.executions[1:]
	}
	return len(l.executions) == 0
}

// retirement is something that no later connect can name: a process that exited (all its executions), or an execution
// that another one replaced.
type retirement struct {
	boot uint64 // when it ended, ns CLOCK_BOOTTIME
	life lifeKey
	exec uint32 // the last execution to go
}

// table holds a description of every process alive, and of those dead ones that a connect still in the ring may name.
// It is fed with process records in the order in which they come. Descriptions are immutable: a better one is another.
type table struct {
	lives    map[lifeKey]*life
	retiring []retirement // by rising boot
	users    *users
	cgroups  *cgroups
	mounts   *mounts
	shares   *shares
	queue    *shares // of the queue, which is to hold the descriptions of those that connect
	names    *names  // in the segment
	cut      uint64  // arguments that were cut for want of memory
	hashes   *hashes // nil: no files are read
}

// tableBytes is the memory for long arguments of the processes that are described. The rest of a description is small, and
// the kernel bounds how many processes there are.
const tableBytes = 16 << 20

func newTable(u *users, c *cgroups, queue *shares) *table {
	return &table{lives: map[lifeKey]*life{}, users: u, cgroups: c, mounts: &mounts{}, shares: newShares(tableBytes), queue: queue, names: newNames(0, nil)}
}

// userName returns the name of a user of a process, "" when it is not known: that of the host where the process has the host's
// users.
func (t *table) userName(uid uint32, container string, pid uint32, mntns uint64) string {
	if !t.mounts.hostUsers(pid, mntns) {
		return ""
	}
	return t.users.name(uid, container)
}

// find returns the description of exactly this execution, or nil: never of the program that the process was before.
func (t *table) find(k bpf.ProcessKey) *store.Process {
	l := t.lives[lifeOf(k)]
	if l == nil {
		return nil
	}
	return l.find(k.Exec)
}

// findStored is find by the key of the tape.
func (t *table) findStored(k store.ProcessKey) *store.Process {
	return t.find(bpf.ProcessKey{Tgid: k.Tgid, Start: k.StartBoot, Exec: k.Exec})
}

func (t *table) insert(p *store.Process) {
	k := lifeKey{p.Key.StartBoot, p.Key.Tgid}
	l := t.lives[k]
	if l == nil {
		l = &life{executions: make([]*store.Process, 0, 1), share: t.shares.find(ownerOf(p))}
		t.lives[k] = l
	}
	l.insert(p)
}

// apply takes one record of the process ring.
func (t *table) apply(rec *bpf.Process) {
	switch rec.Kind {
	case bpf.KindFork:
		t.fork(rec)
	case bpf.KindExec:
		t.exec(rec)
	case bpf.KindExit:
		t.retire(retirement{boot: rec.BootTime, life: lifeOf(rec.Key), exec: ^uint32(0)})
	}
}

// fork gives the child its parent's description.
func (t *table) fork(rec *bpf.Process) {
	if t.find(rec.Key) != nil {
		return // a snapshot has met it, and knows more
	}
	parent := t.find(rec.Parent)
	p := t.inherit(parent, rec)
	p.Parent = boundChain(parent)
	t.insert(p)
}

// exec describes a new program. Its parent is whoever forked the process: neither the program that it was before, nor
// the reaper that the kernel may name by now. Both are as before the exec, if that is known.
func (t *table) exec(rec *bpf.Process) {
	p := t.describe(rec, store.SourceExec)
	p.Argv, p.ArgvTruncated = execArgv(rec)
	if rec.Flags&bpf.Script != 0 {
		p.Script = scriptPath(rec)
	}
	l := t.lives[lifeOf(rec.Key)]
	t.keepParent(p, l)
	t.fit(p)
	t.insert(p)
	if l == nil {
		return
	}
	if previous := l.before(rec.Key.Exec); previous != nil {
		t.retire(retirement{boot: rec.BootTime, life: lifeOf(rec.Key), exec: previous.Key.Exec})
	}
}

// keptArgv is what is left of arguments for which there is no memory, in bytes, with argBytes for each.
const keptArgv = 256

// longArgv is the memory that arguments take which could be cut, in bytes.
func longArgv(p *store.Process) int64 {
	if n := argvSize(p); n > keptArgv && p.Source != store.SourceFork { // whose are its parent's
		return n
	}
	return 0
}

// fit cuts the arguments of a new program if whoever it belongs to has no memory for them: in the table, or twice in the
// queue, where its connect would otherwise cost a row of its own; or no room in the segment.
func (t *table) fit(p *store.Process) {
	who, long := ownerOf(p), longArgv(p)
	if long == 0 {
		return
	}
	written := t.names.find(who)
	if t.shares.find(who).room() >= long && t.queue.find(who).room() >= 2*processSize(p) && (written == nil || written.room() >= long) {
		return
	}
	p.Argv, p.ArgvTruncated = cutArgv(p.Argv), true
	t.cut++
}

// cutArgv copies as much of arguments as keptArgv allows. They were one piece of memory, which goes.
func cutArgv(argv []string) (kept []string) {
	left := keptArgv
	for _, arg := range argv {
		if left -= argBytes; left <= 0 {
			break
		}
		kept = append(kept, strings.Clone(arg[:min(len(arg), left)]))
		left -= len(arg)
	}
	return kept
}

// keepParent gives p the parent that another execution of the same process has.
func (t *table) keepParent(p *store.Process, l *life) {
	if l == nil {
		p.Parent = boundChain(t.findStored(p.ParentKey))
		return
	}
	other := l.before(p.Key.Exec)
	if other == nil {
		other = l.newest()
	}
	p.Parent, p.ParentKey, p.PPID = other.Parent, other.ParentKey, other.PPID
}

// unknown stands for an execution whose record never came. What the connect itself says of it is kept, and so is the
// parent if another execution of the process is known.
func (t *table) unknown(c *bpf.Connect) *store.Process {
	p := &store.Process{
		Key:       storeKey(c.Key),
		UID:       c.UID,
		GID:       c.GID,
		EUID:      c.EUID,
		LoginUID:  auditID(c.LoginUID),
		SessionID: auditID(c.SessionID),
		CgroupID:  c.CgroupID,
		Cgroup:    t.cgroups.path(c.CgroupID),
		Source:    store.SourceUnknown,
	}
	if c.Tid == c.Key.Tgid {
		p.Comm = cString(c.Comm[:])
	}
	at := t.cgroups.place(p.Cgroup, false)
	p.Container, p.Unit = at.container, at.unit
	p.User = t.userName(c.UID, p.Container, c.Key.Tgid, 0)
	if l := t.lives[lifeOf(c.Key)]; l != nil {
		t.keepParent(p, l)
	}
	t.insert(p)
	return p
}

// retire notes that nothing new will be of these executions.
func (t *table) retire(r retirement) {
	if t.lives[r.life] != nil {
		t.retiring = append(t.retiring, r)
	}
}

// forget drops what ended before boot. The caller knows that every connect which could name it has been read: the ring
// is in the order of its making, and nobody connects after his exit.
func (t *table) forget(boot uint64) {
	n := 0
	for ; n < len(t.retiring) && t.retiring[n].boot < boot; n++ {
		r := t.retiring[n]
		l := t.lives[r.life]
		if l == nil {
			continue
		}
		if l.drop(r.exec) {
			delete(t.lives, r.life)
		}
	}
	t.retiring = slices.Delete(t.retiring, 0, n)
}

// miss drops processes that two walks in a row did not meet: the record of their exit was lost. What started after the
// walk began cannot be missed.
func (t *table) miss(alive map[lifeKey]struct{}, begin uint64) {
	for k, l := range t.lives {
		if _, ok := alive[k]; ok || k.start >= begin {
			l.missed = 0
			continue
		}
		if l.missed++; l.missed == 2 {
			t.retire(retirement{boot: begin, life: k, exec: ^uint32(0)})
		}
	}
}

// boundChain returns p, or a copy of it that has fewer ancestors if it has too many.
func boundChain(p *store.Process) *store.Process {
	n := 0
	for q := p; q != nil && n < maxGenerations; q = q.Parent {
		n++
	}
	if n < maxGenerations {
		return p
	}
	return copyChain(p, keptGenerations)
}

func copyChain(p *store.Process, n int) *store.Process {
	if p == nil || n == 0 {
		return nil
	}
	q := copyProcess(p)
	q.Parent = copyChain(p.Parent, n-1)
	return q
}
