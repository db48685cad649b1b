package recorder

import (
	"bytes"

	"github.com/conntape/conntape/bpf"
	"github.com/conntape/conntape/store"
)

// What a generation of each cache holds at most: bytes, and of shapes their number. What a cache has dropped is made anew,
// and the writer, which numbers values by identity, stores a task of the same value a second time.
const (
	taskCache     = 8 << 20
	endpointCache = 8 << 20
	cutNameCache  = 1 << 20
	shapeCache    = 4 << 10
)

// Rough sizes in memory, their places in maps included, in bytes. Texts come on top.
const (
	taskBytes     = 384
	processBytes  = 640
	endpointBytes = 256
	argBytes      = 16
)

// redirection is a sockaddr that connects were sent to, and the one that was asked for.
type redirection struct{ to, requested string }

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
	found                     bool
	flags                     bpf.ConnectFlags
}

// party is who connected.
type party struct {
	task  *store.Task
	share *share // of the queue's memory
	owner owner
	lump  *store.Task // task of the row without addresses: no thread's
	size  int64       // of the description, bytes
	crowd bool        // it is all threads for which the segment has no room: the only row is lump's
}

// need is what a row takes beside its own bytes.
type need struct {
	memory int64 // of the queue, bytes
	tape   int64 // bytes that are written for it
}

// resolver turns records into rows. What repeats it hands out as the same pointer. It belongs to the draining goroutine.
type resolver struct {
	backend   string
	table     *table
	share     func(owner) *share                // of the queue
	process   func(*bpf.Connect) *store.Process // finds who connected, and is never at a loss
	tasks     *generations[taskKey, *party]
	shapes    *generations[shapeKey, *store.Shape]
	endpoints *generations[string, *store.Endpoint] // by sockaddr
	cutNames  *generations[string, *store.Endpoint] // by what is left of them
	redirects *generations[redirection, *store.Endpoint]
	named     *generations[string, *store.Endpoint] // by sockaddr, what was asked for, and names
	namings   *namings                              // nil: there are no names
	reached   *generations[string, *store.Endpoint] // by process and sockaddr
	key       []byte                                // of reached and named, reused
	lookUp    func(bpf.ProcessKey) *store.Process   // finds who was described, or nil
	fresh     int64                                 // memory of what was made since the last need, bytes
	described int64                                 // likewise of the descriptions of who is new

	nowhere *store.Endpoint // of a row without addresses
	several *store.Shape    // likewise

	askedShapes map[*store.Shape]*store.Shape
}

func newResolver(backend string, t *table, share func(owner) *share, process func(*bpf.Connect) *store.Process, lookUp func(bpf.ProcessKey) *store.Process) *resolver {
	return &resolver{
		backend: backend,
		table:   t,
		share:   share,
		process: process,
		lookUp:  lookUp,
		tasks: newWeighed(taskCache, func(_ taskKey, p *party) int {
			return taskBytes + int(p.size)
		}),
		shapes:    newGenerations[shapeKey, *store.Shape](shapeCache),
		endpoints: newWeighed(endpointCache, weighEndpoint),
		cutNames:  newWeighed(cutNameCache, weighEndpoint),
		named:     newWeighed(endpointCache, weighEndpoint),
		reached:   newWeighed(endpointCache, weighEndpoint),
		redirects: newWeighed(endpointCache, func(_ redirection, e *store.Endpoint) int { return int(endpointSize(e)) }),
		nowhere:   &store.Endpoint{Family: noFamily, Port: noPort},
		several: &store.Shape{
			Via: bpf.ViaConnect.String(), AddressSource: store.AddressDropped, Backend: backend,
			HookErrno: store.Unknown, Errno: store.Unknown,
		},
	}
}

// address fills row from a record of somebody known. For what was met before it allocates nothing. It reports false if the segment has
// no room for a name that the row would be the first to have, or for one more thread; then the row is not to be used.
func (r *resolver) address(c *bpf.Connect, p *party, row *store.Connection) bool {
	if p.crowd {
		return false
	}
	*row = store.Connection{
		BootTime: c.BootTime,
		Task:     p.task,
		Remote:   r.remote(c, p),
		Shape:    r.shape(c),
		FD:       c.FD,
		Cookie:   c.Cookie,
	}
	if c.Via.IsSend() {
		row.Outcome = sentOf(c.Bytes)
		r.fresh += fateBytes
	}
	if len(c.Local) == 0 || row.Remote == nil {
		return row.Remote != nil
	}
	if place, ok := c.Place(); ok {
		row.Local = r.place(c.Local, place, p)
	} else {
		row.Local = r.endpoint(c.Local, p)
	}
	return row.Local != nil
}

