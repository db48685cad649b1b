package recorder

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/bpf"
	"github.com/conntape/conntape/store"
)

// sendBy is a send without connect.
func sendBy(k bpf.ProcessKey, at uint64) bpf.Connect {
	c := connectBy(k, at)
	c.Via, c.SocketFamily, c.Type, c.Protocol, c.Errno, c.HookErrno = bpf.ViaSendto, unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_UDP, bpf.Unknown, bpf.Unknown
	c.Cookie, c.Bytes = 7, 20
	return c
}

// The first send is a row at once. Those that the kernel counts after it are one row an interval, of a process that may have
// ended; what has no address, and what the last interval left, is counted too.
func TestSendsAreCounted(t *testing.T) {
	src, out := newScript(), newMemory()
	c := quick()
	c.sendsEvery = 50 * time.Millisecond
	stop := start(t, src, out, c, Options{})
	now, k := bootNow(), key(5, 1, 1)
	src.process(execOf(k, bpf.ProcessKey{}, now, "/bin/dns", "dns\x00"))
	src.connect(sendBy(k, now+1))
	src.process(bpf.Process{Kind: bpf.KindExit, Key: k, BootTime: now + 2})
	src.send(bpf.SendCount{Of: sendBy(k, now+1), Count: 1_000_000, First: now + 3, Last: now + 9, Bytes: 50})
	waitFor(t, "the first count", func() bool { out.mu.Lock(); defer out.mu.Unlock(); return len(out.rows) >= 2 })
	nowhere := sendBy(k, now+1)
	nowhere.Remote, nowhere.Local = nil, nil
	src.send(bpf.SendCount{Of: nowhere, Count: 30, First: now + 4, Last: now + 8, Bytes: bpf.Unknown})
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	accounted(t, out)
	if out.counters["seen"] != 1_000_031 || out.counters["lost"] != 0 {
		t.Errorf("counters %v", out.counters)
	}
	if len(out.rows) != 3 {
		t.Fatalf("%d rows, want 3", len(out.rows))
	}
	for i, want := range []store.Connection{
		{BootTime: now + 1}, {BootTime: now + 3, LastBootTime: now + 9, Count: 1_000_000}, {BootTime: now + 4, LastBootTime: now + 8, Count: 30},
	} {
		row := out.rows[i]
		if sent := map[int]int64{0: 20, 1: 50}[i]; sent > 0 && (row.Outcome == nil || row.Outcome.Sent != sent) {
			t.Errorf("row %d: sent %+v, want %d", i, row.Outcome, sent)
		}
		if row.BootTime != want.BootTime || row.LastBootTime != want.LastBootTime || row.Count != want.Count || row.Task.Process.Exe != "/bin/dns" {
			t.Errorf("row %d: %+v of %q", i, row, row.Task.Process.Exe)
		}
		if lumped := row.Shape.AddressSource == store.AddressDropped; lumped != (i == 2) || !lumped && row.Shape.Via != "sendto" {
			t.Errorf("row %d: shape %+v", i, row.Shape)
		}
	}
}
