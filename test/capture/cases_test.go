package capture

import (
	"crypto/sha256"
	"fmt"
	"os"
	"testing"

	"github.com/conntape/conntape/store"
)

// TestCases makes every kind of connect under one recorder and then finds each on its tape, exactly once.
func TestCases(t *testing.T) {
	var all []testCase
	for _, subject := range [][]testCase{inetCases(), unixCases(), oddCases(), waitCases(), uringCases(), compatCases(), endCases(),
		processCases(), execCases(), nameCases(), programCases(), sendCases()} {
		all = append(all, subject...)
	}
	dir := tempDir(t)
	found := openFound(t)
	recorder := record(t, dir, "--events", openedEvents, withHashes)
	opened := startOpened(t)
	runs := make([]*caseRun, len(all))
	for i := range all {
		runs[i] = all[i].start(t)
	}
	if env.inGuest { // programs are read when nobody else wants the processor: a busy host may give it none for minutes
		eventually(t, "the program was read for its digests", func() bool {
			return number(t, dir, `SELECT count(*) FROM processes WHERE exe = ? AND source = 'exec' AND exe_sha256 IS NOT NULL`, env.connects) > 0
		})
	}
	recorder.stop(t)

	tape := openTape(t, dir)
	defer tape.Close()
	segment := ask(t, tape, `SELECT backend, blind_spots FROM segments ORDER BY segment DESC LIMIT 1`)[0]
	env.seenBy, env.blindSpots = segment.text("backend"), segment.text("blind_spots")
	t.Logf("backend %s, blind spots:\n%s", env.seenBy, segment.text("blind_spots"))
	for _, c := range runs {
		c.tape = tape
		c.blindSpots = segment.text("blind_spots")
		t.Run(c.name, c.verify)
	}
	opened.verify(t, ask(t, tape, openedRows, opened.pid))
	verifyFound(t, found, ask(t, tape, openedRows, os.Getpid()))
	t.Run("hashes", func(t *testing.T) { verifyHashes(t, tape) })
}

// verifyHashes wants no other digest than the right one of the program that connects, for the processes that the recorder saw begin.
func verifyHashes(t *testing.T, tape *store.Tape) {
	text, err := os.ReadFile(env.connects)
	if err != nil {
		t.Fatal(err)
	}
	right := fmt.Sprintf("%x", sha256.Sum256(text))
	all := ask(t, tape, `SELECT DISTINCT exe_sha256, hash_source FROM processes WHERE exe = ? AND source = 'exec'`, env.connects)
	if len(all) == 0 {
		t.Error("no process of it")
	}
	for _, r := range all {
		t.Logf("SHA-256 %v, hash_source %v", r["exe_sha256"], r["hash_source"])
		if r["exe_sha256"] != nil && r["exe_sha256"] != right {
			t.Errorf("want %s", right)
		}
	}
}

// fromUser: what no cgroup hook sees is known from the return of connect(2) only. Then the remote address is read from the
// caller's memory, and the local one is what it is by then.
var fromUser = want{
	"address_source": on(map[string]any{"cgroup": "user"}),
	"local_address":  on(map[string]any{"cgroup": anything}),
	"local_port":     on(map[string]any{"cgroup": anything}),
}

// blindOn: the backend sees none of it, and says so with the given words.
func blindOn(backend, spot string) func() string {
	return func() string {
		if env.seenBy == backend {
			return spot
		}
		return ""
	}
}

func justName(names ...string) []testCase {
	cases := make([]testCase, len(names))
	for i, name := range names {
		cases[i].name = name
	}
	return cases
}

