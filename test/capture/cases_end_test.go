package capture

import "golang.org/x/sys/unix"

// endCases are whole TCP connections, and what their rows say of the end.
func endCases() []testCase {
	const ms = 1_000_000
	ended := want{"outcome": "established", "outcome_source": "kernel", "established_ns": between(1, 10_000*ms), "closed_by": "local", "retransmits": between(0, 100)}
	return []testCase{
		{name: "end-by-death", all: expectation{want: ended.but(want{"bytes_sent": 5, "bytes_received": 0, "duration_ns": between(1, 60_000*ms)})}},
		{name: "end-by-halves", all: expectation{want: ended.but(want{"bytes_sent": 3, "bytes_received": 6, "duration_ns": between(100*ms, 60_000*ms)})}},
		{name: "end-epoll", all: expectation{want: ended.but(want{"bytes_sent": 3, "bytes_received": 0, "duration_ns": between(1, 60_000*ms)})}},
		{name: "end-epoll-refused", all: expectation{want: want{"outcome": "refused", "outcome_source": "kernel", "established_ns": nil, "duration_ns": between(1, 10_000*ms)}}},
		{name: "end-shared", all: expectation{want: ended.but(want{"bytes_sent": 4, "bytes_received": 0, "duration_ns": between(300*ms, 60_000*ms)})}},
		// Who connected is named, whoever has the socket by its end.
		{name: "end-passed", all: expectation{want: ended.but(want{"bytes_sent": 6, "bytes_received": 0, "duration_ns": between(1, 60_000*ms)})}},
		{name: "icmp-tcp", steps: map[string]expectation{
			"net": unreachable(unix.ENETUNREACH), "host": unreachable(unix.EHOSTUNREACH), "prohibited": unreachable(unix.EHOSTUNREACH),
			"port": {want: want{"outcome": "refused", "outcome_source": "kernel", "established_ns": nil}},
		}},
		{name: "icmp-udp", all: expectation{want: icmpUDP()}},
	}
}

// unreachable is a TCP connect to which a router answered.
func unreachable(errno unix.Errno) expectation {
	return expectation{want: want{"outcome": "unreachable", "outcome_errno": int64(errno), "outcome_source": "kernel", "established_ns": nil, "bytes_sent": nil}}
}

// icmpUDP is a connected UDP socket to which a router answered. Which one it was is told from 5.14 on, by its cookie, which kprobe does not know.
func icmpUDP() want {
	if env.kernelBefore(5, 14) {
		return nil
	}
	return want{"local_address": anything, "local_port": anything, "outcome": on(map[string]any{"fexit": "unreachable", "cgroup": "unreachable", "kprobe": oneOf("unreachable", "set")})}
}
