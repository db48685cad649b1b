package capture

import (
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// An outage is a kill: the start of the killed recorder, the kill, how much later that was than meant, and the start of the next.
type outage struct {
	began, killed time.Time
	late          time.Duration
	back          time.Time
}

// TestKill9 kills the recorder twenty times at any moment. The tape opens each time, is sound, lacks at most the last
// second, and a gap covers all that is missing.
func TestKill9(t *testing.T) {
	dir := tempDir(t)
	tick := startTicker(t, 500*time.Microsecond)
	defer tick.stop()
	var outages []outage
	tape := record(t, dir)
	began := time.Now()
	begin := tick.count()
	for range scaled(20, 3) {
		after := time.Duration(200+rand.IntN(1600)) * time.Millisecond
		time.Sleep(after)
		tape.kill(t)
		o := outage{began: began, killed: time.Now()}
		o.late = o.killed.Sub(began) - after
		checkIntegrity(t, dir)
		rows(t, dir, `SELECT count(*) FROM connections`)
		tape = record(t, dir)
		o.back = time.Now()
		began = o.back
		outages = append(outages, o)
	}
	end := tick.count() - 1
	tape.end(t, 15)
	checkIntegrity(t, dir)
	a := checkAccount(t, dir) // what a killed recorder had counted and not written is lost
	t.Logf("counted, but never written by recorders that were killed: %d", a.lost)

	found := tick.onTape(t, dir)
	gaps := rows(t, dir, `SELECT * FROM gaps ORDER BY from_ns`)
	var worst time.Duration
	var of outage
	missing, twice, uncovered := 0, 0, 0
	for n := begin; n < end; n++ {
		if found[n] > 1 {
			twice++
		}
		if found[n] > 0 {
			continue
		}
		missing++
		at := tick.at[n]
		// Where this test was held up by a busy machine, so was the recorder.
		if age, o := ageAtKill(outages, at); age-o.late > worst-of.late {
			worst, of = age, o
		}
		if !inGap(gaps, at) {
			uncovered++
		}
	}
	t.Logf("%d kills; of %d connects %d are missing, the oldest by %v before its kill, which was %v after the recorder began and %v late; gaps:", len(outages), end-begin, missing, worst,
		of.killed.Sub(of.began), of.late)
	for _, g := range gaps {
		t.Logf("  %s to %s: %s %s", g.text("from_time"), g.text("to_time"), g.text("cause"), g.text("detail"))
	}
	if worst-of.late > time.Second+time.Duration(float64(time.Second)/env.scale) { // a batch is a second old at most, and then it is written
		t.Errorf("a connect is missing that was %v old at a kill that was %v late", worst, of.late)
	}
	if twice > 0 {
		t.Errorf("%d connects are there more than once", twice)
	}
	if uncovered > 0 {
		t.Errorf("%d missing connects lie in no gap", uncovered)
	}
}

// ageAtKill returns the age of a missing connect at the next kill.
func ageAtKill(outages []outage, at time.Time) (time.Duration, outage) {
	for _, o := range outages {
		if at.Before(o.back) {
			return o.killed.Sub(at), o
		}
	}
	return time.Hour, outage{}
}

func inGap(gaps []row, at time.Time) bool {
	ns := at.UnixNano()
	for _, g := range gaps {
		if g.int("from_ns") <= ns+int64(slack) && (g["to_ns"] == nil || ns-int64(slack) <= g.int("to_ns")) {
			return true
		}
	}
	return false
}

// checkIntegrity runs SQLite's own check on a copy of each segment, its WAL beside it.
func checkIntegrity(t *testing.T, dir string) {
	t.Helper()
	segments, err := filepath.Glob(filepath.Join(dir, "*.db"))
	if err != nil || len(segments) == 0 {
		t.Fatalf("segments of %s: %v %v", dir, segments, err)
	}
	for _, s := range segments {
		copied := filepath.Join(tempDir(t), filepath.Base(s))
		copyFile(t, s, copied)
		if _, err := os.Stat(s + "-wal"); err == nil {
			copyFile(t, s+"-wal", copied+"-wal")
		}
		if got := integrity(t, copied); got != "ok" {
			t.Errorf("%s: integrity_check says: %s", s, got)
		}
	}
}

func integrity(t *testing.T, path string) string {
	t.Helper()
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
	if err != nil {
		t.Fatalf("open %s: %v", path, err)
	}
	defer conn.Close()
	var said []string
	err = sqlitex.ExecuteTransient(conn, `PRAGMA integrity_check`, &sqlitex.ExecOptions{ResultFunc: func(stmt *sqlite.Stmt) error {
		said = append(said, stmt.ColumnText(0))
		return nil
	}})
	if err != nil {
		return err.Error()
	}
	return strings.Join(said, "; ")
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
}
