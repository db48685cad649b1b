package recorder

import (
	"encoding/binary"
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

// A frame has the device that it was sent through, and goes to an address, or else to the device with the protocol that it is of.
func TestFramesAreCounted(t *testing.T) {
	src, out := newScript(), newMemory()
	stop := start(t, src, out, quick(), Options{})
	now, k := bootNow(), key(5, 1, 1)
	src.process(execOf(k, bpf.ProcessKey{}, now, "/bin/scan", "scan\x00"))
	frame := sendBy(k, now+1)
	frame.Via, frame.SocketFamily, frame.Local = bpf.ViaFrame, unix.AF_PACKET, placeOf(unix.AF_PACKET, 2, "eth0")
	src.connect(frame)
	arp := frame
	arp.BootTime, arp.Remote = now+2, placeOf(unix.AF_PACKET, 2, "eth0")
	binary.NativeEndian.PutUint16(arp.Remote[2:], 0x0806)
	src.connect(arp)
	arp.BootTime = now + 3
	src.send(bpf.SendCount{Of: arp, Count: 4, First: now + 3, Last: now + 9, Bytes: 168})
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	accounted(t, out)
	if len(out.rows) != 3 {
		t.Fatalf("%d rows, want 3", len(out.rows))
	}
	for i, to := range []string{"10.0.0.1", "eth0 protocol 0x0806", "eth0 protocol 0x0806"} {
		if row := out.rows[i]; row.Remote.Address != to || row.Local.Address != "eth0" || row.Shape.Via != "frame" {
			t.Errorf("row %d: via %s, to %q by %q", i, row.Shape.Via, row.Remote.Address, row.Local.Address)
		}
	}
}

// Frames are watched while a packet socket is open: from when one is made or was there, until none is found any more.
func TestFramesAreWatched(t *testing.T) {
	src, out := newScript(), newMemory()
	c := quick()
	c.refreshEvery = 20 * time.Millisecond
	now, k := bootNow(), key(1, 1, 1)
	src.setAlive(aliveOf(k, bpf.ProcessKey{}, "/bin/server"))
	there := connectBy(k, now)
	there.Via, there.SocketFamily, there.Type, there.Found, there.Remote = bpf.ViaSocket, unix.AF_PACKET, unix.SOCK_RAW, true, nil
	src.found = []bpf.Connect{there}
	stop := start(t, src, out, c, Options{})
	waitFor(t, "what was there to be watched", src.watchesFrames)
	src.mu.Lock()
	src.found = nil
	src.mu.Unlock()
	waitFor(t, "nobody to be watched", func() bool { return !src.watchesFrames() })
	src.mu.Lock()
	src.found = []bpf.Connect{there}
	src.mu.Unlock()
	src.does(k, now+1, bpf.ViaSocket, unix.AF_PACKET, unix.SOCK_RAW, 0, nil)
	waitFor(t, "a new one to be watched", src.watchesFrames)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}
