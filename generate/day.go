package generate

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/store"
)

// day is what a recorder tells of a host's connects beyond how connect(2) returned: what became of them, by which name their addresses were
// found, who came in, and what the programs are. It has random numbers of its own, so that the stream is the same without it.
type day struct {
	*Stream
	random  *rand.Rand
	boot    int64 // wall clock at boot, ns since the epoch
	sshd    *store.Process
	own     map[netip.AddrPort]*store.Endpoint  // addresses of this host and those of its clients
	named   map[*store.Endpoint]*store.Endpoint // with the name that they were found by
	tasks   map[*store.Process]*store.Task      // of servers
	asked   map[question]uint64                 // when it was answered last
	byPath  map[string]*store.File
	seen    map[*store.Process]bool
	sockets []store.SocketEvent
	files   []*store.File

	outcomes, events, answers uint64
}

// A question is a name that a process looks up.
type question struct {
	process *store.Process
	remote  *store.Endpoint
}

func newDay(s *Stream, begin store.Anchor) *day {
	d := &day{
		Stream: s, random: rand.New(rand.NewPCG(s.o.Seed, 0x64617920)), boot: begin.Real - int64(begin.Boot),
		own: map[netip.AddrPort]*store.Endpoint{}, named: map[*store.Endpoint]*store.Endpoint{}, tasks: map[*store.Process]*store.Task{},
		asked: map[question]uint64{}, byPath: map[string]*store.File{}, seen: map[*store.Process]bool{},
	}
	was := s.host.random
	s.host.random = d.random
	d.sshd = s.host.execution("/usr/sbin/sshd", s.host.init, s.o.Begin/2)
	s.host.random = was
	p := d.sshd
	p.Argv, p.Cwd, p.Container, p.Unit, p.Cgroup = []string{"sshd: /usr/sbin/sshd -D [listener]"}, "/", "", "ssh.service", "/system.slice/ssh.service"
	p.UID, p.GID, p.EUID, p.User, p.LoginUID, p.SessionID = 0, 0, 0, "root", -1, -1
	return d
}

// Addresses of the host, its resolver and its clients.
const (
	hostAddress  = "10.0.0.12"
	hostAddress6 = "2001:db8::12"
	resolver     = "10.0.0.2"
)

// live completes one connect.
func (d *day) live(row *store.Connection) {
	d.describe(row.Task.Process)
	if row.Remote.Family == unix.AF_UNIX {
		return
	}
	d.name(row)
	if row.Shape.Protocol == unix.IPPROTO_TCP {
		d.conclude(row)
	}
}

// describe gives a process and its ancestors the files that they execute.
func (d *day) describe(p *store.Process) {
	for ; p != nil && !d.seen[p]; p = p.Parent {
		d.seen[p] = true
		f := d.byPath[p.Exe]
		if f == nil {
			f = &store.File{Device: p.ExeDev, Inode: p.ExeIno, Size: 20_000 + d.random.Uint64N(4_000_000), Ctime: uint64(d.boot) - uint64(90*24*time.Hour)}
			if strings.HasPrefix(p.Exe, storyHidden) { // it was put there shortly before
				f.Ctime = uint64(d.boot) + p.ExecBoot - uint64(10*time.Second)
			}
			text := []byte("demonstration: " + p.Exe)
			f.SetDigests(&store.Digests{Known: true, SHA256: sha256.Sum256(text), SHA1: sha1.Sum(text), MD5: md5.Sum(text), Source: "exec"})
			d.byPath[p.Exe] = f
			d.files = append(d.files, f)
		}
		p.ExeFile, p.ExeDev, p.ExeIno = f, f.Device, f.Inode
	}
}

// lookedUp is how long an answer of the resolver is used.
const lookedUp = 4 * time.Hour

