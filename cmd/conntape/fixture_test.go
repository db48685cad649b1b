package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/store/escape"
	"github.com/conntape/conntape/store/segment"
)

// The tape of the tests has the same events and times in every run. It begins at noon, a thousand seconds after boot.
const (
	fixtureBoot = uint64(1000 * time.Second)
	fixtureNoon = "2026-07-01T12:00:00Z"
)

// hostileName holds what an attacker would put into a name: colours, a title,
// a bell, a bidirectional override, a byte that is not UTF-8, a new line.
const hostileName = "=cmd|'/c calc'\x1b[31m\x1b]0;owned\a\u202etxt.exe\xff\nroot ,\"end\""

// writeFixture writes a tape to dir. What it holds is told by kind: "plain" is
// three connections of an ssh session and one of a hostile process, "gap" the
// same with a loss in the middle, "empty" nothing at all, "many" 2,000
// connections, "incident" eight hours with an intrusion,
// "segments" the same in ten segments, with a reboot between each two, "logged"
// two segments with their log. "flip" and "cut" harm the file dir.
func writeFixture(dir, kind string) (err error) {
	switch kind {
	case "segments":
		return writeSegments(dir)
	case "logged":
		return writeLogged(dir)
	case "flip":
		return flipByte(dir)
	case "cut":
		return cutLine(dir)
	}
	noon, err := time.Parse(time.RFC3339, fixtureNoon)
	if err != nil {
		return err
	}
	w, err := store.OpenWriter(dir, store.WriterOptions{
		Version: "1.2.3", Backend: "cgroup", BlindSpots: []string{"connects of the kernel itself"},
		BootID: "00000000-0000-4000-8000-000000000001", Kernel: "6.1.0", Host: "web1", MachineID: "0123456789abcdef0123456789abcdef",
		Now: store.Anchor{Boot: fixtureBoot, Real: noon.UnixNano(), Kind: "start", Sync: "synchronized"},
	})
	if err != nil {
		return err
	}
	batch := store.Batch{Now: fixtureBoot + uint64(time.Minute)}
	switch kind {
	case "plain", "gap":
		batch.Connections = plainConnections()
	case "many":
		batch.Connections = manyConnections(2000)
	case "incident":
		batch.Connections = incidentConnections()
		batch.Sockets = incidentSockets(batch.Connections)
		batch.Now = fixtureBoot + uint64(8*time.Hour)
	case "empty":
	default:
		return fmt.Errorf("unknown fixture %q", kind)
	}
	n := uint64(len(batch.Connections))
	counters := segment.Counters{"seen": n, "stored": n}
	if kind == "gap" {
		batch.Gaps = []store.Gap{{From: fixtureBoot + uint64(10*time.Second), To: fixtureBoot + uint64(15*time.Second), Cause: "ring", Lost: 7, Detail: "ring buffer full"}}
		counters = segment.Counters{"seen": n + 7, "stored": n, "lost": 7}
	}
	batch.Counters = counters
	err = w.Append(batch)
	stop := store.Gap{From: batch.Now, Cause: segment.CauseStopped}
	return errors.Join(err, w.Close(stop, counters))
}

// writeSegments writes the incident in as many segments as a reader attaches.
func writeSegments(dir string) error {
	const count, span = 10, uint64(8*time.Hour) / 10
	noon, err := time.Parse(time.RFC3339, fixtureNoon)
	if err != nil {
		return err
	}
	all := incidentConnections()
	events := incidentSockets(all)
	for i := range uint64(count) {
		from := fixtureBoot + i*span
		w, err := store.OpenWriter(dir, store.WriterOptions{
			Version: "1.2.3", Backend: "fexit", BootID: fmt.Sprintf("00000000-0000-4000-8000-%012d", i+1), Kernel: "6.1.0", Host: fmt.Sprintf("web%d", i+1),
			Now: store.Anchor{Boot: from, Real: noon.Add(time.Duration(i * span)).UnixNano(), Kind: "start"},
		})
		if err != nil {
			return err
		}
		batch := store.Batch{Now: from + span}
		for len(all) > 0 && all[0].BootTime < from+span {
			batch.Connections, all = append(batch.Connections, all[0]), all[1:]
		}
		for len(events) > 0 && events[0].BootTime < from+span {
			batch.Sockets, events = append(batch.Sockets, events[0]), events[1:]
		}
		err = w.Append(batch)
		if err := errors.Join(err, w.Close(store.Gap{From: from + span, Cause: segment.CauseStopped}, nil)); err != nil {
			return err
		}
	}
	return nil
}

