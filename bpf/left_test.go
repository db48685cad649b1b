package bpf

import (
	"encoding/binary"
	"errors"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A pulse connects one UDP socket again and again without a pause to speak of, to an address that is the connect's number: what is
// hardest to tell apart when two programs see it.
type pulse struct {
	first byte // of the address
	n     atomic.Uint32
	quit  chan struct{}
	done  chan struct{}
}

func startPulse(t *testing.T, first byte) *pulse {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	p := &pulse{first: first, quit: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(p.done)
		defer unix.Close(fd)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		for n := p.n.Add(1); ; n = p.n.Add(1) {
			select {
			case <-p.quit:
				return
			default:
			}
			to := unix.SockaddrInet4{Port: 4322, Addr: [4]byte{127, first, byte(n >> 8), byte(n)}}
			if err := unix.Connect(fd, &to); err != nil && n&0xff != 0xff && n&0xffff != 0 {
				t.Errorf("connect %d: %v", n, err)
				return
			}
			time.Sleep(200 * time.Microsecond)
		}
	}()
	return p
}

// stop returns the number of the last connect that was made.
func (p *pulse) stop() uint32 {
	close(p.quit)
	<-p.done
	return p.n.Load() - 1
}

// seen counts how often each number of a pulse was told.
type seen map[uint32]int

func (s seen) note(c *Connect, first byte) {
	if len(c.Remote) >= 8 && binary.BigEndian.Uint16(c.Remote[2:]) == 4322 && c.Remote[4] == 127 && c.Remote[5] == first {
		s[uint32(c.Remote[6])<<8|uint32(c.Remote[7])]++
	}
}

// readAll reads connects until none is left, and returns how many there were.
func readAll(t *testing.T, c *Capture, s seen, first byte) (n uint64) {
	t.Helper()
	var rec Connect
	for {
		err := c.ReadConnect(time.Now(), &rec)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return n
		}
		if err != nil {
			t.Fatal(err)
		}
		n++
		s.note(&rec, first)
	}
}

