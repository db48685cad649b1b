package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
)

// One row through writer, copy and view: every column.
func TestEveryColumn(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	w := mustOpenWriter(t, dir, options(1000*second))
	x := newWorld()
	boot := 1001*second + 7
	c := x.connection(boot)
	c.Local = endpoint(2, "10.0.0.1", 40000)
	c.Count, c.LastBootTime = 3, boot+second
	mustAppend(t, w, Batch{Connections: []Connection{c}, Now: 1003 * second})
	mustClose(t, w, 1004*second)

	tape := mustOpenTape(t, dir)
	id := one(t, tape.Conn(), "SELECT process_id FROM processes WHERE comm = 'curl'")
	parent := one(t, tape.Conn(), "SELECT process_id FROM processes WHERE comm = 'bash'")
	for column, want := range map[string]string{
		"id": "1767226601000000007", "time_ns": "1767226601000000007",
		"time": "2026-01-01T00:16:41.000000007Z", "last_time": "2026-01-01T00:16:42.000000007Z", "count": "3",
		"pid": "950", "tid": "951", "ppid": "901", "comm": "resolver", "exe": "/usr/bin/curl",
		"cmdline": `curl "http://a b/" \x1b[2J`, "cwd": "/home/ann",
		"uid": "1000", "user": "ann", "gid": "1000", "euid": "0", "loginuid": "1000", "session_id": "4",
		"container": "docker:abc", "cgroup": "/user.slice", "netns": "4026531840",
		"family": "ipv4", "type": "stream", "protocol": "tcp", "fd": "5", "via": "connect",
		"local_address": "10.0.0.1", "local_port": "40000", "remote_address": "192.0.2.7", "remote_port": "443",
		"address_source": "kernel", "hook_errno": "0", "errno": "111", "outcome": "refused", "backend": "fexit",
		"process_id": id, "parent_id": parent, "ancestry": "systemd(1) > bash(901) > curl(950)",
		"socket_family": "ipv4", "addrlen": "16", "cookie": "1001000001007",
		"remote_raw": "322f3139322e302e322e372f343433", "segment": "1",
	} {
		if got := one(t, tape.Conn(), "SELECT "+column+" FROM connections"); got != want {
			t.Errorf("connections.%s = %s, want %s", column, got, want)
		}
	}
	want := "950|901|12|curl|/usr/bin/curl|NULL|0|1000|docker:abc|NULL|2026-01-01T00:00:00.000000900Z|2026-01-01T00:00:00.000000950Z|4|0|8388609|77|5|exec"
	got := one(t, tape.Conn(), `SELECT pid, ppid, pid_in_ns, comm, exe, script, cmdline_truncated, uid, container, unit,
		start_time, exec_time, exec_number, exe_memfd, exe_device, exe_inode, netns, source FROM processes WHERE comm = 'curl'`)
	if got != want {
		t.Errorf("process = %s\n     want %s", got, want)
	}
	if got := rows(t, tape.Conn(), "SELECT comm, ppid, loginuid FROM processes ORDER BY pid"); !slices.Equal(got, []string{"systemd|0|NULL", "bash|1|1000", "curl|901|1000"}) {
		t.Errorf("ancestors: %v", got)
	}
	if got := rows(t, tape.Conn(), "SELECT family, address, port FROM endpoints ORDER BY id"); !slices.Equal(got, []string{"ipv4|192.0.2.7|443", "ipv4|10.0.0.1|40000"}) {
		t.Errorf("endpoints: %v", got)
	}
	if names := files(t, dir); !slices.Equal(names, []string{"00000001.db", "lock"}) {
		t.Errorf("files after reading: %v", names)
	}
}

