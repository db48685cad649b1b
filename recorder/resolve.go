package recorder

import (
	"bytes"

	"github.com/conntape/conntape/bpf"
	"github.com/conntape/conntape/store"
)

// Entries that a generation of each cache holds at most. What a cache has dropped is made anew, and the writer, which
// numbers values by identity, stores a task of the same value a second time.
const (
	taskCache     = 32 << 10
	endpointCache = 64 << 10
	shapeCache    = 4 << 10
)

// Rough sizes in memory of what a connect may be the first to need, for the bound on queued events.
const (
	taskBytes     = 256
	processBytes  = 1024
	endpointBytes = 256
)

// taskKey is what a Task is made of, laid out without holes so that hashing is one run over memory.
type taskKey struct {
	start, cgroup                                             uint64
	tgid, exec, tid, uid, gid, euid, loginuid, session, netns uint32
	comm                                                      [16]byte
}

// shapeKey is what a Shape is made of.
type shapeKey struct {
	hookErrno, errno, addrlen int32
	family, kind, protocol    uint16
	via                       bpf.Via
	flags                     bpf.ConnectFlags
}

// resolver turns records into rows. What repeats it hands out as the same pointer. It belongs to the draining goroutine.
type resolver struct {
	backend   string
	table     *table
	process   func(*bpf.Connect) *store.Process // finds who connected, and is never at a loss
	tasks     *generations[taskKey, *store.Task]
	shapes    *generations[shapeKey, *store.Shape]
	endpoints *generations[string, *store.Endpoint]
	fresh     int64 // bytes of what was made since the last takeFresh
}

func newResolver(backend string, t *table, process func(*bpf.Connect) *store.Process) *resolver {
	return &resolver{
		backend:   backend,
		table:     t,
		process:   process,
		tasks:     newGenerations[taskKey, *store.Task](taskCache),
		shapes:    newGenerations[shapeKey, *store.Shape](shapeCache),
		endpoints: newGenerations[string, *store.Endpoint](endpointCache),
	}
}

// resolve fills row from a record. For what was met before it allocates nothing.
func (r *resolver) resolve(c *bpf.Connect, row *store.Connection) {
	*row = store.Connection{
		BootTime: c.BootTime,
		Task:     r.task(c),
		Remote:   r.endpoint(c.Remote),
		Shape:    r.shape(c),
		FD:       c.FD,
		Cookie:   c.Cookie,
	}
	if len(c.Local) > 0 {
		row.Local = r.endpoint(c.Local)
	}
}

// takeFresh returns the bytes of what was made since it was last asked.
func (r *resolver) takeFresh() int64 {
	n := r.fresh
	r.fresh = 0
	return n
}

func (r *resolver) task(c *bpf.Connect) *store.Task {
	k := taskKey{
		start: c.Key.Start, cgroup: c.CgroupID,
		tgid: c.Key.Tgid, exec: c.Key.Exec, tid: c.Tid,
		uid: c.UID, gid: c.GID, euid: c.EUID, loginuid: c.LoginUID, session: c.SessionID, netns: c.NetNS,
		comm: c.Comm,
	}
	if t, ok := r.tasks.get(k); ok {
		return t
	}
	p := r.process(c)
	t := &store.Task{
		Process: p,
		Tid:     c.Tid,
		Comm:    cString(c.Comm[:]),
		UID:     c.UID, GID: c.GID, EUID: c.EUID,
		User:     r.table.users.name(c.UID),
		LoginUID: auditID(c.LoginUID), SessionID: auditID(c.SessionID),
		NetNS:    uint64(c.NetNS),
		CgroupID: c.CgroupID,
		Cgroup:   p.Cgroup, Container: p.Container,
	}
	if c.CgroupID != p.CgroupID { // it was moved since it was described
		t.Cgroup = r.table.cgroups.path(c.CgroupID)
		t.Container = r.table.cgroups.place(t.Cgroup, false).container
	}
	r.fresh += taskBytes + processBytes
	r.tasks.put(k, t)
	return t
}

func (r *resolver) endpoint(raw []byte) *store.Endpoint {
	if e, ok := getBytes(r.endpoints, raw); ok {
		return e
	}
	raw = bytes.Clone(raw)
	e := decodeSockaddr(raw)
	r.fresh += endpointBytes + 2*int64(len(raw)) + int64(len(e.Address))
	r.endpoints.put(string(raw), &e)
	return &e
}

func (r *resolver) shape(c *bpf.Connect) *store.Shape {
	k := shapeKey{
		hookErrno: c.HookErrno, errno: c.Errno, addrlen: c.Addrlen,
		family: c.SocketFamily, kind: c.Type, protocol: c.Protocol,
		via: c.Via, flags: c.Flags & bpf.AddressFromUser,
	}
	if s, ok := r.shapes.get(k); ok {
		return s
	}
	s := &store.Shape{
		SocketFamily: c.SocketFamily, Type: c.Type, Protocol: c.Protocol,
		Via: c.Via.String(), AddressSource: "kernel", Backend: r.backend,
		HookErrno: c.HookErrno, Errno: c.Errno, Addrlen: c.Addrlen,
	}
	if c.Flags&bpf.AddressFromUser != 0 {
		s.AddressSource = "user"
	}
	r.shapes.put(k, s)
	return s
}

// relearn forgets who is who: users were renamed, or a process that was unknown is known.
func (r *resolver) relearn() {
	r.tasks.clear()
}
