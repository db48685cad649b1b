package store

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapelog"
)

// The same events, recorded with other batch sizes, rotation points and numbers of
// segments, give the same answers.
func TestSettingsDoNotChangeAnswers(t *testing.T) {
	const total = 6000
	questions := []string{
		"SELECT time, time_ns, last_time, count, pid, tid, comm, exe, cmdline, uid, user, container, family, type, protocol, fd, local_address, remote_address, remote_port, errno, outcome, ancestry, cookie, process_id FROM connections ORDER BY cookie",
		"SELECT exe, remote_address, count(*), sum(count), min(time_ns), max(time_ns) FROM connections GROUP BY 1, 2 ORDER BY 1, 2",
		"SELECT outcome, count(*) FROM connections GROUP BY 1 ORDER BY 1",
		"SELECT time_ns FROM connections WHERE time_ns > 1767226601000000000 ORDER BY time_ns DESC LIMIT 50",
		"SELECT count(*) FROM connections WHERE remote_address = '10.0.0.7'",
		"SELECT DISTINCT process_id, parent_id, exe, cmdline, start_time, ancestry, source FROM processes ORDER BY 1",
		"SELECT DISTINCT family, address, port, raw FROM endpoints ORDER BY 2",
		"SELECT sum(seen), sum(stored), sum(lost) FROM segments",
		"SELECT from_time, to_time, cause, lost FROM gaps WHERE cause <> 'stopped' ORDER BY 1",
	}
	var want []string
	for _, setting := range []struct{ batch, rotate, perStatement int }{
		{2 * total, 0, 0}, {1, 2000, 0}, {7, 1000, 3}, {100, 7, 50}, {997, 1, 0}, {2000, 1, 1},
	} {
		dir := filepath.Join(t.TempDir(), "tape")
		w := mustOpenWriter(t, dir, options(1000*second))
		l := newLoad(15, 60)
		w.now = func(string) (Anchor, error) { return at(l.boot), nil }
		events := metamorphicEvents(l, total)
		end := l.boot
		c := segment.Counters{}
		for n := 0; len(events) > 0; n++ {
			part := events[:min(len(events), setting.batch)]
			events = events[len(part):]
			if w.seg.rows.many == nil {
				w.seg.rows.size = setting.perStatement
			}
			for i := range part {
				l.boot = max(l.boot, part[i].BootTime)
				switch {
				case part[i].Update:
					c["updated"]++
				case part[i].Shape.Errno == Unknown:
					c["in_flight_stored"]++
					fallthrough
				default:
					c["seen"]++
					c["stored"]++
				}
			}
			b := Batch{Connections: part, Now: l.boot, Counters: maps.Clone(c)}
			if n == 0 {
				b.Gaps = []Gap{{From: 1000 * second, To: 1000*second + 5, Cause: "ring full", Lost: 2}}
			}
			mustAppend(t, w, b)
			if setting.rotate > 0 && n%setting.rotate == setting.rotate-1 {
				w.writing.Lock()
				err := w.rotate(ReasonSize)
				w.writing.Unlock()
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		mustClose(t, w, end)
		tape := mustOpenTape(t, dir)
		var got []string
		for _, q := range questions {
			got = append(got, strings.Join(rows(t, tape.Conn(), q), "\n"))
		}
		if want == nil {
			want = got
			continue
		}
		for i, q := range questions {
			if got[i] != want[i] {
				t.Errorf("%+v, %d segments: other answer to %.60s\n%.300s\nwant\n%.300s", setting, len(tape.segs), q, got[i], want[i])
			}
		}
		tape.Close()
	}
}

// metamorphicEvents are connects, some of which stand for several, and some of
// which return only after others have begun.
func metamorphicEvents(l *load, total int) []Connection {
	conns := make([]Connection, total)
	l.fill(conns)
	var events, open []Connection
	pending := *l.shapes[0]
	pending.Errno = Unknown
	for i, c := range conns {
		if i%50 == 0 {
			c.Count, c.LastBootTime = 3, c.BootTime+500
		}
		if i%97 == 0 {
			result := c
			result.Update = true
			open = append(open, result)
			c.Shape = &pending
		}
		events = append(events, c)
		if i%97 == 90 {
			events, open = append(events, open...), nil
		}
	}
	return append(events, open...)
}

// A reader has the tape open while retention removes everything that it reads: its
// answers stay right. One that comes later is told what is there.
func TestReaderOutlivesRetention(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	w := recordHours(t, dir, options(3600*second), 8)
	tape := mustOpenTape(t, dir)
	stmt, _, err := tape.Conn().PrepareTransient("SELECT remote_address FROM connections ORDER BY time_ns")
	if err != nil {
		t.Fatal(err)
	}
	defer stmt.Finalize()
	if more, err := stmt.Step(); !more || err != nil {
		t.Fatal(err)
	}
	for w.expireOldest(tapelog.ExpiredSize) {
	}
	n := 1
	for more := true; more; n++ {
		if more, err = stmt.Step(); err != nil {
			t.Fatal(err)
		}
	}
	if got := one(t, tape.Conn(), "SELECT count(*), count(DISTINCT segment) FROM connections"); got != "8|4" || n != 9 {
		t.Errorf("%s, %d rows", got, n-1)
	}
	if got := one(t, mustOpenTape(t, dir).Conn(), "SELECT count(*) FROM connections"); got != "2" {
		t.Errorf("a new reader sees %s", got)
	}
	mustClose(t, w, 9*3600*second)
}

// Readers come and go while segments are closed, sealed and removed dozens of times
// a second: none fails, and none sees a hole.
func TestReadersWhileRotating(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	o := options(999 * second)
	o.Limits = small
	w := mustOpenWriter(t, dir, o)
	l := newLoad(10, 40)
	w.now = func(string) (Anchor, error) { return at(l.boot), nil }
	mustAppend(t, w, l.batch(nil))
	reads, done := 0, make(chan struct{})
	stop := watch(func() {
		runtime.LockOSThread() // the child dies with the thread that started it, and those that sealed end
		defer runtime.UnlockOSThread()
		out, err := childCommand(t, "read", dir).Output()
		if err != nil || string(out) != "ok\n" {
			t.Errorf("reader: %q, %v", out, err)
		}
		if reads++; reads == rounds(3, 8, 100) {
			close(done)
		}
	})
	conns := make([]Connection, 200)
	for i := 0; ; i++ {
		select {
		case <-done:
			stop()
			mustClose(t, w, l.boot)
			return
		default:
		}
		l.fill(conns)
		mustAppend(t, w, l.batch(conns))
		if i%20 == 19 {
			if err := w.Rotate(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// playRead opens a tape and looks for holes. Argument: directory.
func playRead(args []string) error {
	tape, err := OpenTape(args[0])
	if err != nil {
		return err
	}
	defer tape.Close()
	cov, err := tape.Coverage()
	if err != nil {
		return err
	}
	for _, l := range cov.LeftOut {
		if !errors.Is(l.Err, segment.ErrGone) {
			return l.Err
		}
	}
	hole := ""
	err = segment.Exec(tape.Conn(), func(q *sqlite.Stmt) error { hole = q.ColumnText(0); return nil },
		"SELECT coalesce(max(cookie) - min(cookie) + 1 - count(*), 0) FROM connections")
	left := tape.LeftOut()
	if met := tape.Damage(); len(met) > 0 {
		left, err = met, nil
	}
	for _, l := range left {
		if !errors.Is(l.Err, segment.ErrGone) {
			return errors.Join(err, l.Err)
		}
		hole = "0" // the answer says itself that it is not whole
	}
	if err == nil && hole != "0" {
		err = fmt.Errorf("a hole of %s", hole)
	}
	if err == nil {
		fmt.Println("ok")
	}
	return err
}
