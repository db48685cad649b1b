package recorder

import (
	"encoding/binary"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/bpf"
	"github.com/conntape/conntape/store"
)

func unixPath(path string) []byte {
	return append(append(binary.NativeEndian.AppendUint16(nil, unix.AF_UNIX), path...), 0)
}

// TestNamesHaveAShareOfTheSegment: one process makes names without end. Beyond its share they are cut, nobody else's are,
// and with the next segment it begins anew.
func TestNamesHaveAShareOfTheSegment(t *testing.T) {
	src, out := newScript(), newMemory()
	c, begun := quick(), new(atomic.Int64)
	c.names = newNames(namesInTape<<20, begun)
	stop := start(t, src, out, c, Options{})
	now, flood, victim := bootNow(), key(2, 2, 1), key(7, 7, 1)
	src.process(execOf(flood, key(1, 1, 1), now, "/bin/flood", "flood\x00"), execOf(victim, key(1, 1, 1), now, "/bin/victim", "victim\x00"))
	name := func(k bpf.ProcessKey, at uint64, name string) bpf.Connect {
		c := connectBy(k, at)
		c.SocketFamily, c.Remote = unix.AF_UNIX, unixPath(name)
		return c
	}
	const n = 5000
	for i := range uint64(n) {
		src.connect(name(flood, now+i, fmt.Sprintf("/run/%080d", i)))
	}
	src.connect(name(victim, now+n, fmt.Sprintf("/run/%080d", n-1)), name(victim, now+n, "/run/short"))
	waitFor(t, "rows", func() bool { return out.count() == n+2 })
	begun.Add(1)
	src.connect(name(flood, now+n+1, fmt.Sprintf("/run/%080d", n-2)))
	waitFor(t, "a row", func() bool { return out.count() == n+3 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	accounted(t, out)
	var cut uint64
	different := map[string]bool{}
	for _, r := range out.rows[:n] {
		if len(r.Remote.Raw) == 0 {
			cut++
			different[r.Remote.Address] = true
			if !strings.HasPrefix(r.Remote.Address, "/run/00000000000…#") || len(r.Remote.Address) != len("/run/00000000000…#")+16 {
				t.Fatalf("a name is cut to %q", r.Remote.Address)
			}
		}
	}
	if cut < n/4 || cut > n*3/4 || cut != out.counters["names_cut"] || len(different) != int(cut) {
		t.Errorf("%d of %d names are cut, to %d different ones; %d are counted", cut, n, len(different), out.counters["names_cut"])
	}
	for _, r := range out.rows[n:] {
		if len(r.Remote.Raw) == 0 {
			t.Errorf("the name %q is cut", r.Remote.Address)
		}
	}
}

// TestAddressesAndThreadsHaveAShareOfTheSegment: whoever makes new addresses or threads without end, as one process, as
// many or as a chain of them, has as many rows of them in a segment as its share allows, and each attempt counted. Another's have theirs,
// to known and to new addresses, and what the flood is known for has its own.
func TestAddressesAndThreadsHaveAShareOfTheSegment(t *testing.T) {
	const n, others = 20_000, 200
	for name, flood := range map[string]func(i int, k *bpf.ProcessKey, c *bpf.Connect, p *bpf.Process){
		"addresses": func(i int, _ *bpf.ProcessKey, c *bpf.Connect, _ *bpf.Process) {
			c.Remote = ipv4(10, byte(i>>16), byte(i>>8), byte(i), 22)
		},
		"own addresses": func(i int, _ *bpf.ProcessKey, c *bpf.Connect, _ *bpf.Process) {
			c.Local = ipv4(127, byte(i>>16), byte(i>>8), byte(i), 22)
		},
		"threads": func(i int, _ *bpf.ProcessKey, c *bpf.Connect, _ *bpf.Process) { c.Tid = uint32(1000 + i) },
		"names of a thread": func(i int, _ *bpf.ProcessKey, c *bpf.Connect, _ *bpf.Process) {
			copy(c.Comm[:], fmt.Sprintf("thread %d", i))
		},
		"users": func(i int, _ *bpf.ProcessKey, c *bpf.Connect, _ *bpf.Process) {
			c.UID, c.LoginUID = uint32(100_000+i), 1000
		},
		"short socket names": func(i int, _ *bpf.ProcessKey, c *bpf.Connect, _ *bpf.Process) {
			c.SocketFamily, c.Remote = unix.AF_UNIX, unixPath(fmt.Sprintf("/run/%d", i))
		},
		"addresses, a process for each": func(i int, k *bpf.ProcessKey, c *bpf.Connect, _ *bpf.Process) {
			k.Tgid = uint32(1000 + i)
			c.Remote = ipv4(10, byte(i>>16), byte(i>>8), byte(i), 22)
		},
		"addresses, a chain of forks in cgroups": func(i int, k *bpf.ProcessKey, c *bpf.Connect, p *bpf.Process) {
			k.Tgid, p.Parent = uint32(1000+i), key(uint32(1000+i-1), 1, 1)
			c.CgroupID, p.CgroupID, c.UID = uint64(i%7+2), uint64(i%7+2), 1000
			c.Remote = ipv4(10, byte(i>>16), byte(i>>8), byte(i), 22)
		},
	} {
		t.Run(name, func(t *testing.T) {
			src, out := newScript(), newMemory()
			c := quick()
			c.names, c.buffer = newNames(namesInTape<<20, new(atomic.Int64)), DefaultBuffer
			stop := start(t, src, out, c, Options{})
			now, victim, flooder := bootNow(), key(7, 7, 1), key(2, 2, 1)
			src.process(execOf(victim, key(1, 1, 1), now, "/bin/victim", "victim\x00"), execOf(flooder, key(1, 1, 1), now, "/bin/flood", "flood\x00"))
			for i := range n {
				k, c := flooder, connectBy(bpf.ProcessKey{}, now+uint64(i))
				c.Comm = [16]byte{'f', 'l', 'o', 'o', 'd'}
				p := execOf(k, key(100, 1, 1), now, "/bin/flood", "flood\x00")
				flood(i, &k, &c, &p)
				c.Key, p.Key = k, k
				if c.Tid == 0 {
					c.Tid = k.Tgid
				}
				if k != flooder {
					src.process(p)
				}
				src.connect(c)
				if i%(n/others) == 0 {
					src.connect(to(victim, now+uint64(i), 1<<20+i))
				}
			}
			waitFor(t, "the ring to drain", func() bool { src.mu.Lock(); defer src.mu.Unlock(); return len(src.connects) == 0 })
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			accounted(t, out)
			if got := single(out, 7); got != others {
				t.Errorf("%d of %d connects of the other process have their row", got, others)
			}
			endpoints, tasks, bytes := map[*store.Endpoint]bool{}, map[*store.Task]bool{}, int64(0)
			for _, r := range out.rows {
				for _, e := range []*store.Endpoint{r.Remote, r.Local} {
					if e != nil && !endpoints[e] {
						endpoints[e] = true
						bytes += endpointName(e)
					}
				}
				p := r.Task.Process
				if !tasks[r.Task] && (r.Task.Tid != p.Key.Tgid || r.Task.Comm != p.Comm || r.Task.UID != p.UID) {
					bytes += threadName
				}
				tasks[r.Task] = true
			}
			refused := out.counters["names_refused"]
			if bytes > 1<<20 || refused < n/5 || out.counters["lost"] != 0 {
				t.Errorf("%d bytes of names for %d; %d refused, counters %v", bytes, 1<<20, refused, out.counters)
			}
			t.Logf("%d addresses, %d tasks, %d bytes; %d refused", len(endpoints), len(tasks), bytes, refused)
		})
	}
}

// TestShareOfTheSegmentComesBack: a flood that nobody else joins has rows of new addresses again after a while, though the segment
// is the same.
func TestShareOfTheSegmentComesBack(t *testing.T) {
	n := newNames(namesInTape<<20, new(atomic.Int64))
	took := func() (bytes int64) {
		for n.take(owner{}, 100) {
			bytes += 100
		}
		return bytes
	}
	first := took()
	if first < 1<<19 || first > 1<<20*3/4 {
		t.Errorf("one alone takes %d of %d", first, 1<<20)
	}
	n.fade(uint64(time.Hour))
	n.fade(uint64(time.Hour) + 1)
	if again := took(); again < first/11 || again > first/9 {
		t.Errorf("a minute later it takes %d more, after %d", again, first)
	}
}

func TestSegmentsAreNoticed(t *testing.T) {
	begun, told := new(atomic.Int64), 0
	listen := noticeSegments(begun, func(store.Event) { told++ })
	listen(store.RunStarted{})
	listen(store.SegmentStarted{})
	if begun.Load() != 1 || told != 2 {
		t.Errorf("%d segments, %d told", begun.Load(), told)
	}
}