// name gives a public address the name by which its process found it, and has it looked up.
func (d *day) name(row *store.Connection) {
	name := d.nameOf(row.Remote)
	if name == "" {
		return
	}
	q := question{row.Task.Process, row.Remote}
	e := d.named[row.Remote]
	if e == nil {
		copied := *row.Remote
		copied.Names, copied.NameSource = name, store.NameDNS
		e = &copied
		d.named[row.Remote] = e
	}
	row.Remote = e
	if last, ok := d.asked[q]; ok && row.BootTime < last+uint64(lookedUp) {
		return
	}
	at := max(d.o.Begin, row.BootTime-uint64(time.Millisecond)-d.random.Uint64N(uint64(20*time.Millisecond)))
	d.asked[q] = at
	kind := uint32(1) // A
	if e.Family == unix.AF_INET6 {
		kind = 28 // AAAA
	}
	d.answers++
	d.sockets = append(d.sockets, store.SocketEvent{
		BootTime: at, Window: at, Task: row.Task, Remote: d.address(resolver, 53), Count: 1, NetNS: row.Task.NetNS,
		Shape:  d.host.shape(store.Shape{SocketFamily: unix.AF_INET, Type: unix.SOCK_DGRAM, Protocol: unix.IPPROTO_UDP, Via: "lookup", AddressSource: "kernel", Backend: "fexit", HookErrno: store.Unknown, Errno: store.Unknown}),
		Lookup: &store.Lookup{Name: name, Type: kind, Answers: e.Address, TTL: int64(lookedUp / time.Second)},
	})
}

// nameOf returns the name of a public address; the attacker's shell and some programs are given addresses.
func (d *day) nameOf(e *store.Endpoint) string {
	switch e.Address {
	case storyBeacon:
		return "cdn-sync.example"
	case storyDrop:
		return "drop.example"
	case storyControl:
		return ""
	}
	ip := netip.MustParseAddr(e.Address)
	sum := sha1.Sum([]byte(e.Address))
	if ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast() || sum[0]%4 == 0 {
		return ""
	}
	what := []string{"api", "cdn", "mirror", "static", "auth", "img"}[sum[1]%6]
	return fmt.Sprintf("%s-%d.example.%s", what, sum[2], []string{"com", "net", "org"}[sum[3]%3])
}

// address returns the endpoint of an address and port that is not connected to.
func (d *day) address(text string, port uint16) *store.Endpoint {
	at := netip.AddrPortFrom(netip.MustParseAddr(text), port)
	if d.own[at] == nil {
		d.own[at] = inet(at.Addr(), port)
	}
	return d.own[at]
}

// source returns the address that connects to another come from.
func (d *day) source(to *store.Endpoint) *store.Endpoint {
	switch {
	case netip.MustParseAddr(to.Address).IsLoopback():
		return d.address(to.Address, 0)
	case to.Family == unix.AF_INET6:
		return d.address(hostAddress6, 0)
	}
	return d.address(hostAddress, 0)
}

// conclude gives a TCP connection its final outcome. A few servers are down for good; the story's scan has outcomes of its own.
func (d *day) conclude(row *store.Connection) {
	errno := unix.Errno(row.Shape.Errno)
	final := store.FinalEstablished
	switch down := d.downs(row.Remote); {
	case row.Task.Process.Exe == storyHidden+"/nmap":
		if errno != 0 {
			final = store.Final(errno)
		}
	case down != 0 && d.random.IntN(10) > 0:
		if final = store.Final(down); errno != unix.EINPROGRESS {
			errno = down
		}
	case errno != 0:
		errno = unix.EINPROGRESS
		if d.random.IntN(400) == 0 && !netip.MustParseAddr(row.Remote.Address).IsLoopback() {
			final = store.FinalAborted
		}
	}
	shape := *row.Shape
	shape.Errno, shape.Final = int32(errno), final
	row.Shape = d.host.shape(shape)
	rtt := d.roundTrip(row.Remote)
	o := &store.Outcome{
		Local: d.source(row.Remote), LocalPort: uint16(32768 + d.random.IntN(28232)), Established: store.Unmeasured,
		Sent: store.Unmeasured, Received: store.Unmeasured, RTT: store.Unmeasured,
	}
	switch final {
	case store.FinalEstablished:
		t := d.traffic(row)
		o.Established, o.RTT = int64(rtt+rtt/20), rtt.Microseconds()
		o.Sent, o.Received, o.Duration, o.ClosedBy = t.sent, t.received, int64(max(t.lasts, 2*rtt)), store.ClosedByLocal
		if d.random.IntN(3) == 0 {
			o.ClosedBy = store.ClosedByRemote
		}
		if d.random.IntN(30) == 0 {
			o.Retransmits = int64(1 + d.random.IntN(3))
		}
	case store.Final(unix.ETIMEDOUT): // tcp_syn_retries is 6
		o.Duration, o.Retransmits = int64(127*time.Second+rtt), 6
	case store.Final(unix.EHOSTUNREACH): // nobody answers by ARP
		o.Duration, o.Retransmits = int64(3072*time.Millisecond+rtt), 1
	case store.FinalAborted:
		o.Duration, o.Retransmits = int64(5*time.Second+rtt), 2
	default:
		o.Duration = int64(rtt)
	}
	row.Outcome = o
	d.outcomes++
}