// knows tells whether both addresses of a record are at hand.
func (r *resolver) knows(c *bpf.Connect) bool {
	_, ok := getBytes(r.endpoints, c.Remote)
	if _, device := c.Destination(); device {
		_, ok = r.endpoints.get(placeKeyOf(c.Remote))
	}
	if len(c.Requested) > 0 {
		_, ok = r.redirects.get(redirection{string(c.Remote), string(c.Requested)})
	}
	if ok && c.Peer != (bpf.ProcessKey{}) {
		_, ok = getBytes(r.reached, r.reachedKey(c))
	}
	if ok && r.nameKey(c, lifeOf(c.Key)) != "" {
		_, ok = getBytes(r.named, r.key)
	}
	if _, device := c.Place(); ok && device {
		_, ok = r.endpoints.get(placeKeyOf(c.Local))
	} else if ok && len(c.Local) > 0 {
		_, ok = getBytes(r.endpoints, c.Local)
	}
	return ok
}

// lump fills row with what is left of a record when its addresses are not kept.
func (r *resolver) lump(c *bpf.Connect, p *party, row *store.Connection) {
	if p.lump == nil {
		whole := *p.task
		p.lump = &store.Task{
			Process: whole.Process, Tid: c.Key.Tgid, Comm: whole.Process.Comm,
			UID: whole.UID, GID: whole.GID, EUID: whole.EUID, User: whole.User, LoginUID: whole.LoginUID, SessionID: whole.SessionID,
			NetNS: whole.NetNS, CgroupID: whole.CgroupID, Cgroup: whole.Cgroup, Container: whole.Container,
		}
		r.fresh += taskBytes
	}
	*row = store.Connection{BootTime: c.BootTime, Task: p.lump, Remote: r.nowhere, Shape: r.several, FD: -1}
}

// need returns what the next row of a party needs, with what was made since it was last asked. Where nothing of the process waits
// to be written, the queue is the first to hold its description; on the disk a name, or a process, takes about half of what it
// takes in memory, and only the first time.
func (r *resolver) need(p *party) need {
	n := need{memory: r.fresh, tape: (r.fresh + r.described) / 2}
	if p.share.used == 0 {
		n.memory += taskBytes + p.size
	}
	r.fresh, r.described = 0, 0
	return n
}

// party finds who connected.
func (r *resolver) party(c *bpf.Connect) *party {
	k := taskKey{
		start: c.Key.Start, cgroup: c.CgroupID,
		tgid: c.Key.Tgid, exec: c.Key.Exec, tid: c.Tid,
		uid: c.UID, gid: c.GID, euid: c.EUID, loginuid: c.LoginUID, session: c.SessionID, netns: c.NetNS,
		comm: c.Comm,
	}
	if p, ok := r.known(k); ok {
		return p
	}
	process := r.process(c)
	o := owner{login: c.LoginUID, uid: c.UID, cgroup: c.CgroupID, life: lifeOf(c.Key), parent: parentOf(process)}
	if c.LoginUID == bpf.Unset {
		o.login = c.UID
	}
	if !isProcess(c, process) && !r.table.names.take(o, threadName) {
		return r.crowd(c, process)
	}
	p := r.newParty(c, process, o)
	r.tasks.put(k, p)
	return p
}

// crowd returns the party of all threads of a process for which the segment has no room, whoever they are: it is the process as that was
// described.
func (r *resolver) crowd(c *bpf.Connect, process *store.Process) *party {
	k := taskKey{start: c.Key.Start, tgid: c.Key.Tgid, exec: c.Key.Exec} // no thread has the id 0
	if p, ok := r.known(k); ok {
		return p
	}
	as := bpf.Connect{
		Key: c.Key, Tid: c.Key.Tgid, UID: process.UID, GID: process.GID, EUID: process.EUID,
		LoginUID: c.LoginUID, SessionID: c.SessionID, NetNS: c.NetNS, CgroupID: process.CgroupID,
	}
	p := r.newParty(&as, process, ownerOf(process))
	p.crowd = true
	r.tasks.put(k, p)
	return p
}

// known returns who was met before.
func (r *resolver) known(k taskKey) (*party, bool) {
	p, ok := r.tasks.get(k)
	if ok && (p.share.gone || p.share.tape != nil && p.share.tape.gone) {
		p.share = r.share(p.owner)
	}
	return p, ok
}

// isProcess tells whether a thread is its process as that was described: there is one such for each that is described.
func isProcess(c *bpf.Connect, p *store.Process) bool {
	return c.Tid == c.Key.Tgid && c.UID == p.UID && c.GID == p.GID && c.EUID == p.EUID && c.CgroupID == p.CgroupID && cString(c.Comm[:]) == p.Comm
}

