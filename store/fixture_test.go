package store

import (
	"fmt"
	"os"
	"testing"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/segment"
)

// Words that the tests share.

const testBoot = "11111111-2222-4333-8444-555555555555"

// epoch2026 is the wall clock at boot in the tests, ns: 2026-01-01T00:00:00Z.
const epoch2026 int64 = 1767225600_000000000

const second = uint64(1_000_000_000)

// at is the anchor at a boot time, with a wall clock that never steps.
func at(boot uint64) Anchor { return Anchor{Boot: boot, Real: epoch2026 + int64(boot)} }

func options(boot uint64) WriterOptions {
	return WriterOptions{Version: "v1", Backend: "fexit", BlindSpots: []string{"MSG_FASTOPEN", "second\nline"},
		BootID: testBoot, Kernel: "6.12.1", Host: "h", MachineID: "m", Now: at(boot)}
}

func mustOpenWriter(t testing.TB, dir string, o WriterOptions) *Writer {
	t.Helper()
	w, err := OpenWriter(dir, o)
	if err != nil {
		t.Fatalf("OpenWriter: %v", err)
	}
	return w
}

func mustOpenTape(t testing.TB, path string) *Tape {
	t.Helper()
	tape, err := OpenTape(path)
	if err != nil {
		t.Fatalf("OpenTape: %v", err)
	}
	t.Cleanup(func() { tape.Close() })
	return tape
}

// connOf returns the connection to a segment, by its place, the oldest being 1.
func connOf(t testing.TB, tape *Tape, place int) *sqlite.Conn {
	t.Helper()
	conn, release, err := tape.Borrow(place - 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	return conn
}

func mustAppend(t testing.TB, w *Writer, b Batch) {
	t.Helper()
	if err := w.Append(b); err != nil {
		t.Fatalf("Append: %v", err)
	}
}

func mustClose(t testing.TB, w *Writer, boot uint64) {
	t.Helper()
	if err := w.Close(Gap{From: boot}, nil); err != nil {
		t.Fatalf("Close: %v", err)
	}
}

// rows returns the result of a query, each row as its columns joined by "|",
// NULL as "NULL".
func rows(t testing.TB, conn *sqlite.Conn, query string, args ...any) []string {
	t.Helper()
	out := []string{}
	err := segment.Exec(conn, func(q *sqlite.Stmt) error {
		line := ""
		for i := range q.ColumnCount() {
			if i > 0 {
				line += "|"
			}
			if q.ColumnIsNull(i) {
				line += "NULL"
			} else {
				line += q.ColumnText(i)
			}
		}
		out = append(out, line)
		return nil
	}, query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return out
}

func one(t testing.TB, conn *sqlite.Conn, query string, args ...any) string {
	t.Helper()
	got := rows(t, conn, query, args...)
	if len(got) != 1 {
		t.Fatalf("%s: %d rows", query, len(got))
	}
	return got[0]
}

// world is a small set of processes and endpoints.
type world struct {
	systemd, shell, curl *Process
	task                 *Task
	v4, v6, unix         *Endpoint
	tcpRefused           *Shape
	tcpPending           *Shape
}

func newWorld() *world {
	w := &world{}
	w.systemd = &Process{Key: ProcessKey{Tgid: 1, StartBoot: 10}, Comm: "systemd", Exe: "/usr/lib/systemd/systemd",
		Argv: []string{"/sbin/init"}, LoginUID: -1, SessionID: -1, Source: SourceSnapshot, Cgroup: "/init.scope"}
	w.shell = &Process{Key: ProcessKey{Tgid: 901, StartBoot: 500, Exec: 3}, Parent: w.systemd, PPID: 1, Comm: "bash",
		Exe: "/usr/bin/bash", Argv: []string{"-bash"}, LoginUID: 1000, SessionID: 4, UID: 1000, GID: 1000, EUID: 1000,
		User: "ann", Source: SourceExec}
	w.curl = &Process{Key: ProcessKey{Tgid: 950, StartBoot: 900, Exec: 4}, Parent: w.shell, PPID: 901, Comm: "curl",
		Exe: "/usr/bin/curl", Argv: []string{"curl", "http://a b/", "\x1b[2J"}, Cwd: "/home/ann", ExecBoot: 950,
		LoginUID: 1000, SessionID: 4, UID: 1000, GID: 1000, EUID: 1000, User: "ann", Cgroup: "/user.slice",
		Container: "docker:abc", Source: SourceExec, ExeDev: 8<<20 | 1, ExeIno: 77, PidInNS: 12, NetNS: 5}
	w.task = &Task{Process: w.curl, Tid: 951, Comm: "resolver", UID: 1000, GID: 1000, EUID: 0, User: "ann",
		LoginUID: 1000, SessionID: 4, NetNS: 4026531840, CgroupID: 99, Cgroup: "/user.slice", Container: "docker:abc"}
	w.v4 = endpoint(2, "192.0.2.7", 443)
	w.v6 = endpoint(10, "2001:db8::1", 53)
	w.unix = &Endpoint{Family: 1, Address: "/run/x", Port: -1, Raw: []byte("\x01\x00/run/x\x00")}
	w.tcpRefused = &Shape{SocketFamily: 2, Type: 1, Protocol: 6, Via: "connect", AddressSource: "kernel",
		Backend: "fexit", HookErrno: 0, Errno: 111, Addrlen: 16}
	pending := *w.tcpRefused
	pending.Errno = Unknown
	w.tcpPending = &pending
	return w
}

func endpoint(family uint16, address string, port int32) *Endpoint {
	return &Endpoint{Family: family, Address: address, Port: port, Raw: fmt.Appendf(nil, "%d/%s/%d", family, address, port)}
}

func (w *world) connection(boot uint64) Connection {
	return Connection{BootTime: boot, Task: w.task, Remote: w.v4, Shape: w.tcpRefused, FD: 5, Cookie: 1000 + boot}
}

// files lists a directory, without what is only there for requests.
func files(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, e := range entries {
		if e.Name() != requestDir {
			names = append(names, e.Name())
		}
	}
	return names
}

func itoa(n int64) string { return fmt.Sprint(n) }
