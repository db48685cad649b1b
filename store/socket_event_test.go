package store

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/proof"
	"github.com/conntape/conntape/store/segment"
)

// acceptedBy is a connection that a task of the world accepted.
func (w *world) accepted(boot uint64, count uint64) SocketEvent {
	return SocketEvent{BootTime: boot, Window: boot, Task: w.task, Local: endpoint(2, "10.0.0.9", 80), Remote: endpoint(2, "192.0.2.9", 0), Count: count,
		Shape: &Shape{SocketFamily: 2, Type: 1, Protocol: 6, Via: "accept", AddressSource: "kernel", Backend: "fexit", HookErrno: Unknown}}
}

// The parts of a fold are one row of the view, in each segment, and the bytes of those that ended are summed.
func TestInboundIsFolded(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	w := mustOpenWriter(t, dir, options(100*second))
	w.now = func(string) (Anchor, error) { return at(110 * second), nil }
	x := newWorld()
	first, second2, other := x.accepted(101*second, 1), x.accepted(101*second, 4), x.accepted(101*second, 1)
	second2.BootTime, second2.LastBootTime = 102*second, 103*second
	second2.Ended, second2.Failed, second2.Sent, second2.Received, second2.Longest = 3, 1, 10, 20, 5000
	other.Window++ // and so it is another fold
	other.PeerPID = 77
	listen := x.accepted(104*second, 1)
	listening := *listen.Shape
	listening.Via = "listen"
	listen.Shape, listen.Remote = &listening, nil
	mustAppend(t, w, Batch{Sockets: []SocketEvent{first}, Now: 105 * second})
	mustAppend(t, w, Batch{Sockets: []SocketEvent{second2, other, listen}, Now: 105 * second})
	if err := w.Rotate(); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, w, Batch{Sockets: []SocketEvent{second2}, Now: 112 * second})
	waitSealed(t, w)
	mustClose(t, w, 113*second)
	tape := mustOpenTape(t, dir)
	chainsOf(t, tape, 1)
	chainsOf(t, tape, 2)
	got := rows(t, tape.Conn(), `SELECT segment, count, ended, failed, bytes_sent, bytes_received, longest_ns, remote_ip, remote_port, local_port, pid, outcome, peer_pid,
		substr(time, 18, 2), substr(last_time, 18, 2) FROM inbound ORDER BY segment, id`)
	want := []string{
		"1|5|3|1|10|20|5000|192.0.2.9|NULL|80|950|established|NULL|41|43",
		"1|1|0|0|NULL|NULL|NULL|192.0.2.9|NULL|80|950|established|77|41|41",
		"2|4|3|1|10|20|5000|192.0.2.9|NULL|80|950|established|NULL|42|43",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	if got := rows(t, tape.Conn(), "SELECT local_address, local_port, exe, protocol FROM listeners"); !slices.Equal(got, []string{"10.0.0.9|80|/usr/bin/curl|tcp"}) {
		t.Errorf("got %q", got)
	}
	tape.Bound(time.Unix(0, epoch2026+110*int64(second)), time.Time{})
	if got := rows(t, tape.Conn(), "SELECT count(*) FROM inbound"); !slices.Equal(got, []string{"0"}) {
		t.Errorf("in the window are %q", got)
	}
}

// Whatever is done to a row of event, the chain of its batch is another.
func TestAlteredEventIsFound(t *testing.T) {
	for _, script := range []string{
		"UPDATE event SET count = 7", "UPDATE event SET sent = 1", "UPDATE event SET peer_pid = 3", "DELETE FROM event", "UPDATE event SET batch = batch + 1",
		"UPDATE event SET id = id + 1", "INSERT INTO event (id, batch, window, task, shape, count, last_ns, ended, failed) SELECT id + 1, 99, window, task, shape, count, last_ns, ended, failed FROM event",
		"INSERT INTO event (id, batch, window, task, shape, count, last_ns, ended, failed) SELECT id + 1, batch, window, task, shape, count, last_ns, ended, failed FROM event", "UPDATE event SET question = 'x'",
	} {
		dir := filepath.Join(t.TempDir(), "tape")
		w, x := mustOpenWriter(t, dir, options(100*second)), newWorld()
		mustAppend(t, w, Batch{Sockets: []SocketEvent{x.accepted(101*second, 1)}, Now: 105 * second})
		mustAppend(t, w, Batch{Connections: []Connection{x.connection(102 * second)}, Now: 106 * second})
		mustClose(t, w, 107*second)
		alterWith(t, dir, 1, func(conn *sqlite.Conn) {
			if err := segment.Exec(conn, nil, script); err != nil || conn.Changes() == 0 {
				t.Fatalf("%s: %v", script, err)
			}
		})
		tape, found := mustOpenTape(t, dir), false
		err := proof.ReplayChain(connOf(t, tape, 1), func(_ int64, chain, said [32]byte) error {
			found = found || chain != said
			return nil
		})
		if err != nil || !found {
			t.Errorf("%s: it is not found, %v", script, err)
		}
	}
}

// What is salvaged of a segment has its events.
func TestEventsAreSalvaged(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	w, x := mustOpenWriter(t, dir, options(100*second)), newWorld()
	mustAppend(t, w, Batch{Sockets: []SocketEvent{x.accepted(101*second, 1)}, Connections: []Connection{x.connection(102 * second)}, Now: 105 * second})
	mustClose(t, w, 107*second)
	to := filepath.Join(t.TempDir(), "salvaged.db")
	if _, err := proof.Salvage(t.Context(), filepath.Join(dir, "00000001.db"), to); err != nil {
		t.Fatal(err)
	}
	got := rows(t, mustOpenTape(t, to).Conn(), "SELECT count, exe, remote_address, local_port FROM inbound")
	if !slices.Equal(got, []string{"1|/usr/bin/curl|192.0.2.9|80"}) {
		t.Errorf("got %q", got)
	}
}
