package recorder

import (
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/bpf"
	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/store/segment"
)

// script is a capture that plays what a test tells it, in the order in which a kernel could. It counts as the kernel
// does.
type script struct {
	mu        sync.Mutex
	news      chan struct{}
	connects  []bpf.Connect
	processes []bpf.Process
	outcomes  []bpf.Outcome
	events    []bpf.Connect
	sends     []bpf.SendCount // of the interval at hand
	sendsDone []bpf.SendCount // of the last one
	answers   []bpf.Answer
	inFlight  map[bpf.ID]bpf.Connect
	open      []bpf.OpenSocket
	found     []bpf.Connect
	framesOn  bool
	alive     []bpf.Process
	walks     int
	onWalk    func() // called while the kernel's list is being read
	counters  bpf.Counters
	losers    []bpf.Loser
	reads     int  // calls of ReadConnect that had to wait
	sleeps    bool // whoever begins an attempt wakes it
	detached  bool // after which nothing is captured
	onDetach  func()
	failure   error
	gone      []string // what Watch has to say, once
	blind     error    // that of Watch
	unseen    bool     // Probe connects, and no hook sees it
	probed    int
	checks    []bpf.Probe
	touches   []bpf.Touch
	endless   bool // each record that is read is followed by another one
}

func newScript() *script {
	return &script{news: make(chan struct{}, 1), inFlight: map[bpf.ID]bpf.Connect{}}
}

func (s *script) Backend() bpf.Backend { return bpf.Cgroup }
func (s *script) BlindSpots() []string { return []string{"nothing that a test could see"} }
func (s *script) Watch() ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	gone := s.gone
	s.gone = nil
	return gone, s.blind
}

// Probe plays connects that the hooks see, and one of which they see nothing if the test says so.
func (s *script) Probe() ([]bpf.Probe, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.probed++
	if s.unseen {
		return []bpf.Probe{{Cookie: 1 << 40, What: "a connect"}}, nil
	}
	s.counters.Seen, s.counters.Sent = s.counters.Seen+1, s.counters.Sent+1
	cookie := 1<<40 + uint64(s.probed)
	s.connects = append(s.connects, bpf.Connect{Cookie: cookie, BootTime: bootNow()})
	return []bpf.Probe{{Cookie: cookie, What: "a connect"}}, nil
}

func (s *script) Unread() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.connects) * bpf.LeastRecord
}

func (s *script) RingHolders() []string { return []string{"pid 7 (thief)"} }

func (s *script) Touched() ([]bpf.Touch, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	touches := s.touches
	s.touches = nil
	return touches, nil
}

func (s *script) Checks() []bpf.Probe { return s.checks }

func (s *script) Close() error { return nil }

func (s *script) Detach() error {
	if s.onDetach != nil {
		s.onDetach()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.detached = true
	return nil
}

func (s *script) Snapshot(fn func(*bpf.Process)) error {
	s.mu.Lock()
	s.walks++
	alive, onWalk := append([]bpf.Process(nil), s.alive...), s.onWalk
	s.mu.Unlock()
	for i := range alive {
		fn(&alive[i])
	}
	if onWalk != nil {
		onWalk()
	}
	return nil
}

func (s *script) ReadConnect(deadline time.Time, rec *bpf.Connect) error {
	for waited := false; ; waited = true {
		s.mu.Lock()
		if len(s.connects) > 0 {
			*rec = s.connects[0]
			s.connects = s.connects[1:]
			if s.endless {
				s.counters.Seen, s.counters.Sent = s.counters.Seen+1, s.counters.Sent+1
				s.connects = append(s.connects, *rec)
			}
			s.mu.Unlock()
			return nil
		}
		err := s.failure
		if !waited {
			s.reads++
		}
		s.mu.Unlock()
		if err != nil {
			return err
		}
		wait := time.Until(deadline)
		if waited || wait <= 0 {
			return os.ErrDeadlineExceeded
		}
		select {
		case <-s.news:
		case <-time.After(wait):
		}
	}
}

func (s *script) Sleep() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sleeps = true
	return nil
}

func (s *script) Interrupt() { s.wake() }

func (s *script) ReadOutcome(o *bpf.Outcome) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.outcomes) == 0 {
		return false, nil
	}
	*o = s.outcomes[0]
	s.outcomes = s.outcomes[1:]
	return true, nil
}

func (s *script) ReadEvent(c *bpf.Connect) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.events) == 0 {
		return false, nil
	}
	*c = s.events[0]
	s.events = s.events[1:]
	return true, nil
}

func (s *script) ReadProcess(rec *bpf.Process) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.processes) == 0 {
		return false, nil
	}
	*rec = s.processes[0]
	s.processes = s.processes[1:]
	return true, nil
}

