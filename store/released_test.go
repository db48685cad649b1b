package store

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/conntape/conntape/migrations"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
)

// A tape of every schema version that was released is kept in testdata, for ever:
// a sealed segment, and one whose recorder was killed, with its WAL. Each must be
// read, sealed and recorded on after by every later version.

// fixtureVariable makes the tape of the present version again. It may be used
// until that version is released, and never after.
const fixtureVariable = "CONNTAPE_TEST_WRITE_FIXTURE"

func fixtureDir(version int) string {
	return filepath.Join("testdata", "released", fmt.Sprint(version))
}

func TestReleasedVersions(t *testing.T) {
	if os.Getenv(fixtureVariable) != "" {
		writeReleased(t)
	}
	for version := 1; version <= migrations.Version; version++ {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "tape")
			if err := os.CopyFS(dir, os.DirFS(fixtureDir(version))); err != nil {
				t.Fatal(err)
			}
			for name, mode := range map[string]os.FileMode{"00000001.db": tapedir.ClosedMode, "00000002.db": tapedir.FileMode, "00000002.db-wal": tapedir.FileMode, "": tapedir.DirMode} {
				if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
					t.Fatal(err)
				}
			}
			golden := filepath.Join(dir, "answers.txt")
			text, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(golden); err != nil {
				t.Fatal(err)
			}
			want := string(text)
			if got := answers(t, dir); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			// The next recorder, on another host, closes it, seals it and goes on.
			o := options(100 * second)
			o.MachineID = "another-machine"
			o.BootID, o.Now.Real = "another-boot", epoch2026+int64(9000*second)
			w := mustOpenWriter(t, dir, o)
			mustAppend(t, w, Batch{Connections: []Connection{newWorld().connection(101 * second)}})
			waitSealed(t, w)
			mustClose(t, w, 110*second)
			tape := mustOpenTape(t, dir)
			if got := one(t, tape.Conn(), "SELECT group_concat(segment), group_concat(state) FROM (SELECT segment, state FROM segments ORDER BY 1)"); got != "1,2,3|closed,closed,stopped" {
				t.Errorf("segments %s", got)
			}
			if !hasSealIn(t, tape, 2) {
				t.Error("the second segment is not sealed")
			}
			tape.Close()
			if err := os.Remove(filepath.Join(dir, "00000003.db")); err != nil {
				t.Fatal(err)
			}
			withCrash := strings.Split(answers(t, dir), "\n")
			if !slices.ContainsFunc(withCrash, func(line string) bool { return strings.Contains(line, segment.CauseCrash) }) {
				t.Error("the crash is not told")
			}
			kept := slices.DeleteFunc(withCrash, func(line string) bool { return strings.Contains(line, segment.CauseCrash) })
			if got := strings.Join(kept, "\n"); got != want {
				t.Errorf("after sealing\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func hasSealIn(t *testing.T, tape *Tape, place int) bool {
	return len(rows(t, connOf(t, tape, place), "SELECT 1 FROM sqlite_schema WHERE name = 'seal'")) > 0
}

// answers are the rows of every view whose meaning cannot change.
func answers(t *testing.T, dir string) string {
	tape := mustOpenTape(t, dir)
	defer tape.Close()
	var b strings.Builder
	for _, query := range []string{
		"SELECT time, time_ns, last_time, count, pid, tid, ppid, comm, exe, cmdline, cwd, uid, user, gid, euid, loginuid, session_id, container, cgroup, netns, family, type, protocol, fd, via, local_address, local_port, remote_address, remote_port, remote_ip, hook_errno, errno, outcome, backend, process_id, parent_id, ancestry, cookie, remote_raw, segment FROM connections ORDER BY time_ns",
		"SELECT process_id, parent_id, pid, comm, exe, cmdline, start_time, exec_time, source, ancestry, segment FROM processes ORDER BY segment, process_id",
		"SELECT family, address, port, ip, raw, segment FROM endpoints ORDER BY segment, address",
		"SELECT from_time, to_time, cause, lost, detail, segment FROM gaps ORDER BY segment, id",
		"SELECT segment, tape_id, host, machine_id, boot_id, kernel, version, backend, blind_spots, seen, stored, coalesced, lost, from_time, to_time FROM segments ORDER BY segment",
	} {
		for _, row := range rows(t, tape.Conn(), query) {
			b.WriteString(strings.ReplaceAll(row, "\n", " / ") + "\n")
		}
	}
	return b.String()
}

// writeReleased makes the tape of the present version.
func writeReleased(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	w := mustOpenWriter(t, dir, options(1000*second))
	x := newWorld()
	several, slow := x.connection(1002*second), x.connection(1003*second)
	several.Count, several.LastBootTime, several.Local, several.Remote = 3, 1002*second+5, endpoint(2, "10.0.0.1", 40000), x.v6
	slow.Shape, slow.FD, slow.Cookie, slow.Remote = x.tcpPending, -1, 7, endpoint(10, "::ffff:192.0.2.7", 443)
	mustAppend(t, w, Batch{Connections: []Connection{x.connection(1001 * second), several, slow}, Now: 1004 * second,
		Gaps:     []Gap{{From: 1000 * second, To: 1000*second + 9, Cause: "ring full", Lost: 2, Detail: "too fast"}},
		Counters: segment.Counters{"seen": 7, "stored": 3, "coalesced": 2, "lost": 2}})
	w.now = func(string) (Anchor, error) { return at(1005 * second), nil }
	if err := w.Rotate(); err != nil {
		t.Fatal(err)
	}
	waitSealed(t, w)
	unix := x.connection(1006 * second)
	unix.Remote, unix.Shape = x.unix, &Shape{SocketFamily: 1, Type: 1, Via: "connect", AddressSource: "kernel", Backend: "fexit"}
	late := x.connection(1005*second + 1)
	mustAppend(t, w, Batch{Connections: []Connection{unix}, Now: 1007 * second, Counters: segment.Counters{"seen": 8, "stored": 4, "coalesced": 2, "lost": 2}})
	step := Anchor{Boot: 1008 * second, Real: epoch2026 + int64(1000*second), Kind: "step", Sync: "unsynchronized"}
	mustAppend(t, w, Batch{Connections: []Connection{late, x.connection(1009 * second)}, Anchors: []Anchor{step}, Now: 1010 * second,
		Counters: segment.Counters{"seen": 10, "stored": 6, "coalesced": 2, "lost": 2}})
	left := crash(t, w)
	to := fixtureDir(migrations.Version)
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"00000001.db", "00000002.db", "00000002.db-wal"} {
		data, err := os.ReadFile(filepath.Join(left, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(to, "answers.txt"), []byte(answers(t, left)), 0o644); err != nil {
		t.Fatal(err)
	}
	mustClose(t, w, 1011*second)
}

// A segment with a compatible feature that this program does not know is read, and
// neither gone on with nor sealed; with an incompatible one it is not even read.
func TestUnknownFeatures(t *testing.T) {
	for column, readable := range map[string]bool{"compatible": true, "incompatible": false} {
		dir := t.TempDir()
		w := mustOpenWriter(t, dir, options(100*second))
		mustAppend(t, w, Batch{Connections: []Connection{newWorld().connection(101 * second)}})
		if err := w.seg.exec("UPDATE segment SET " + column + " = 4"); err != nil {
			t.Fatal(err)
		}
		mustClose(t, w, 110*second)
		before := hashOfFile(t, filepath.Join(dir, "00000001.db"))
		for i := range uint64(2) {
			w = mustOpenWriter(t, dir, options((120+i)*second))
			if n, _ := w.Segment(); n != 2 {
				t.Errorf("%s: segment %d", column, n)
			}
			waitSealed(t, w)
			mustClose(t, w, (120+i)*second)
		}
		if hashOfFile(t, filepath.Join(dir, "00000001.db")) != before {
			t.Errorf("%s: it was written to", column)
		}
		tape := mustOpenTape(t, dir)
		if got := one(t, tape.Conn(), "SELECT count(*) FROM connections"); (got == "1") != readable {
			t.Errorf("%s: %s connections", column, got)
		}
		if cov, err := tape.Coverage(); err != nil || (len(cov.LeftOut) == 0) != readable {
			t.Errorf("%s: left out %+v, %v", column, cov.LeftOut, err)
		}
		tape.Close()
	}
}