// plainConnections are four connects: of curl in an ssh session over IPv4 and
// IPv6, of the shell to a UNIX socket, and of a process with hostile names.
func plainConnections() []store.Connection {
	systemd := process(nil, 1, "systemd", "/usr/lib/systemd/systemd", "/sbin/init")
	sshd := process(systemd, 812, "sshd", "/usr/sbin/sshd", "sshd: alice@pts/0")
	bash := process(sshd, 901, "bash", "/usr/bin/bash", "-bash")
	curl := process(bash, 950, "curl", "/usr/bin/curl", "curl", "-H", "X-Note: two words", "https://example.org/")
	evil := process(bash, 966, "evil\x1b[0m", "/tmp/"+hostileName, hostileName, "--flag")

	tcp := &store.Shape{SocketFamily: 2, Type: 1, Protocol: 6, Via: "connect", AddressSource: "kernel", Backend: "cgroup", HookErrno: store.Unknown, Addrlen: 16}
	refused, unix := *tcp, *tcp
	refused.SocketFamily, refused.Errno, refused.Addrlen = 10, 111, 28
	unix.SocketFamily, unix.Protocol, unix.Addrlen = 1, 0, 20

	web := &store.Endpoint{Family: 2, Address: "203.0.113.10", Port: 443, Raw: []byte{2, 0, 1, 187, 203, 0, 113, 10}}
	v6 := &store.Endpoint{Family: 10, Address: "2001:db8::1", Port: 8443, Raw: []byte{10, 0, 32, 251}}
	sock := &store.Endpoint{Family: 1, Address: "/run/docker.sock", Port: -1, Raw: append([]byte{1, 0}, "/run/docker.sock"...)}
	bad := &store.Endpoint{Family: 1, Address: escape.Bytes([]byte("@" + hostileName)), Port: -1, Raw: []byte{1, 0, 0, 27}}

	at := func(seconds float64) uint64 { return fixtureBoot + uint64(seconds*float64(time.Second)) }
	return []store.Connection{
		{BootTime: at(1.5), Task: task(curl), Remote: web, Shape: tcp, FD: 5, Cookie: 11},
		{BootTime: at(2.25), Task: task(curl), Remote: v6, Shape: &refused, FD: 6, Cookie: 12},
		{BootTime: at(20), Task: task(bash), Remote: sock, Shape: &unix, FD: 3, Cookie: 13},
		{BootTime: at(30), LastBootTime: at(31), Count: 3, Task: task(evil), Remote: bad, Shape: &unix, FD: -1},
	}
}

// manyConnections are n connects of one process, a millisecond apart.
func manyConnections(n int) []store.Connection {
	scan := process(process(nil, 1, "systemd", "/usr/lib/systemd/systemd", "/sbin/init"), 2000, "scan", "/usr/bin/scan", "scan")
	shape := &store.Shape{SocketFamily: 2, Type: 1, Protocol: 6, Via: "connect", AddressSource: "kernel", Backend: "cgroup", HookErrno: store.Unknown, Errno: 115, Addrlen: 16}
	who := task(scan)
	var list []store.Connection
	for i := range n {
		to := &store.Endpoint{Family: 2, Address: fmt.Sprintf("10.0.%d.%d", i/250, i%250+1), Port: 22, Raw: []byte{2, 0, 0, 22, 10, 0, byte(i / 250), byte(i%250 + 1)}}
		list = append(list, store.Connection{BootTime: fixtureBoot + uint64(i+1)*uint64(time.Millisecond), Task: who, Remote: to, Shape: shape, FD: 3})
	}
	return list
}

func process(parent *store.Process, pid uint32, comm, exe string, argv ...string) *store.Process {
	p := &store.Process{
		Key: store.ProcessKey{Tgid: pid, StartBoot: uint64(pid) * uint64(time.Second/10), Exec: 1}, Parent: parent, PidInNS: pid,
		Comm: comm, Exe: exe, Cwd: "/root", Argv: argv, UID: 1000, GID: 1000, EUID: 1000, User: "alice", LoginUID: 1000, SessionID: 4,
		Cgroup: "/user.slice", ExecBoot: uint64(pid) * uint64(time.Second/10), Source: store.SourceExec,
	}
	if parent != nil {
		p.PPID, p.ParentKey = parent.Key.Tgid, parent.Key
	}
	return p
}

func task(p *store.Process) *store.Task {
	return &store.Task{
		Process: p, Tid: p.Key.Tgid, Comm: p.Comm, UID: p.UID, GID: p.GID, EUID: p.EUID, User: p.User,
		LoginUID: p.LoginUID, SessionID: p.SessionID, NetNS: 4026531840, Cgroup: p.Cgroup,
	}
}