// The words of the view for families, types, protocols and outcomes.
func TestWords(t *testing.T) {
	dir := t.TempDir()
	w := mustOpenWriter(t, dir, options(second))
	x := newWorld()
	var batch Batch
	var want []string
	add := func(family uint16, s Shape, words string) {
		c := x.connection(2*second + uint64(len(want)))
		c.Remote, c.Shape, c.FD, c.Cookie = endpoint(family, "a", -1), &s, -1, 0
		batch.Connections = append(batch.Connections, c)
		want = append(want, words)
	}
	add(2, Shape{SocketFamily: 2, Type: 1, Protocol: 6}, "ipv4|ipv4|stream|tcp|established")
	add(10, Shape{SocketFamily: 10, Type: 2, Protocol: 17}, "ipv6|ipv6|dgram|udp|set")
	add(0, Shape{SocketFamily: 2, Type: 1, Protocol: 262}, "unspec|ipv4|stream|mptcp|disconnected")
	add(1, Shape{SocketFamily: 1, Type: 5}, "unix|unix|seqpacket|NULL|established")
	add(16, Shape{SocketFamily: 16, Type: 3, Protocol: 15}, "netlink|netlink|raw|15|set")
	add(99, Shape{SocketFamily: 77, Type: 99, Protocol: 0, Errno: 97}, "family 99|family 77|type 99|NULL|failed")
	add(2, Shape{SocketFamily: 2, Type: 3, Protocol: 255, HookErrno: 13, Errno: 13}, "ipv4|ipv4|raw|255|denied")
	add(2, Shape{SocketFamily: 2, Type: 3, Protocol: 0, HookErrno: Unknown, Errno: Unknown}, "ipv4|ipv4|raw|0|unknown")
	for errno, outcome := range map[int32]string{111: "refused", 110: "timed out", 101: "unreachable", 113: "unreachable",
		100: "unreachable", 112: "unreachable", 115: "unknown", 114: "already connecting", 11: "unknown", 104: "reset", 92: "unreachable", 125: "aborted",
		4: "interrupted", 512: "interrupted", 106: "already connected"} {
		add(40, Shape{SocketFamily: 40, Type: 6, Protocol: 1, Errno: errno}, "vsock|vsock|dccp|1|"+outcome)
	}
	mustAppend(t, w, batch)
	mustClose(t, w, 3*second)
	tape := mustOpenTape(t, dir)
	got := rows(t, tape.Conn(), "SELECT family, socket_family, type, protocol, outcome FROM connections ORDER BY id")
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if got := one(t, tape.Conn(), "SELECT DISTINCT coalesce(fd, cookie, remote_port, local_address) IS NULL FROM connections"); got != "1" {
		t.Error("unknown values are not NULL")
	}
}

// Batches overlap in time, and many events share a nanosecond: none is lost, and
// each is at its time or as near above it as can be.
func TestSameNanosecond(t *testing.T) {
	dir := t.TempDir()
	w := mustOpenWriter(t, dir, options(second))
	x := newWorld()
	var times []uint64
	for b := range 5 {
		var batch Batch
		for i := range 130 {
			boot := 2*second + uint64((i*37+b*50)%200) // unsorted, repeated, overlapping
			times = append(times, boot)
			c := x.connection(boot)
			c.Cookie = uint64(len(times))
			batch.Connections = append(batch.Connections, c)
		}
		mustAppend(t, w, batch)
	}
	mustClose(t, w, 3*second)
	tape := mustOpenTape(t, dir)
	ids := map[uint64]int64{}
	err := segment.Exec(tape.Conn(), func(q *sqlite.Stmt) error {
		ids[uint64(q.ColumnInt64(0))] = q.ColumnInt64(1)
		return nil
	}, "SELECT cookie, id FROM connections")
	if err != nil {
		t.Fatal(err)
	}
	if len(ids) != len(times) {
		t.Fatalf("%d rows, want %d", len(ids), len(times))
	}
	taken := map[int64]bool{}
	for _, id := range ids {
		taken[id] = true
	}
	for i, boot := range times {
		id, time := ids[uint64(i+1)], int64(boot)+epoch2026
		if id < time {
			t.Fatalf("row %d: id %d before its time %d", i, id, time)
		}
		for free := time; free < id; free++ {
			if !taken[free] {
				t.Fatalf("row %d: id %d though %d is free", i, id, free)
			}
		}
	}
}