// ofStory are the hosts that the story moves on to.
var ofStory = netip.MustParsePrefix("10.20.0.0/24")

// downs returns the error of a server that is down, 0 if it is not.
func (d *day) downs(e *store.Endpoint) unix.Errno {
	sum := sha1.Sum([]byte(e.Address))
	ip := netip.MustParseAddr(e.Address)
	if sum[4] > 12 || ip.IsLoopback() || ofStory.Contains(ip) || e.Address == storyDrop || e.Address == storyBeacon || e.Address == storyControl {
		return 0
	}
	return []unix.Errno{unix.ECONNREFUSED, unix.ETIMEDOUT, unix.EHOSTUNREACH}[sum[5]%3]
}

// roundTrip returns how long an answer takes.
func (d *day) roundTrip(to *store.Endpoint) time.Duration {
	ip := netip.MustParseAddr(to.Address)
	most := 80 * time.Millisecond
	switch {
	case ip.IsLoopback():
		most = 60 * time.Microsecond
	case ip.IsPrivate(), ip.IsLinkLocalUnicast():
		most = 800 * time.Microsecond
	}
	return most/5 + time.Duration(d.random.Int64N(int64(most)))
}

// traffic is what went over a connection.
type traffic struct {
	sent, received int64 // bytes
	lasts          time.Duration
}

// traffic makes up what went over a connection: the intrusion's is part of its story.
func (d *day) traffic(row *store.Connection) traffic {
	switch exe := row.Task.Process.Exe; {
	case row.Remote.Address == storyBeacon:
		return traffic{d.about(312, 0.04), d.about(118, 0.05), d.lasting(700 * time.Millisecond)}
	case row.Remote.Address == storyControl && row.Remote.Port == 4444: // the shell: whoever came in typed for hours
		return traffic{d.about(61_000, 0), d.about(9_800, 0), 5*time.Hour + 3*time.Minute}
	case row.Remote.Address == storyControl:
		return traffic{92, 1_482_752, 1400 * time.Millisecond}
	case row.Remote.Address == storyDrop:
		return traffic{d.about(3_900_000, 0.3), d.about(2_300, 0.2), d.lasting(14 * time.Second)}
	case row.Remote.Address == "169.254.169.254":
		return traffic{148, 1_291, 4 * time.Millisecond}
	case strings.HasSuffix(exe, "/nmap"):
		return traffic{}
	case exe == "/usr/bin/ssh":
		return traffic{d.about(42_000, 0.5), d.about(130_000, 0.5), d.lasting(19 * time.Minute)}
	case strings.HasSuffix(exe, "/pg_dump"):
		return traffic{3_412, d.about(487_000_000, 0), 11*time.Minute + 20*time.Second}
	case exe == "/usr/bin/healthcheck":
		return traffic{86, 118, d.lasting(2 * time.Millisecond)}
	case exe == "/usr/bin/node_exporter":
		return traffic{211, d.about(58_000, 0.02), d.lasting(40 * time.Millisecond)}
	case row.Remote.Port == 9000:
		return traffic{d.about(1_900, 0.5), d.about(24_000, 0.6), d.lasting(90 * time.Millisecond)}
	case row.Remote.Port == 443, row.Remote.Port == 80, row.Remote.Port == 8443, row.Remote.Port == 8080:
		return traffic{d.mostly(1_800), d.mostly(40_000), d.lasting(3 * time.Second)}
	}
	return traffic{d.mostly(6_000), d.mostly(9_000), d.lasting(2 * time.Minute)} // databases, caches, mail
}

// about returns a number of bytes near n.
func (d *day) about(n, spread float64) int64 {
	return int64(n * (1 + spread*(2*d.random.Float64()-1)))
}

// mostly returns a number of bytes, mostly near n and sometimes much larger.
func (d *day) mostly(n float64) int64 { return int64(n * math.Exp(d.random.NormFloat64())) }

// lasting returns a time, mostly near another.
func (d *day) lasting(about time.Duration) time.Duration {
	return time.Duration(float64(about) * math.Exp(0.5*d.random.NormFloat64()))
}
