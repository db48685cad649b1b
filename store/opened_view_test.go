package store

import (
	"path/filepath"
	"slices"
	"testing"
)

// Views of sockets: a fold that was written in parts is one row; a bound datagram socket listens; interfaces and devices are named.
func TestOpenedViews(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	w, x := mustOpenWriter(t, dir, options(100*second)), newWorld()
	event := func(via string, at, window uint64, family, kind, protocol uint16, local *Endpoint, count uint64) SocketEvent {
		shape := &Shape{SocketFamily: family, Type: kind, Protocol: protocol, Via: via, AddressSource: "kernel", Backend: "fexit", HookErrno: Unknown}
		return SocketEvent{BootTime: at * second, Window: window * second, LastBootTime: at * second, Task: x.task, Shape: shape, Local: local, Count: count}
	}
	eth0 := &Endpoint{Family: 17, Address: "eth0", Port: -1, Raw: []byte{17, 0, 1}}
	tun := &Endpoint{Family: 65535, Address: "tun0", Port: -1, Raw: []byte{255, 255, 1}}
	inet := func(port int32) *Endpoint {
		return &Endpoint{Family: 2, Address: "10.0.0.9", Port: port, Raw: []byte{2, 0, byte(port)}}
	}
	mustAppend(t, w, Batch{Now: 130 * second, Sockets: []SocketEvent{
		event("socket", 101, 101, 17, 3, 3, nil, 2), event("socket", 110, 101, 17, 3, 3, nil, 5), event("bind", 102, 102, 17, 3, 2054, eth0, 1),
		event("socket", 103, 103, 2, 3, 255, nil, 1), event("tun", 104, 104, 0, 1, 0, tun, 1), event("bind", 105, 105, 2, 2, 17, inet(53), 1),
		event("bind", 106, 106, 2, 1, 6, inet(80), 1), event("listen", 107, 107, 2, 1, 6, inet(80), 1), event("bind", 108, 108, 2, 2, 1, inet(0), 1),
		event("bind", 109, 109, 1, 2, 0, &Endpoint{Family: 1, Address: "/run/log", Port: -1, Raw: []byte("/run/log")}, 1),
	}})
	mustClose(t, w, 140*second)
	tape := mustOpenTape(t, dir)
	for sql, want := range map[string][]string{
		"SELECT action, family, type, protocol, local_address, local_port, count, (last_time > time) FROM sockets_opened ORDER BY id": {
			"socket|packet|raw|all|NULL|NULL|7|1", "bind|packet|raw|arp|eth0|NULL|1|0", "socket|ipv4|raw|raw|NULL|NULL|1|0", "tun|NULL|NULL|NULL|tun0|NULL|1|0",
			"bind|ipv4|dgram|udp|10.0.0.9|53|1|0", "bind|ipv4|stream|tcp|10.0.0.9|80|1|0", "bind|ipv4|dgram|icmp|10.0.0.9|0|1|0", "bind|unix|dgram|NULL|/run/log|NULL|1|0",
		},
		"SELECT action, family, type, protocol, local_address, local_port, count FROM listeners ORDER BY id": {
			"bind|ipv4|dgram|udp|10.0.0.9|53|1", "listen|ipv4|stream|tcp|10.0.0.9|80|1", "bind|unix|dgram|NULL|/run/log|NULL|1",
		},
		"SELECT count(*) FROM inbound": {"0"},
	} {
		if got := rows(t, tape.Conn(), sql); !slices.Equal(got, want) {
			t.Errorf("%s\ngot  %q\nwant %q", sql, got, want)
		}
	}
}