func inetCases() []testCase {
	return append(justName("tcp4", "tcp6", "tcp4-refused", "tcp6-refused", "tcp4-nonblock", "tcp4-bound",
		"tcp4-any", "tcp4-timeout", "tcp4-unreachable", "tcp4-long", "tcp6-rfc2133", "tcp6-mapped", "tcp6-no-scope", "udp4",
		"udp4-port0", "udp4-again", "udp4-broadcast", "udp6", "udp6-mapped", "udp6-inet", "fastopen-connect"),
		testCase{name: "tcp4-nonblock-refused", all: expectation{want: want{"outcome": "refused"}}},
		testCase{name: "tcp4-already", steps: map[string]expectation{"first": {want: want{"outcome": "aborted"}}, "second": {want: fromUser}}},
		testCase{name: "tcp4-isconn", steps: map[string]expectation{"second": {want: fromUser}}},
		testCase{name: "tcp4-listening", all: expectation{want: fromUser}},
		testCase{name: "udplite4", all: expectation{want: fromUser}},
		testCase{name: "tcp6-inet", steps: map[string]expectation{"short": {want: fromUser}}},
		testCase{name: "udp6-scope", all: expectation{want: want{"remote_address": "fe80::1%1"}}},
		// A cgroup hook sees the subflow's socket.
		testCase{name: "mptcp", all: expectation{want: want{"protocol": on(map[string]any{"cgroup": "tcp"}),
			"cookie": on(map[string]any{"cgroup": anything})}}},
		testCase{name: "fastopen-sendto", all: expectation{want: passedBy("fastopen")}},
		testCase{name: "kernel-connect", all: expectation{want: passedBy("kernel").but(want{
			"via":    on(map[string]any{"fexit": "kernel", "kprobe": "kernel", "cgroup": oneOf("kernel", "io_uring")}), // from 6.7 to 6.12 the socket looks like a user's
			"cookie": anything, "addrlen": anything, "remote_raw": anything})}},
	)
}

// passedBy is the row of a connect that passes security_socket_connect by. Nothing tells what it returned.
func passedBy(via string) want { return want{"via": via, "hook_errno": nil, "errno": nil} }

func unixCases() []testCase {
	cases := append(justName("unix-stream", "unix-dgram", "unix-seqpacket", "unix-relative", "unix-trailing", "unix-full", "unix-bound",
		"unix-absent", "unix-refused", "unix-wrong-type", "unix-forbidden"),
		testCase{name: "unix-at-path", all: expectation{want: want{"remote_address": `\x40conntape-test`}}},
		testCase{name: "unix-abstract", all: expectation{want: want{"remote_address": "@conntape-test"}}},
		testCase{name: "unix-abstract-nuls", all: expectation{want: want{"remote_address": `@a\x00b\x1b[31m\xff\x00`}}},
		testCase{name: "unix-abstract-empty", all: expectation{want: want{"remote_address": "@"}}},
		testCase{name: "unix-unnamed", all: expectation{want: fromUser.but(want{"remote_address": ""})}},
		testCase{name: "unix-short", all: expectation{want: fromUser}},
	)
	for i := range cases {
		cases[i].check = checkPeer
	}
	return cases
}

func oddCases() []testCase {
	userOnly := expectation{want: fromUser}
	never := expectation{never: true}
	noFamily := userOnly
	if !env.kernelBefore(7, 0) { // there a security module refuses it (seen on 7.3)
		noFamily = expectation{want: fromUser.but(want{
			"hook_errno": on(map[string]any{"fexit": 22, "kprobe": 22}),
			"outcome":    on(map[string]any{"fexit": "denied", "kprobe": "denied"}),
		})}
	}
	return []testCase{
		{name: "unspec-udp", steps: map[string]expectation{"disconnect": userOnly, "short": userOnly}},
		{name: "unspec-tcp", steps: map[string]expectation{"disconnect": userOnly,
			// getsockname(2) still gives the port of the first connect, which the socket no longer has.
			"again": {want: want{"local_address": "127.0.0.1", "local_port": anything}}}},
		{name: "raw4", all: userOnly},
		{name: "raw6", all: userOnly},
		{name: "ping4", all: pingExpectation()},
		{name: "ping6", all: pingExpectation()},
		{name: "netlink", all: userOnly},
		{name: "packet", all: userOnly},
		{name: "vsock", args: vsockArgs(), all: expectation{want: fromUser.but(want{"remote_port": 4242, "remote_address": has("1")})}},
		{name: "family99"},
		{name: "short-addrlen", all: userOnly, steps: map[string]expectation{
			"one": noFamily, "none": noFamily,
			"eight": {want: fromUser.but(want{"remote_port": oneOf(nil, 4242)})},
		}},
		{name: "landlock", all: expectation{want: fromUser.but(want{
			"hook_errno": on(map[string]any{"fexit": 13, "kprobe": 13}),
			"outcome":    on(map[string]any{"fexit": "denied", "kprobe": "denied"}),
		})}},
		// These fail before the kernel has a socket and an address.
		{name: "long-addrlen", all: never},
		{name: "bad-fd", all: never},
		{name: "not-a-socket", all: never},
		{name: "bad-pointer", all: never},
		{name: "seccomp", all: seccompExpectation()},
	}
}

