package recorder

import (
	"encoding/binary"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

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
	src.connect(name(victim, now+n, fmt.Sprintf("/run/%080d", n-1)), name(flood, now+n, "/run/short"))
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

func TestSegmentsAreNoticed(t *testing.T) {
	begun, told := new(atomic.Int64), 0
	listen := noticeSegments(begun, func(store.Event) { told++ })
	listen(store.RunStarted{})
	listen(store.SegmentStarted{})
	if begun.Load() != 1 || told != 2 {
		t.Errorf("%d segments, %d told", begun.Load(), told)
	}
}
