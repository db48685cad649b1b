package generate

import (
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/store"
)

// Kind says what was planted.
type Kind string

// Periodic is harmless: cron jobs, time servers, health checks.
const (
	Beacon       Kind = "beacon"
	Scan         Kind = "scan"
	Exfiltration Kind = "exfiltration"
	Periodic     Kind = "periodic"
)

// Planted is something that a query should find, or, if Periodic, should not.
type Planted struct {
	Kind        Kind
	Process     *store.Process
	Remotes     []*store.Endpoint
	First, Last uint64        // ns of CLOCK_BOOTTIME; the stream may end before Last
	Interval    time.Duration // of beacons and periodic traffic
	Jitter      float64       // fraction of the interval, to either side
	Connections int
}

// plantPeriodic adds harmless periodic traffic and returns its number of connections.
func (s *Stream) plantPeriodic() int {
	sum := 0
	for _, p := range []struct {
		exe      string
		to       *store.Endpoint
		interval time.Duration
		jitter   float64
	}{
		{"/usr/sbin/chronyd", inet(netip.MustParseAddr("162.159.200.123"), 123), 1024 * time.Second, 0.01},
		{"/usr/sbin/cron", inet(netip.MustParseAddr("10.0.0.25"), 25), time.Hour, 0},
		{"/usr/bin/healthcheck", inet(netip.MustParseAddr("127.0.0.1"), 8080), 10 * time.Second, 0.002},
		{"/usr/bin/node_exporter", inet(netip.MustParseAddr("10.0.0.9"), 9090), 15 * time.Second, 0.05},
		{"/usr/bin/apt-check", inet(netip.MustParseAddr("151.101.2.132"), 80), 6 * time.Hour, 0.5},
	} {
		sum += s.plantTimer(Periodic, p.exe, p.to, p.interval, p.jitter)
	}
	return sum
}

// plantIntrusion adds a few beacons, two scans and one exfiltration, and returns their number of connections.
func (s *Stream) plantIntrusion() int {
	sum := 0
	for _, b := range []struct {
		exe      string
		address  string
		interval time.Duration
		jitter   float64
	}{
		{"/dev/shm/.x/kworker", "185.220.101.7", time.Minute, 0},
		{"/tmp/.cache/updater", "45.155.205.233", 5 * time.Minute, 0.1},
		{"/usr/lib/systemd/systemd-netd", "91.219.236.18", 15 * time.Minute, 0.3},
		{"/usr/bin/python3", "194.165.16.77", time.Hour, 0.2},
	} {
		sum += s.plantTimer(Beacon, b.exe, inet(netip.MustParseAddr(b.address), 443), b.interval, b.jitter)
	}
	// One port of a whole subnet in two minutes, and a thousand ports of one host in an hour.
	var hosts, services []*store.Endpoint
	for i := range 254 {
		hosts = append(hosts, inet(netip.AddrFrom4([4]byte{10, 9, 8, byte(i + 1)}), 22))
	}
	for i := range 1000 {
		services = append(services, inet(netip.MustParseAddr("10.0.0.5"), uint16(1+i)))
	}
	sum += s.plantScan("/tmp/.cache/nmap", hosts, s.at(0.40), 2*time.Minute)
	sum += s.plantScan("/tmp/.cache/nmap", services, s.at(0.55), time.Hour)
	return sum + s.plantExfiltration("/usr/bin/rclone", s.at(0.8))
}

// at returns the moment at a fraction of the span.
func (s *Stream) at(part float64) uint64 { return s.o.Begin + uint64(part*float64(s.o.Span)) }

// plantTimer adds a process that connects to one endpoint at an interval until the end.
func (s *Stream) plantTimer(kind Kind, exe string, to *store.Endpoint, interval time.Duration, jitter float64) int {
	first := s.o.Begin + uint64(s.random.Int64N(int64(min(interval, s.o.Span))))
	p := s.host.newProcess(&image{path: exe, threads: 1}, first-uint64(time.Second))
	n := 1 + int((s.end()-first)/uint64(interval))
	s.planted = append(s.planted, Planted{kind, p.Process, []*store.Endpoint{to}, first, s.end(), interval, jitter, n})
	due := first // jitter does not add up
	s.add(&event{
		at:   first,
		next: func(uint64) store.Connection { return s.host.connect(p, to) },
		after: func(at uint64) uint64 {
			due += uint64(interval)
			if due >= s.end() {
				return never
			}
			moved := int64((2*s.random.Float64() - 1) * jitter * float64(interval))
			return max(at+1, uint64(int64(due)+moved))
		},
	})
	return n
}

// plantScan adds a process that tries each endpoint once. Few answer.
func (s *Stream) plantScan(exe string, targets []*store.Endpoint, begin uint64, length time.Duration) int {
	p := s.host.newProcess(&image{path: exe, threads: 1}, begin-uint64(time.Second))
	s.planted = append(s.planted, Planted{Scan, p.Process, targets, begin, begin + uint64(length), 0, 0, len(targets)})
	n := 0
	s.add(&event{
		at: begin,
		next: func(uint64) store.Connection {
			to, errno := targets[n], unix.ECONNREFUSED
			if n%50 == 7 {
				errno = unix.EINPROGRESS
			}
			n++
			return s.host.ended(p, to, errno)
		},
		after: func(at uint64) uint64 {
			if n == len(targets) {
				return never
			}
			return at + 1 + uint64(s.random.ExpFloat64()*float64(length)/float64(len(targets)))
		},
	})
	return len(targets)
}

// plantExfiltration adds a process that connects very often, for two hours, to an endpoint that nobody used before.
func (s *Stream) plantExfiltration(exe string, begin uint64) int {
	const connects = 4000
	const length = 2 * time.Hour
	to := inet(netip.MustParseAddr("203.0.113.99"), 443)
	p := s.host.newProcess(&image{path: exe, threads: 4}, begin-uint64(time.Second))
	s.planted = append(s.planted, Planted{Exfiltration, p.Process, []*store.Endpoint{to}, begin, begin + uint64(length), 0, 0, connects})
	n := 0
	s.add(&event{
		at: begin,
		next: func(uint64) store.Connection {
			n++
			return s.host.ended(p, to, unix.EINPROGRESS)
		},
		after: func(at uint64) uint64 {
			if n == connects {
				return never
			}
			return at + 1 + uint64(s.random.ExpFloat64()*float64(length)/connects)
		},
	})
	return connects
}