// seccompExpectation: a connect refused by seccomp is none, but the cgroup backend's tracepoint cannot tell.
func seccompExpectation() expectation {
	return expectation{want: fromUser, neverBut: "cgroup"}
}

// Ping sockets have had a cgroup hook since Linux 6.0 (0ffe2412531e).
func pingExpectation() expectation {
	if env.kernelBefore(6, 0) {
		return expectation{want: fromUser}
	}
	return expectation{}
}

func vsockArgs() []string {
	if env.inGuest {
		return []string{"vsock", "in-guest"}
	}
	return []string{"vsock"}
}

func waitCases() []testCase {
	// What came of it afterwards: nobody answers.
	interrupted := want{"errno": oneOf(4, 512), "outcome": oneOf("aborted", "timed out")}
	return []testCase{
		{name: "eintr", steps: map[string]expectation{"connect": {want: interrupted}}},
		// The kernel makes the call twice, and twice it passes the hook.
		{name: "restarted", steps: map[string]expectation{"restarted": {rows: []want{interrupted, fromUser.but(want{"local_address": anything, "local_port": anything})}}}},
		{name: "killed", run: runKilled, all: expectation{want: want{"cmdline": env.connects + " killed"}}},
	}
}

func uringCases() []testCase {
	workerName := has("iou-")
	if env.kernelBefore(5, 12) { // there a worker is a kernel thread
		workerName = anything
	}
	// No tracepoint tells the cgroup backend what came of it.
	onRing := want{"via": "io_uring", "errno": on(map[string]any{"cgroup": nil}), "outcome": on(map[string]any{"cgroup": "unknown"})}
	ringErrno := on(map[string]any{"cgroup": nil, "fexit": oneOf(111, 115), "kprobe": oneOf(111, 115)})
	var cases []testCase
	for _, what := range []string{"tcp", "refused", "udp", "unix", "unspec"} {
		for _, how := range []string{"plain", "async", "sqpoll"} {
			e := expectation{want: onRing}
			if what == "refused" {
				// Newer kernels, and 6.1 with its updates, read the socket's error instead of connecting again.
				e.want = e.want.but(want{"errno": ringErrno, "outcome": "refused"})
			}
			if what == "tcp" {
				e.want = want{"via": "io_uring", "errno": on(map[string]any{"cgroup": nil})}
			}
			if how != "plain" {
				e.want = e.want.but(want{"comm": workerName})
			}
			switch {
			case what == "unspec":
				e.blind = blindOn("cgroup", "through io_uring or from a 32-bit process: AF_UNSPEC")
			case what == "unix" && env.kernelBefore(6, 7):
				e.blind = blindOn("cgroup", "UNIX sockets through io_uring")
			}
			cases = append(cases, testCase{name: "uring-" + what + "-" + how, args: []string{"uring-" + what, how}, all: e})
		}
	}
	for _, how := range []string{"plain", "async", "sqpoll"} {
		w := passedBy("io_uring")
		if how != "plain" {
			w = w.but(want{"comm": workerName})
		}
		cases = append(cases, testCase{name: "uring-fastopen-" + how, args: []string{"uring-fastopen", how}, all: expectation{want: w}})
	}
	return cases
}

// compatTCP: what becomes of TCP is told, though no program sees connect return.
func compatTCP(via string) map[string]expectation {
	e := expectation{want: want{"via": via, "errno": on(map[string]any{"cgroup": nil})}}
	return map[string]expectation{"tcp": e, "refused": e}
}

func compatCases() []testCase {
	unseen := want{"errno": on(map[string]any{"cgroup": nil}), "outcome": on(map[string]any{"cgroup": "unknown"})}
	blind := blindOn("cgroup", "through io_uring or from a 32-bit process: AF_UNSPEC")
	return []testCase{
		{name: "compat-connect", all: expectation{want: unseen}, steps: compatTCP("connect")},
		{name: "compat-socketcall", all: expectation{want: unseen.but(want{"via": "socketcall"})}, steps: compatTCP("socketcall")},
		{name: "compat-connect-unspec", all: expectation{blind: blind}},
		{name: "compat-socketcall-unspec", all: expectation{blind: blind, want: want{"via": "socketcall"}}},
	}
}