func (s *script) OpenSockets(_ bool, fn func(*bpf.OpenSocket)) error {
	s.mu.Lock()
	open := slices.Clone(s.open)
	s.mu.Unlock()
	for i := range open {
		fn(&open[i])
	}
	return nil
}

func (s *script) FoundSockets(fn func(*bpf.Connect)) error {
	s.mu.Lock()
	found := slices.Clone(s.found)
	s.mu.Unlock()
	for i := range found {
		fn(&found[i])
	}
	return nil
}

func (s *script) WatchFrames(open bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.framesOn = open
	return nil
}

func (s *script) watchesFrames() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.framesOn
}

func (s *script) ReadAnswer(a *bpf.Answer) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.answers) == 0 {
		return false, nil
	}
	*a = s.answers[0]
	s.answers = s.answers[1:]
	return true, nil
}

func (s *script) NextSends() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sendsDone, s.sends = s.sends, nil
	return nil
}

func (s *script) Sends(all bool, fn func(*bpf.SendCount)) error {
	s.mu.Lock()
	counts := s.sendsDone
	if all {
		counts = s.sends
	}
	s.mu.Unlock()
	for i := range counts {
		one := counts[i]
		fn(&one)
	}
	return nil
}

// send plays sends that the kernel counts.
func (s *script) send(c bpf.SendCount) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counters.SendCounted += c.Count
	s.sends = append(s.sends, c)
}

func (s *script) InFlight(fn func(*bpf.Connect)) error {
	s.mu.Lock()
	var list []bpf.Connect
	for _, c := range s.inFlight {
		list = append(list, c)
	}
	s.mu.Unlock()
	for i := range list {
		fn(&list[i])
	}
	return nil
}

func (s *script) Counters() (bpf.Counters, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counters, nil
}

func (s *script) Losers(fn func(*bpf.Loser)) error {
	s.mu.Lock()
	list := s.losers
	s.losers = nil
	s.mu.Unlock()
	for i := range list {
		fn(&list[i])
	}
	return nil
}

// connect plays an attempt that has returned.
func (s *script) connect(list ...bpf.Connect) {
	s.mu.Lock()
	for _, c := range list {
		s.counters.Seen++
		s.counters.Sent++
		s.connects = append(s.connects, c)
	}
	s.mu.Unlock()
	s.wake()
}

func (s *script) wake() {
	select {
	case s.news <- struct{}{}:
	default:
	}
}

// begin plays an attempt that stays in flight, end its return, endUnheard a return whose record finds the ring full.
func (s *script) begin(c bpf.Connect) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counters.Seen++
	c.Errno = bpf.Unknown
	s.inFlight[c.ID()] = c
	if s.sleeps {
		s.sleeps = false
		s.wake()
	}
}

func (s *script) end(c bpf.Connect) {
	s.mu.Lock()
	delete(s.inFlight, c.ID())
	s.counters.Sent++
	s.connects = append(s.connects, c)
	s.mu.Unlock()
	s.wake()
}

func (s *script) endUnheard(c bpf.Connect) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.inFlight, c.ID())
	s.counters.LostRing++
}

// steal plays a second reader that takes the oldest records of the ring, or of those that come next.
func (s *script) steal(n int) {
	for taken := 0; taken < n; {
		s.mu.Lock()
		if len(s.connects) > 0 {
			s.connects = s.connects[1:]
		} else { // one that came and went
			s.counters.Seen++
			s.counters.Sent++
		}
		taken++
		s.mu.Unlock()
	}
}

// endStolen plays a return whose record somebody else reads.
func (s *script) endStolen(c bpf.Connect) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.inFlight, c.ID())
	s.counters.Sent++
}

// lose plays attempts whose records find the ring full.
func (s *script) lose(n uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counters.Seen += n
	s.counters.LostRing += n
}

// process plays process records.
func (s *script) process(list ...bpf.Process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counters.ProcessSeen += uint64(len(list))
	s.counters.ProcessSent += uint64(len(list))
	s.processes = append(s.processes, list...)
}

// loseProcess plays a process record that finds its ring full.
func (s *script) loseProcess() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counters.ProcessSeen++
	s.counters.ProcessLost++
}

func (s *script) setAlive(list ...bpf.Process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.alive = list
}

// memory is a sink that keeps what it is given, and can be made to stall or fail.
type memory struct {
	moved    error // that of CheckPlace
	shares   []byte
	oldest   time.Time
	mu       sync.Mutex
	batches  []store.Batch
	rows     []store.Connection // updates applied
	gaps     []store.Gap
	files    []*store.File
	scripts  []store.Script
	counters segment.Counters
	stop     *store.Gap
	gate     chan struct{} // when set, Append waits until it is closed
	entered  chan struct{} // told when Append begins
	failures int           // of the next calls; negative: for good
}

