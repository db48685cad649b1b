package generate

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/conntape/conntape/store"
)

// An image is a program and what it usually connects to.
type image struct {
	path    string
	daemon  bool
	threads int // maximum of a process
	peers   []int
}

// A process is one execution and its threads.
type process struct {
	*store.Process
	image *image
	tasks []*store.Task
}

// host holds the processes and the endpoints.
type host struct {
	random    *rand.Rand
	init      *store.Process
	images    []*image
	daemons   []*process // alive all the time
	passing   []*process // short-lived, by start
	endpoints []*store.Endpoint
	popular   *rand.Zipf // an index of endpoints
	shapes    map[store.Shape]*store.Shape
	pid       uint32
}

// Directories and names of programs.
var (
	programs    = []string{"nginx", "postgres", "sshd", "curl", "python3", "java", "node", "systemd-resolved", "redis-server", "git"}
	directories = []string{"/usr/bin", "/usr/sbin", "/usr/local/bin", "/opt/app/bin", "/usr/libexec"}
)

func newHost(o Options, random *rand.Rand) *host {
	h := &host{random: random, shapes: map[store.Shape]*store.Shape{}, pid: 1}
	h.init = h.execution("/usr/lib/systemd/systemd", nil, uint64(time.Second))
	h.endpoints = newEndpoints(o.Endpoints, random)
	h.popular = rand.NewZipf(random, 1.2, 20, uint64(o.Endpoints-1))
	for i := range o.Images {
		name := programs[i%len(programs)]
		if i >= len(programs) {
			name = fmt.Sprintf("%s-%d", name, i/len(programs))
		}
		m := &image{path: directories[random.IntN(len(directories))] + "/" + name, daemon: i%4 == 0, threads: 1 + i%3*random.IntN(4)}
		for range 3 + random.IntN(40) {
			m.peers = append(m.peers, random.IntN(o.Endpoints))
		}
		h.images = append(h.images, m)
	}
	for i := range o.Processes {
		m := h.images[i%len(h.images)]
		start := o.Begin / 2
		if !m.daemon {
			start = o.Begin + uint64(random.Int64N(int64(o.Span)))
		}
		p := h.newProcess(m, start)
		if m.daemon {
			h.daemons = append(h.daemons, p)
		} else {
			h.passing = append(h.passing, p)
		}
	}
	slices.SortStableFunc(h.passing, func(a, b *process) int { return int(int64(a.ExecBoot) - int64(b.ExecBoot)) })
	return h
}

func (h *host) newProcess(m *image, start uint64) *process {
	parent := h.init
	if n := len(h.daemons); n > 0 && h.random.IntN(3) > 0 { // a child of a daemon
		parent = h.daemons[h.random.IntN(n)].Process
	}
	p := &process{Process: h.execution(m.path, parent, start), image: m}
	for i := range m.threads {
		p.tasks = append(p.tasks, p.task(i))
	}
	return p
}

func (h *host) execution(exe string, parent *store.Process, start uint64) *store.Process {
	pid := h.pid
	h.pid += 1 + uint32(h.random.IntN(9))
	name := exe[lastSlash(exe)+1:]
	p := &store.Process{
		Key:    store.ProcessKey{Tgid: pid, StartBoot: start - min(start, uint64(time.Microsecond)*300), Exec: 2},
		Parent: parent, PidInNS: pid,
		Comm: name[:min(15, len(name))], Exe: exe, Cwd: "/", Argv: []string{name, "--config", fmt.Sprintf("/etc/%s.conf", name)},
		ExeDev: 8<<20 | 1, ExeIno: uint64(h.random.Uint32()),
		LoginUID: -1, SessionID: -1,
		CgroupID: uint64(1000 + pid), Cgroup: "/system.slice/" + name + ".service", Unit: name + ".service",
		MntNS: 4026531841, PidNS: 4026531836, NetNS: 4026531840, UserNS: 4026531837, UtsNS: 4026531838, IpcNS: 4026531839, CgroupNS: 4026531835,
		ExecBoot: start, Source: store.SourceExec, User: "root",
	}
	if parent != nil {
		p.ParentKey, p.PPID = parent.Key, parent.Key.Tgid
	}
	switch h.random.IntN(5) {
	case 0:
		p.UID, p.GID, p.EUID, p.User, p.LoginUID, p.SessionID = 1000, 1000, 1000, "alice", 1000, int64(1+h.random.IntN(50))
		p.Cwd = "/home/alice"
	case 1:
		p.UID, p.GID, p.EUID, p.User = 33, 33, 33, "www-data"
		p.Container = fmt.Sprintf("docker:%016x%016x", h.random.Uint64(), h.random.Uint64())
	}
	return p
}

// task is the state of the i-th thread.
func (p *process) task(i int) *store.Task {
	t := &store.Task{
		Process: p.Process, Tid: p.Key.Tgid + uint32(i), Comm: p.Comm,
		UID: p.UID, GID: p.GID, EUID: p.EUID, User: p.User, LoginUID: p.LoginUID, SessionID: p.SessionID,
		NetNS: p.NetNS, CgroupID: p.CgroupID, Cgroup: p.Cgroup, Container: p.Container,
	}
	if i > 0 {
		t.Comm = fmt.Sprintf("worker-%d", i)
	}
	return t
}

// shape interns a shape.
func (h *host) shape(s store.Shape) *store.Shape {
	if known := h.shapes[s]; known != nil {
		return known
	}
	h.shapes[s] = &s
	return &s
}

func lastSlash(s string) int {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] == '/' {
			return i
		}
	}
	return -1
}
