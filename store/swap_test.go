package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/proof"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
)

// exchange exchanges what two names lead to, again and again until the test ends.
func exchange(t *testing.T, a, b string) {
	t.Helper()
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			default:
			}
			if err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE); err != nil {
				t.Error(err)
				return
			}
			time.Sleep(time.Duration(time.Now().Nanosecond()%50) * time.Microsecond)
		}
	}()
	t.Cleanup(func() { close(done); <-ended })
}

// forgeTwin copies a tape, and alters its first segment, with sums that fit.
func forgeTwin(t *testing.T, dir string) string {
	t.Helper()
	twin := copyTape(t, dir)
	if err := os.Remove(filepath.Join(twin, segment.ManifestName)); err != nil {
		t.Fatal(err)
	}
	alter(t, twin, 1, "UPDATE connection SET id = id + 100 * 1000000000")
	sumAgain(t, filepath.Join(twin, tapedir.SegmentName(1)))
	return twin
}

// lookTwice returns what is told of the first segment, what SQLite reads of it, and what is read of it without SQLite;
// left says that it was left out, which is said.
func lookTwice(t *testing.T, dir string) (told, asked string, scanned int64, left bool) {
	t.Helper()
	tape, err := OpenTape(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer tape.Close()
	if span := tape.Spans()[0]; span.Number == 1 {
		told = fmt.Sprint(span.First, span.Last)
	}
	asked = fmt.Sprint(rows(t, tape.Conn(), "SELECT min(time_ns), max(time_ns) FROM connections WHERE segment = 1"))
	err = tape.ScanConnections(t.Context(), 0, 0, 1<<62, segment.Wanted{}, func(id, _, _, _ int64) error {
		if scanned == 0 {
			scanned = id
		}
		return nil
	})
	if err != nil && !errors.Is(err, segment.ErrGone) {
		t.Fatal(err)
	}
	return told, asked, scanned, len(tape.LeftOut()) > 0
}

// swapTime is for how long tapes are read whose names are exchanged.
const swapTime = time.Second

// A segment that is exchanged for another again and again while a tape is opened and asked: what is told of it, what SQLite
// reads of it, and what is read of it without SQLite, are of the same file, or it is left out.
func TestSegmentSwappedWhileRead(t *testing.T) {
	s := recordTape(t, filepath.Join(t.TempDir(), "tape"), 3)
	twin := forgeTwin(t, s.dir)
	one := func(told, asked string, scanned int64, _ bool) string { return fmt.Sprint(told, asked, scanned) }
	whole := map[string]int{one(lookTwice(t, s.dir)): 0, one(lookTwice(t, twin)): 0}
	if len(whole) != 2 {
		t.Fatalf("the twins do not differ: %v", whole)
	}
	forged := filepath.Join(s.dir, "forged")
	if err := os.Rename(filepath.Join(twin, tapedir.SegmentName(1)), forged); err != nil {
		t.Fatal(err)
	}
	exchange(t, filepath.Join(s.dir, tapedir.SegmentName(1)), forged)
	tries, left := 0, 0
	for until := time.Now().Add(swapTime); time.Now().Before(until); tries++ {
		told, asked, scanned, out := lookTwice(t, s.dir)
		if out {
			left++
			continue
		}
		answer := one(told, asked, scanned, false)
		if _, ok := whole[answer]; !ok {
			t.Fatalf("try %d: told %s, asked %s, scanned %d: of two files", tries, told, asked, scanned)
		}
		whole[answer]++
	}
	t.Logf("%d tries: %d times left out, %v", tries, left, whole)
}

// The directory is exchanged for another, as its owner or that of one above it could: all of an answer is of one of them.
func TestDirectorySwappedWhileRead(t *testing.T) {
	s := recordTape(t, filepath.Join(t.TempDir(), "tape"), 3)
	twin := copyTape(t, s.dir)
	for n := 1; n <= 3; n++ {
		alter(t, twin, n, "UPDATE endpoint SET port = 1")
		if n < 3 {
			sumAgain(t, filepath.Join(twin, tapedir.SegmentName(n)))
		}
	}
	exchange(t, s.dir, twin)
	tries, of := 0, [2]int{}
	for until := time.Now().Add(swapTime); time.Now().Before(until); tries++ {
		tape, err := OpenTape(s.dir)
		if err != nil {
			t.Fatal(err)
		}
		forged := 0
		for n := 1; n <= 3; n++ {
			ports := rows(t, tape.Conn(), fmt.Sprintf("SELECT max(remote_port) = 1 FROM connections WHERE segment = %d", n))
			if ports[0] == "1" {
				forged++
			}
		}
		if c, err := tape.Coverage(); err != nil || len(c.LeftOut) > 0 {
			t.Errorf("%+v, %v", c.LeftOut, err)
		}
		tape.Close()
		if forged%3 != 0 {
			t.Fatalf("try %d: %d of 3 segments are those of the other directory", tries, forged)
		}
		of[forged/3]++
	}
	t.Logf("%d tries: %v", tries, of)
}

// One segment under the name of another: its rows would count twice. As another file it is left out at once. In the same file, of
// which the manifest tells, it is found when it is opened, and left out by a tape that is opened without it.
func TestSegmentUnderAnotherName(t *testing.T) {
	for name, inPlace := range map[string]bool{"another file": false, "in place": true} {
		t.Run(name, func(t *testing.T) {
			s := recordTape(t, filepath.Join(t.TempDir(), "tape"), 3)
			path := filepath.Join(s.dir, tapedir.SegmentName(2))
			whole, err := os.ReadFile(filepath.Join(s.dir, tapedir.SegmentName(1)))
			if err != nil {
				t.Fatal(err)
			}
			if inPlace {
				if err := errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, whole, 0), os.Chmod(path, tapedir.ClosedMode)); err != nil {
					t.Fatal(err)
				}
			} else {
				replaceFile(t, filepath.Join(s.dir, tapedir.SegmentName(1)), path)
			}
			tape := mustOpenTape(t, s.dir)
			if inPlace {
				if got, err := count(tape.Conn()); err == nil {
					t.Fatalf("%d rows of two segments and a segment that is another", got)
				}
				met := tape.Damage()
				if len(met) != 1 || met[0].Path != path || !errors.Is(met[0].Err, failure.ErrDamaged) {
					t.Fatalf("damage: %v", met)
				}
				if tape, err = OpenTape(s.dir, met...); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { tape.Close() })
			}
			if got, err := count(tape.Conn()); err != nil || got != 2000 {
				t.Errorf("%d rows of two segments, %v", got, err)
			}
			if left := tape.LeftOut(); len(left) != 1 || left[0].Path != path {
				t.Errorf("left out: %v", left)
			}
			if text := problems(s.verify(t, proof.Options{})); text == "" {
				t.Error("verify says nothing")
			}
		})
	}
}

// count counts the connections of a tape.
func count(conn *sqlite.Conn) (n int64, err error) {
	err = segment.Exec(conn, func(q *sqlite.Stmt) error { n = q.ColumnInt64(0); return nil }, "SELECT count(*) FROM connections")
	return n, err
}