var errDisk = errors.New("disk on fire")

func newMemory() *memory { return &memory{entered: make(chan struct{}, 1000)} }

func (m *memory) KeepShares(text []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.shares = text
	return nil
}

func (m *memory) CheckPlace() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.moved
}

func (m *memory) OldestKept() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.oldest
}

func (m *memory) Append(b store.Batch) error {
	m.mu.Lock()
	gate := m.gate
	m.mu.Unlock()
	m.entered <- struct{}{}
	if gate != nil {
		<-gate
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failures != 0 {
		m.failures--
		return errDisk
	}
	m.batches = append(m.batches, b)
	m.files, m.scripts = append(m.files, b.Files...), append(m.scripts, b.Scripts...)
	for _, row := range b.Connections {
		if !row.Update {
			m.rows = append(m.rows, row)
			continue
		}
		for i := range m.rows {
			if r := m.rows[i]; r.BootTime == row.BootTime && r.Cookie == row.Cookie && r.Remote == row.Remote && r.Task.Tid == row.Task.Tid {
				m.rows[i].Shape = row.Shape
			}
		}
	}
	for _, g := range b.Gaps {
		m.putGap(g)
	}
	if b.Counters != nil {
		m.counters = b.Counters
	}
	return nil
}

func (m *memory) putGap(g store.Gap) {
	for i := range m.gaps {
		if m.gaps[i].From == g.From && m.gaps[i].Cause == g.Cause {
			m.gaps[i] = g
			return
		}
	}
	m.gaps = append(m.gaps, g)
}

func (m *memory) Close(stop store.Gap, c segment.Counters) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stop, m.counters = &stop, c
	return nil
}

func (m *memory) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.rows)
}

// Records for tests. Times are boottime ns of the running host, so that ages come out right.

func key(tgid uint32, start uint64, exec uint32) bpf.ProcessKey {
	return bpf.ProcessKey{Tgid: tgid, Start: start, Exec: exec}
}

func ipv4(a, b, c, d byte, port uint16) []byte {
	raw := binary.NativeEndian.AppendUint16(nil, unix.AF_INET)
	raw = binary.BigEndian.AppendUint16(raw, port)
	return append(raw, a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0)
}

func connectBy(k bpf.ProcessKey, boot uint64) bpf.Connect {
	c := bpf.Connect{
		BootTime: boot, Key: k, Tid: k.Tgid, Cookie: boot, FD: 3, Addrlen: 16,
		LoginUID: bpf.Unset, SessionID: bpf.Unset, HookErrno: bpf.Unknown,
		SocketFamily: unix.AF_INET, Type: unix.SOCK_STREAM, Protocol: unix.IPPROTO_TCP,
		Remote: ipv4(10, 0, 0, 1, 80),
	}
	copy(c.Comm[:], "comm")
	return c
}

func execOf(k, parent bpf.ProcessKey, boot uint64, exe string, argv string) bpf.Process {
	return bpf.Process{
		Kind: bpf.KindExec, BootTime: boot, Key: k, Parent: parent, PidInNS: k.Tgid, Comm: "comm", Exe: exe, Cwd: "/",
		Argv: []byte(argv), ArgvTotal: uint32(len(argv)), LoginUID: bpf.Unset, SessionID: bpf.Unset,
	}
}

func forkOf(child, parent bpf.ProcessKey, boot uint64) bpf.Process {
	return bpf.Process{
		Kind: bpf.KindFork, BootTime: boot, Key: child, Parent: parent, PidInNS: child.Tgid, Comm: "comm",
		LoginUID: bpf.Unset, SessionID: bpf.Unset,
	}
}

func exitOf(k bpf.ProcessKey, boot uint64) bpf.Process {
	return bpf.Process{Kind: bpf.KindExit, BootTime: boot, Key: k}
}

func aliveOf(k, parent bpf.ProcessKey, exe string) bpf.Process {
	p := execOf(k, parent, 0, exe, "")
	p.Kind, p.ExeIno = bpf.KindSnapshot, 1
	return p
}

// quick is a configuration whose intervals a test can wait for.
func quick() config {
	return config{
		batchAge: 20 * time.Millisecond, batchRows: 1000, buffer: 16 << 20, tape: newTapeShares(0, new(atomic.Bool)), tick: 10 * time.Millisecond,
		flightAge: 30 * time.Millisecond, heartbeat: time.Hour, refreshEvery: time.Hour, sendsEvery: time.Hour, lookEvery: time.Hour, probeEvery: time.Hour, sleepAfter: time.Hour, stopWithin: time.Minute, retryDelays: []time.Duration{time.Millisecond, time.Millisecond},
	}
}