// A connect that returns later gets its outcome, in the same batch or in another.
func TestUpdate(t *testing.T) {
	dir := t.TempDir()
	w := mustOpenWriter(t, dir, options(second))
	x := newWorld()
	pending := func(boot uint64, cookie uint64) Connection {
		c := x.connection(boot)
		c.Shape, c.Cookie = x.tcpPending, cookie
		return c
	}
	done := func(c Connection) Connection {
		c.Update, c.Shape = true, x.tcpRefused
		return c
	}
	a, b, c, d, e := pending(10*second, 1), pending(10*second, 2), pending(10*second, 3), pending(11*second, 0), pending(12*second, 5)
	mustAppend(t, w, Batch{Connections: []Connection{done(b), a, b, c, d, e}}) // even an update that comes first
	lost := done(pending(9*second, 77))
	mustAppend(t, w, Batch{Connections: []Connection{done(c), done(d), lost}})
	mustClose(t, w, 20*second)
	tape := mustOpenTape(t, dir)
	got := rows(t, tape.Conn(), "SELECT cookie, outcome, time_ns % 1000 FROM connections ORDER BY id")
	want := []string{"1|unknown|0", "2|refused|1", "3|refused|2", "NULL|refused|0", "5|unknown|0"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if n := tape.Segments()[0].Counters["store_updates_missed"]; n != 1 {
		t.Errorf("missed updates: %d, want 1", n)
	}
}

// What is interned is stored once: by pointer within a run, by value across runs.
func TestInterning(t *testing.T) {
	dir := t.TempDir()
	x := newWorld()
	for run := uint64(1); run <= 3; run++ {
		w := mustOpenWriter(t, dir, options(run*100*second))
		if run == 2 {
			x = newWorld() // other pointers, same values
		}
		for i := range uint64(3) {
			boot := run*100*second + i*second
			same := *x.v4 // a copy that brings its mark along
			copied := x.connection(boot + 1)
			copied.Remote = &same
			mustAppend(t, w, Batch{Connections: []Connection{x.connection(boot), copied}})
		}
		mustClose(t, w, run*100*second+50*second)
	}
	tape := mustOpenTape(t, dir)
	for table, want := range map[string]string{"endpoint": "1", "shape": "1", "process": "3", "connection": "18", "segment": "1", "run": "3"} {
		if got := one(t, connOf(t, tape, 1), "SELECT count(*) FROM "+table); got != want {
			t.Errorf("%s: %s rows, want %s", table, got, want)
		}
	}
	if got := one(t, tape.Conn(), "SELECT count(*), count(DISTINCT process_id) FROM connections"); got != "18|1" {
		t.Errorf("connections: %s", got)
	}
}

// A copy of a Task is a new Task, even though it was copied after it was written.
func TestCopiedTask(t *testing.T) {
	dir := t.TempDir()
	w := mustOpenWriter(t, dir, options(second))
	x := newWorld()
	mustAppend(t, w, Batch{Connections: []Connection{x.connection(2 * second)}})
	other := *x.task
	other.Tid, other.Comm, other.Cgroup, other.User = 952, "other", "", ""
	c := x.connection(3 * second)
	c.Task = &other
	mustAppend(t, w, Batch{Connections: []Connection{c}})
	mustClose(t, w, 4*second)
	tape := mustOpenTape(t, dir)
	got := rows(t, tape.Conn(), "SELECT tid, comm, cgroup, user, container FROM connections ORDER BY id")
	if want := []string{"951|resolver|/user.slice|ann|docker:abc", "952|other|NULL|NULL|docker:abc"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestProcessIDs(t *testing.T) {
	dir := t.TempDir()
	w := mustOpenWriter(t, dir, options(second))
	x := newWorld()
	// Somebody else sits on curl's id already.
	id := processID(testBoot, x.curl.Key)
	if err := w.seg.exec(`INSERT INTO process (id, boot, tgid, start_boot_ns, exec_number, cmdline_truncated, exe_deleted, exe_memfd, source, ancestry, batch)
		VALUES (?, 1, 5, 5, 5, 0, 0, 0, 'unknown', '?', 0)`, id); err != nil {
		t.Fatal(err)
	}
	// First nothing is known of the shell, then all; a third word is not needed.
	vague := &Process{Key: x.shell.Key, Source: SourceUnknown}
	early, late := x.connection(2*second), x.connection(3*second)
	early.Task = &Task{Process: vague, LoginUID: -1, SessionID: -1}
	third := *x.shell
	third.Exe = "/never"
	thirdConn := x.connection(4 * second)
	thirdConn.Task = &Task{Process: &third}
	mustAppend(t, w, Batch{Connections: []Connection{early}})
	if got := one(t, w.seg.conn, "SELECT uid, euid, loginuid, exe, source FROM process WHERE tgid = 901"); got != "NULL|NULL|NULL|NULL|unknown" {
		t.Errorf("unknown process: %s", got)
	}
	mustAppend(t, w, Batch{Connections: []Connection{late, thirdConn}})
	mustClose(t, w, 5*second)
	tape := mustOpenTape(t, dir)
	if got := one(t, tape.Conn(), "SELECT process_id FROM connections WHERE exe = '/usr/bin/curl'"); got != itoa(id+1) {
		t.Errorf("process id %s, want %d", got, id+1)
	}
	if got := one(t, tape.Conn(), "SELECT exe, source FROM processes WHERE pid = 901"); got != "/usr/bin/bash|exec" {
		t.Errorf("shell: %s", got)
	}
}

// A parent known by its key alone, and parents that form a ring.
func TestOddParents(t *testing.T) {
	dir := t.TempDir()
	w := mustOpenWriter(t, dir, options(second))
	x := newWorld()
	parent := ProcessKey{Tgid: 44, StartBoot: 4}
	orphan := &Process{Key: ProcessKey{Tgid: 45, StartBoot: 5}, PPID: 44, ParentKey: parent, Comm: "o", Source: SourceProc}
	ringA, ringB := &Process{Key: ProcessKey{Tgid: 61}, Comm: "a"}, &Process{Key: ProcessKey{Tgid: 62}, Comm: "b"}
	ringA.Parent, ringB.Parent = ringB, ringA
	c1, c2 := x.connection(2*second), x.connection(3*second)
	c1.Task, c2.Task = &Task{Process: orphan}, &Task{Process: ringA}
	mustAppend(t, w, Batch{Connections: []Connection{c1, c2}})
	mustClose(t, w, 4*second)
	tape := mustOpenTape(t, dir)
	if got := one(t, tape.Conn(), "SELECT parent_id, ppid, ancestry FROM connections WHERE pid = 45"); got != itoa(processID(testBoot, parent))+"|44|?(44) > o(45)" {
		t.Errorf("orphan: %s", got)
	}
	if got := one(t, tape.Conn(), "SELECT count(*) FROM processes WHERE pid IN (61, 62) AND parent_id IS NOT NULL"); got != "2" {
		t.Errorf("ring: %s processes", got)
	}
}

// A batch that cannot be written leaves no trace, and the next one works.
func TestBadBatch(t *testing.T) {
	dir := t.TempDir()
	w := mustOpenWriter(t, dir, options(second))
	x := newWorld()
	fresh := x.connection(2 * second)
	fresh.Shape = &Shape{Via: "kernel"}
	err := w.Append(Batch{Connections: []Connection{fresh, {BootTime: 3 * second}}})
	if !errors.Is(err, errIncomplete) {
		t.Fatalf("Append: %v", err)
	}
	mustAppend(t, w, Batch{Connections: []Connection{fresh}})
	mustClose(t, w, 4*second)
	if err := w.Append(Batch{}); !errors.Is(err, failure.ErrClosed) {
		t.Errorf("Append after Close: %v", err)
	}
	if err := w.Close(Gap{}, nil); !errors.Is(err, failure.ErrClosed) {
		t.Errorf("second Close: %v", err)
	}
	tape := mustOpenTape(t, dir)
	if got := rows(t, tape.Conn(), "SELECT via, comm, remote_address FROM connections"); !slices.Equal(got, []string{"kernel|resolver|192.0.2.7"}) {
		t.Errorf("rows: %q", got)
	}
}

func TestLock(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	w := mustOpenWriter(t, dir, options(second))
	_, err := OpenWriter(dir, options(second))
	if !errors.Is(err, failure.ErrLocked) || !strings.Contains(err.Error(), "by pid "+itoa(int64(os.Getpid()))+" since 2") || failure.HintOf(err) == "" {
		t.Errorf("second recorder: %v, hint %q", err, failure.HintOf(err))
	}
	mustClose(t, w, 2*second)
	w = mustOpenWriter(t, dir, options(3*second))
	mustClose(t, w, 4*second)
	for name, mode := range map[string]os.FileMode{"": 0o750, "lock": 0o600, "00000001.db": 0o640} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != mode {
			t.Errorf("mode of %q is %o, want %o", name, info.Mode().Perm(), mode)
		}
	}
}

// While it is recorded nothing but database, WAL and lock is there, and the lock
// that SQLite has on the database is one for writing: no reader gets past it.
func TestActiveFiles(t *testing.T) {
	dir := t.TempDir()
	w := mustOpenWriter(t, dir, options(second))
	defer mustClose(t, w, 9*second)
	mustAppend(t, w, Batch{Connections: []Connection{newWorld().connection(2 * second)}})
	if names := files(t, dir); !slices.Equal(names, []string{"00000001.db", "00000001.db-wal", "lock"}) {
		t.Errorf("files: %v", names)
	}
	if info, err := os.Stat(filepath.Join(dir, "00000001.db-wal")); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode of the WAL: %v, %v", info.Mode(), err)
	}
	held := func() bool { return lockHeld(t, filepath.Join(dir, "00000001.db")) }
	if !held() {
		t.Error("the database is not locked for writing")
	}
	l := newLoad(20, 50)
	l.boot = 3 * second
	conns := make([]Connection, 20_000)
	for range 10 {
		l.fill(conns)
		w.seg.checkpointed = time.Time{} // so that it checkpoints each time
		mustAppend(t, w, l.batch(conns))
		if !held() {
			t.Fatal("the lock was lost: something opened and closed the file")
		}
	}
	for pragma, want := range map[string]string{"locking_mode": "exclusive", "journal_mode": "wal", "synchronous": "2"} {
		if got := one(t, w.seg.conn, "PRAGMA "+pragma); got != want {
			t.Errorf("%s = %s, want %s", pragma, got, want)
		}
	}
}

// lockHeld reports whether this process has SQLite's lock for writing on a file.
func lockHeld(t testing.TB, path string) bool {
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("%d %d", tapedir.LockBytesStart, tapedir.LockBytesStart+tapedir.LockBytesLen-1)
	for line := range strings.Lines(string(locks)) {
		if strings.Contains(line, "POSIX  ADVISORY  WRITE "+itoa(int64(os.Getpid()))+" ") && strings.Contains(line, ":"+itoa(int64(info.Sys().(*syscall.Stat_t).Ino))+" ") && strings.HasSuffix(strings.TrimSpace(line), want) {
			return true
		}
	}
	return false
}
