package capture

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
	}
}