// readRest reads what else there is, as a recorder does.
func readRest(t *testing.T, c *Capture) {
	t.Helper()
	var (
		p Process
		o Outcome
		e Connect
		a Answer
	)
	for _, read := range []func() (bool, error){
		func() (bool, error) { return c.ReadProcess(&p) }, func() (bool, error) { return c.ReadOutcome(&o) },
		func() (bool, error) { return c.ReadEvent(&e) }, func() (bool, error) { return c.ReadAnswer(&a) },
		func() (bool, error) { return false, c.Sends(false, func(*SendCount) {}) },
	} {
		for ok := true; ok; {
			var err error
			if ok, err = read(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// handOver keeps how far a capture was read, which is so many connects, as a batch that reaches the tape does.
func handOver(t *testing.T, c *Capture, read uint64) uint64 {
	t.Helper()
	counters, err := c.Counters()
	if err != nil {
		t.Fatal(err)
	}
	counters.Sent = read
	h := Handover{Counters: counters, Time: 1}
	h.Connects, h.Outcomes, h.Events = c.Marks()
	number, err := c.Handover(&h)
	if err != nil {
		t.Fatal(err)
	}
	c.Written(&h)
	return number
}

// wantOnce wants each number from one to another once.
func (s seen) wantOnce(t *testing.T, from, to uint32) {
	t.Helper()
	missing, twice := 0, 0
	for n := from; n <= to; n++ {
		switch s[n&0xffff] {
		case 0:
			missing++
		case 1:
		default:
			twice++
		}
	}
	if t.Logf("%d connects", to-from+1); missing+twice > 0 {
		t.Errorf("%d are missing and %d there twice", missing, twice)
	}
}

// Programs of another version, or of other settings, replace those that are pinned without a hole: each connect is told once, whether
// the old ones saw it, the new ones, or both. What is left pinned when all is read is the new set alone.
func TestUpgradeLosesNothing(t *testing.T) {
	for _, b := range Backends() {
		t.Run(string(b), func(t *testing.T) {
			dir := pinDir(t)
			o := Options{Pin: dir, Backend: b, Events: Events{Accept: true, Listen: true}}
			c := openPinnedTo(t, o)
			p, s := startPulse(t, 9), seen{}
			from := p.n.Load() + 2
			for _, ring := range []uint32{1 << 20, 8 << 20} { // another version, and back
				time.Sleep(50 * time.Millisecond)
				read := readAll(t, c, s, 9)
				readRest(t, c)
				number := handOver(t, c, read)
				c.Close() // what comes from here on the next one finds
				time.Sleep(50 * time.Millisecond)
				o.RingBytes, o.Handover = ring, number
				c = openPinnedTo(t, o)
				if c.Taken() == nil || c.Taken().Lost != 0 || c.Doubt() != "" {
					t.Fatalf("taken over: %+v, doubt: %q", c.Taken(), c.Doubt())
				}
			}
			time.Sleep(20 * time.Millisecond)
			last := p.stop()
			n := readAll(t, c, s, 9)
			readRest(t, c)
			s.wantOnce(t, from, last)
			wantCounted(t, c, n)
			handOver(t, c, n)
			wantSets(t, c)
		})
	}
}

// wantCounted wants the counters to say that n connects were sent, which were read, and those that others make meanwhile. A program counts
// a record when it is in the ring.
func wantCounted(t *testing.T, c *Capture, n uint64) {
	t.Helper()
	var counters Counters
	for range 100 {
		var err error
		if counters, err = c.Counters(); err != nil {
			t.Fatal(err)
		}
		if n += readAll(t, c, seen{}, 0); counters.Sent == n && counters.LostRing == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%d connects were read; counters: %+v", n, counters)
}

// wantSets wants no set of pins but that of the capture.
func wantSets(t *testing.T, c *Capture) {
	t.Helper()
	sets, err := os.ReadDir(c.pins.dir.Name())
	if err != nil || len(sets) != 1 || sets[0].Name() != c.pins.set {
		t.Errorf("there are %v, want %s alone: %v", sets, c.pins.set, err)
	}
}

// What programs of another version left in a layout that nobody here knows is counted.
func TestUnreadableRingsAreCounted(t *testing.T) {
	dir := pinDir(t)
	first := openPinnedTo(t, Options{Pin: dir})
	number := handOver(t, first, readAll(t, first, seen{}, 0))
	spoilLayouts(t, first)
	number = first.pins.name<<seqBits | number&seqMask
	connectSome(t, 7)
	first.Close()
	second := openPinnedTo(t, Options{Pin: dir, Handover: number, RingBytes: 1 << 20})
	taken := second.Taken()
	if taken == nil || second.Doubt() != "" {
		t.Fatalf("taken over: %+v, doubt: %q", taken, second.Doubt())
	}
	if taken.Unread < 7 || taken.UnreadBytes < 7*LeastRecord {
		t.Errorf("%d connects and %d bytes cannot be read, want 7 and more", taken.Unread, taken.UnreadBytes)
	}
	some := connectSome(t, 3)
	if got := connectsOf(t, second, some); len(got) != 3 {
		t.Errorf("the new one sees %d connects of 3", len(got))
	}
	readRest(t, second)
	handOver(t, second, 0) // the old set is let go of when this is on the tape
	handOver(t, second, 0)
	wantSets(t, second)
}

// spoilLayouts has the manifest of a set say that nobody knows its layouts.
func spoilLayouts(t *testing.T, c *Capture) {
	t.Helper()
	c.layouts = map[string]string{"connects": "of the year 2040"}
	before := c.pins.path()
	if err := c.pins.writeManifest(c); err != nil {
		t.Fatal(err)
	}
	c.pins.set = setName(c.pins.name)
	rename(t, before, c.pins.path())
}

// A connect that hangs while its programs are replaced is told once, and so it stays when it returns.
func TestUpgradeKeepsHangingConnects(t *testing.T) {
	dir := pinDir(t)
	first := openPinnedTo(t, Options{Pin: dir})
	to := &unix.SockaddrUnix{Name: "@conntape hangs"}
	listener, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(listener)
	if err := errors.Join(unix.Bind(listener, to), unix.Listen(listener, 0)); err != nil {
		t.Fatal(err)
	}
	var cookies []uint64
	returned := make(chan error, 2)
	for range 2 { // the second finds no room
		fd, cookie := openSocket(t, unix.AF_UNIX, unix.SOCK_STREAM, 0)
		cookies = append(cookies, cookie)
		go func() { returned <- unix.Connect(fd, to) }()
		time.Sleep(50 * time.Millisecond)
	}
	number := handOver(t, first, 0)
	first.Close()
	second := openPinnedTo(t, Options{Pin: dir, Handover: number, RingBytes: 1 << 20})
	if got := connectsOf(t, second, cookies); len(got) != 2 {
		t.Errorf("%d connects are told while one hangs, want both", len(got))
	}
	peer, _, err := unix.Accept(listener)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(peer)
	if err := errors.Join(<-returned, <-returned); err != nil {
		t.Fatal(err)
	}
	if got := connectsOf(t, second, cookies); len(got) > 0 {
		t.Errorf("it is told again when it returns: %d", len(got))
	}
}