func (r *resolver) newParty(c *bpf.Connect, p *store.Process, o owner) *party {
	t := &store.Task{
		Process: p,
		Tid:     c.Tid,
		Comm:    cString(c.Comm[:]),
		UID:     c.UID, GID: c.GID, EUID: c.EUID,
		LoginUID: auditID(c.LoginUID), SessionID: auditID(c.SessionID),
		NetNS:    uint64(c.NetNS),
		CgroupID: c.CgroupID,
		Cgroup:   p.Cgroup, Container: p.Container,
	}
	if c.CgroupID != p.CgroupID { // it was moved since it was described
		t.Cgroup = r.table.cgroups.path(c.CgroupID)
		t.Container = r.table.cgroups.place(t.Cgroup, false).container
	}
	t.User = r.table.userName(c.UID, t.Container, c.Key.Tgid, p.MntNS)
	r.fresh += taskBytes
	if long := longArgv(p); long > 0 {
		r.table.names.take(o, long) // or it was cut at its exec, or there is room no more
	}
	r.table.hashes.want(p)
	size := processSize(p)
	r.described += size
	return &party{task: t, share: r.share(o), owner: o, size: size}
}

// remote returns the address that an attempt of p went to, nil if there is no room for it in the segment. One that was sent
// there is another than one that asked for it, and one that a name led to another than one without.
func (r *resolver) remote(c *bpf.Connect, p *party) *store.Endpoint {
	if c.Peer != (bpf.ProcessKey{}) {
		return r.daemon(c, p)
	}
	source := r.nameKey(c, lifeOf(c.Key))
	if source == "" {
		return r.nameless(c, p)
	}
	if e, ok := getBytes(r.named, r.key); ok {
		return e
	}
	key := string(r.key)
	e := r.nameless(c, p)
	if e == nil {
		return nil
	}
	with := &store.Endpoint{
		Family: e.Family, Address: e.Address, Port: e.Port, Raw: e.Raw, Requested: e.Requested,
		Names: key[len(c.Remote)+len(c.Requested)+1:], NameSource: source,
	}
	if !r.table.names.take(p.owner, endpointName(with)) {
		return e
	}
	r.fresh += endpointSize(with)
	r.named.put(key, with)
	return with
}

// nameless returns the address without a name.
func (r *resolver) nameless(c *bpf.Connect, p *party) *store.Endpoint {
	if place, ok := c.Destination(); ok {
		return r.place(c.Remote, place, p)
	}
	if len(c.Requested) == 0 {
		return r.endpoint(c.Remote, p)
	}
	k := redirection{string(c.Remote), string(c.Requested)}
	if e, ok := r.redirects.get(k); ok {
		return e
	}
	e := decodeSockaddr([]byte(k.to))
	if e.Requested = r.endpoint(c.Requested, p); e.Requested == nil || !r.table.names.take(p.owner, endpointName(&e)) {
		return nil
	}
	r.fresh += endpointSize(&e)
	r.redirects.put(k, &e)
	return &e
}

// endpoint returns an address that p connected to, asked for, or is bound to, nil if there is no room for it in the segment. One that
// somebody else has is there.
func (r *resolver) endpoint(raw []byte, p *party) *store.Endpoint {
	if e, ok := getBytes(r.endpoints, raw); ok {
		return e
	}
	raw = bytes.Clone(raw)
	e := decodeSockaddr(raw)
	cache, key := r.endpoints, string(raw)
	if !r.table.names.take(p.owner, endpointName(&e)) {
		if !isLong(&e) {
			return nil
		}
		r.table.names.cut++
		e = *cutName(&e)
		cache, key = r.cutNames, e.Address
		if known, ok := cache.get(key); ok {
			return known
		}
	}
	r.fresh += endpointSize(&e)
	cache.put(key, &e)
	return &e
}

func (r *resolver) shape(c *bpf.Connect) *store.Shape {
	k := shapeKey{
		hookErrno: c.HookErrno, errno: c.Errno, addrlen: c.Addrlen,
		family: c.SocketFamily, kind: c.Type, protocol: c.Protocol,
		via: c.Via, flags: c.Flags & bpf.AddressFromUser, found: c.Found,
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
	if c.Found {
		s.AddressSource = store.AddressFound
	}
	r.shapes.put(k, s)
	return s
}

// asked returns a shape of rows whose address is what was asked for alone.
func (r *resolver) asked(of *store.Shape) *store.Shape {
	if s := r.askedShapes[of]; s != nil {
		return s
	}
	if r.askedShapes == nil || len(r.askedShapes) >= shapeCache {
		r.askedShapes = map[*store.Shape]*store.Shape{}
	}
	s := *of
	s.AddressSource = store.AddressAsked
	r.askedShapes[of] = &s
	return &s
}

// relearn forgets who is who: users were renamed, or a process that was unknown is known.
func (r *resolver) relearn() {
	r.tasks.clear()
}
