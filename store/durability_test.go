package store

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/conntape/conntape/store/segment"
)

// playWrite records batches as fast as it can, with the real clocks, and says
// after each how many rows are on the disk. Arguments: directory, rows a batch.
func playWrite(args []string) error {
	o := options(0)
	o.Now = Anchor{}
	w, err := OpenWriter(args[0], o)
	if err != nil {
		return err
	}
	size, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	fmt.Println("ready")
	l := newLoad(50, 500)
	conns := make([]Connection, size)
	stored := uint64(0)
	for {
		now, err := ReadAnchor("")
		if err != nil {
			return err
		}
		l.boot = now.Boot
		l.fill(conns)
		stored += uint64(size)
		b := Batch{Connections: conns, Now: now.Boot, Counters: segment.Counters{"seen": stored, "stored": stored}}
		if err := w.Append(b); err != nil {
			return err
		}
		fmt.Println(stored)
	}
}

// playOnce opens the tape and says what is in it.
func playOnce(args []string) error {
	tape, err := OpenTape(args[0])
	if err != nil {
		return err
	}
	defer tape.Close()
	cov, err := tape.Coverage()
	if err != nil {
		return err
	}
	fmt.Println(cov.Recording, cov.PID)
	return nil
}

// checkWhole makes sure that a tape is sound, and that there are exactly the
// rows that its own counters claim. It returns their number.
func checkWhole(t testing.TB, dir string) (rowCount uint64) {
	tape, err := OpenTape(dir)
	if err != nil {
		t.Errorf("OpenTape: %v", err)
		return 0
	}
	defer tape.Close()
	cov, err := tape.Coverage()
	if err != nil {
		t.Errorf("Coverage: %v", err)
		return 0
	}
	if len(cov.LeftOut) != 0 {
		t.Errorf("left out: %+v", cov.LeftOut)
	}
	for i, seg := range tape.segs {
		if got := rows(t, connOf(t, tape, i+1), "PRAGMA integrity_check"); len(got) != 1 || got[0] != "ok" {
			t.Errorf("integrity of %s: %v", seg.Info.Path, got)
		}
	}
	stored := uint64(0)
	for _, seg := range tape.Segments() {
		stored += seg.Counters["stored"]
	}
	got := one(t, tape.Conn(), "SELECT count(*) FROM connections")
	if want := fmt.Sprint(stored); got != want {
		t.Errorf("%s rows, the counter says %s", got, want)
	}
	return stored
}

// While a recorder commits and checkpoints without a pause, readers come and go:
// what each sees is whole and consistent, and it does not go back.
func TestSnapshotWhileRecording(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	cmd := startChild(t, "write", dir, "2000")
	defer cmd.Process.Kill()
	stop := time.Now().Add(6 * time.Second)
	if testing.Short() {
		stop = time.Now().Add(2 * time.Second)
	}
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			last, n := uint64(0), 0
			for ; time.Now().Before(stop) && !t.Failed(); n++ {
				stored := checkWhole(t, dir)
				if stored < last {
					t.Errorf("%d rows after %d had been seen", stored, last)
				}
				last = stored
			}
			if n < 2 || last == 0 {
				t.Errorf("a reader read %d times, and saw %d rows at last", n, last)
			}
		})
	}
	readers.Wait()
	out, err := childCommand(t, "once", dir).Output()
	if err != nil || string(out) != fmt.Sprintf("true %d\n", cmd.Process.Pid) {
		t.Errorf("recording: %q, %v, want pid %d", out, err, cmd.Process.Pid)
	}
	wal, err := os.Stat(filepath.Join(dir, "00000001.db-wal"))
	if err != nil || wal.Size() > (checkpointPagesMax+1000)*(pageSize+24) {
		t.Errorf("WAL: %v, %v", wal.Size(), err)
	}
}

// kill -9 at any instant: the tape opens, is sound, has every batch that was
// reported, at most the one more that was not, and a gap for each death.
func TestKill(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	const batch = 500
	acknowledged := uint64(0)
	for round := range rounds(5, 10, 25) {
		cmd := childCommand(t, "write", dir, strconv.Itoa(batch))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// Early ones die while the segment is made or recovered.
		delay := time.Duration(rand.Int64N(int64(400 * time.Millisecond)))
		timer := time.AfterFunc(delay, func() { cmd.Process.Kill() })
		said := readAll(out)
		cmd.Wait()
		timer.Stop()
		if strings.Contains(said, "error") {
			t.Fatalf("round %d: %s", round, said)
		}
		lines := strings.Fields(said)
		reported := uint64(0)
		if n := len(lines); n > 1 && strings.HasSuffix(said, "\n") {
			reported, _ = strconv.ParseUint(lines[n-1], 10, 64)
		} else if n > 2 {
			reported, _ = strconv.ParseUint(lines[n-2], 10, 64)
		}
		if _, err := OpenTape(dir); err != nil && len(lines) == 0 {
			continue // killed before there was anything
		}
		stored := checkWhole(t, dir)
		if low, high := acknowledged+reported, acknowledged+reported+batch; stored < low || stored > high {
			t.Fatalf("round %d: %d rows, reported %d, so between %d and %d", round, stored, reported, low, high)
		}
		acknowledged = stored
	}
	w := mustOpenWriter(t, dir, func() WriterOptions { o := options(0); o.Now = Anchor{}; return o }())
	if err := w.Close(Gap{}, nil); err != nil {
		t.Fatal(err)
	}
	checkWhole(t, dir)
	tape := mustOpenTape(t, dir)
	runs, crashes := one(t, tape.Conn(), "SELECT sum(runs) FROM segments"), one(t, tape.Conn(), "SELECT count(*) FROM gaps WHERE cause = 'crash' AND to_ns IS NOT NULL")
	if n, _ := strconv.Atoi(runs); fmt.Sprint(n-1) != crashes {
		t.Errorf("%s runs, %s crashes", runs, crashes)
	}
	if got := one(t, tape.Conn(), "SELECT count(*) FROM gaps WHERE cause = 'start'"); got != "1" {
		t.Errorf("%s starts", got)
	}
	t.Logf("%s runs, %s crash gaps, %d rows", runs, crashes, acknowledged)
}
