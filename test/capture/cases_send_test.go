package capture

import "strings"

// sendCases send ten bytes each without connect. What came of a send no hook tells.
func sendCases() []testCase {
	sent := func(bytes any) want {
		return want{"via": "sendto", "hook_errno": nil, "errno": nil, "outcome": "unknown", "bytes_sent": bytes,
			"local_address": anything, "local_port": anything}
	}
	plain, several := expectation{want: sent(10)}, expectation{want: sent(nil)} // a system call for several tells of none
	raw := expectation{want: sent(10), blind: blindTo("raw and ping sockets")}
	mapped := sent(10).but(want{"family": "ipv4", "remote_address": "127.0.0.1", "remote_raw": anything, "addrlen": 16})
	ring := sent(nil)
	if env.kernelBefore(6, 2) { // the hook does not tell the socket
		ring["netns"] = anything
	}
	unseen := expectation{blind: func() string { return "XDP and SCTP sockets" }}
	frame := sent(24).but(want{"via": "frame", "family": "packet", "remote_address": "lo protocol 0x88b5", "remote_raw": anything, "addrlen": 0,
		"local_address": "lo", "local_port": nil}) // with 14 bytes of a header
	return []testCase{
		{name: "send-packet", steps: map[string]expectation{"sendto": {want: frame},
			"bypass": {want: frame.but(want{"remote_address": "lo protocol 0x88b6"}), blind: blindTo("PACKET_QDISC_BYPASS")}}},
		{name: "send-sctp", all: unseen},
		{name: "send-unix", all: expectation{want: sent(10), blind: blindToUnixSends}},
		{name: "send-udp4", all: plain, steps: map[string]expectation{"sendmmsg": several}},
		{name: "send-udp6", all: plain},
		{name: "send-mapped", all: expectation{want: mapped}},
		{name: "send-elsewhere", steps: map[string]expectation{"sendto": plain,
			"connect": {want: want{"local_address": anything, "local_port": anything, "outcome": oneOf("refused", "set")}}}}, // the send before was, which is told from 5.14 on
		{name: "send-unspec", all: expectation{want: sent(10).but(want{"family": "ipv4", "remote_address": "127.0.0.1", "remote_port": 4242, "remote_raw": anything})}},
		{name: "send-many", all: expectation{rows: []want{sent(10), sent(50_000).but(want{"count": 5000, "time_ns": anything})}, counted: true}},
		{name: "uring-send", all: expectation{want: ring}},
		{name: "send-raw4", all: raw},
		{name: "send-raw6", all: raw},
		{name: "send-ping4", all: raw},
		{name: "send-ping6", all: raw},
	}
}

func blindToUnixSends() string {
	if env.kernelBefore(6, 7) {
		return "UNIX datagrams"
	}
	return ""
}

// blindTo is for what nobody sees where there are neither trampolines nor kprobes, which a guest has.
func blindTo(spot string) func() string {
	return func() string {
		if !env.inGuest && strings.Contains(env.blindSpots, spot) {
			return spot
		}
		return ""
	}
}
