package store

import (
	"slices"
	"testing"
)

// Which process a UNIX connection reached is in the view, whether it is described or only its pid is known; NULL where nobody
// knows.
func TestPeer(t *testing.T) {
	dir := t.TempDir()
	w := mustOpenWriter(t, dir, options(100*second))
	x := newWorld()
	daemon := &Process{Key: ProcessKey{Tgid: 77, StartBoot: 5, Exec: 3}, Parent: x.curl.Parent, Exe: "/usr/bin/dbus-daemon", Unit: "dbus.service", Source: SourceExec}
	ended := &Process{Key: ProcessKey{Tgid: 78}, Source: SourceUnknown}
	var batch Batch
	for i, peer := range []*Process{daemon, ended, nil, daemon} {
		c := x.connection(uint64(101+i) * second)
		c.Remote = endpoint(1, "/run/dbus/socket", -1)
		c.Remote.Peer = peer
		batch.Connections = append(batch.Connections, c)
	}
	mustAppend(t, w, batch)
	mustClose(t, w, 110*second)
	tape := mustOpenTape(t, dir)
	got := rows(t, connOf(t, tape, 1), "SELECT peer_pid, peer_exe, peer_unit, duration_ns, local_port FROM connections ORDER BY time_ns")
	daemonRow := "77|/usr/bin/dbus-daemon|dbus.service|NULL|NULL"
	if want := []string{daemonRow, "78|NULL|NULL|NULL|NULL", "NULL|NULL|NULL|NULL|NULL", daemonRow}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
