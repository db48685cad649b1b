package store

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/conntape/conntape/store/proof"
)

// answered is an answer by DNS to a task of the world; without one nobody knows who asked.
func (w *world) answered(boot, count uint64, task *Task, l Lookup) SocketEvent {
	return SocketEvent{BootTime: boot, Window: boot, Task: task, Remote: endpoint(2, "127.0.0.53", 53), Count: count, Lookup: &l, NetNS: 7,
		Shape: &Shape{SocketFamily: 2, Type: 2, Protocol: 17, Via: "lookup", AddressSource: "kernel", Backend: "fexit", HookErrno: Unknown, Errno: Unknown}}
}

// Lookups are rows of their view, whoever asked and whatever was answered, the parts of a fold one row; and are in no other view. What
// is salvaged has them.
func TestLookups(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	w, x := mustOpenWriter(t, dir, options(100*second)), newWorld()
	named := Lookup{Name: "www.example.com", Type: 28, Answers: "cname:b.example 2001:db8::1", TTL: 60}
	first, again := x.answered(101*second, 1, x.task, named), x.answered(101*second, 4, x.task, named)
	again.BootTime, again.LastBootTime = 102*second, 103*second
	again.NetNS, first.NetNS = 0, 0
	none := x.answered(104*second, 1, nil, Lookup{Name: "no.example", Type: 999, Rcode: 3, TTL: -1})
	several := x.answered(105*second, 50, x.task, Lookup{TTL: -1})
	mustAppend(t, w, Batch{Sockets: []SocketEvent{first}, Now: 105 * second})
	mustAppend(t, w, Batch{Sockets: []SocketEvent{again, none, several}, Connections: []Connection{x.connection(102 * second)}, Now: 105 * second})
	mustClose(t, w, 107*second)
	to := filepath.Join(t.TempDir(), "salvaged.db")
	if _, err := proof.Salvage(t.Context(), filepath.Join(dir, "00000001.db"), to); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"5|www.example.com|AAAA|NOERROR|cname:b.example 2001:db8::1|60|950|/usr/bin/curl|127.0.0.53|53|udp|41|43",
		"1|no.example|TYPE999|NXDOMAIN|NULL|NULL|NULL|NULL|127.0.0.53|53|udp|44|44",
		"50|NULL|NULL|NULL|NULL|NULL|950|/usr/bin/curl|127.0.0.53|53|udp|45|45",
	}
	for _, at := range []string{dir, to} {
		tape := mustOpenTape(t, at)
		got := rows(t, tape.Conn(), `SELECT count, name, type, rcode, answers, ttl, pid, exe, server_address, server_port, protocol, substr(time, 18, 2), substr(last_time, 18, 2) FROM lookups ORDER BY id`)
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %q\nwant %q", at, got, want)
		}
		if got := rows(t, tape.Conn(), `SELECT (SELECT netns FROM lookups WHERE name = 'no.example'), (SELECT count(*) FROM inbound), (SELECT count(*) FROM listeners)`); !slices.Equal(got, []string{"7|0|0"}) {
			t.Errorf("%s: namespace, inbound and listeners are %q", at, got)
		}
	}
	chainsOf(t, mustOpenTape(t, dir), 1)
}

// The names that led to an address are of the row, and an address that several names led to has a row for each.
func TestNamesOfConnections(t *testing.T) {
	dir := t.TempDir()
	w, x := mustOpenWriter(t, dir, options(100*second)), newWorld()
	var batch Batch
	for i, names := range []string{"", "a.example", "a.example b.example", "a.example"} {
		c := x.connection(uint64(101+i) * second)
		c.Remote = endpoint(2, "192.0.2.7", 443)
		if c.Remote.Names = names; names != "" {
			c.Remote.NameSource = NameDNS
		}
		batch.Connections = append(batch.Connections, c)
	}
	mustAppend(t, w, batch)
	mustClose(t, w, 110*second)
	tape := mustOpenTape(t, dir)
	for _, sql := range []string{"SELECT remote_name, name_source, remote_ip FROM connections ORDER BY time_ns"} {
		if got, want := rows(t, tape.Conn(), sql), []string{"NULL|NULL|192.0.2.7", "a.example|dns|192.0.2.7", "a.example b.example|dns|192.0.2.7", "a.example|dns|192.0.2.7"}; !slices.Equal(got, want) {
			t.Errorf("got %q", got)
		}
	}
	if got := rows(t, tape.Conn(), "SELECT count(*), count(name) FROM endpoints WHERE ip = '192.0.2.7'"); !slices.Equal(got, []string{"3|2"}) {
		t.Errorf("endpoints: %q", got)
	}
}
