package store

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
)

// A reader takes the names of sealed segments for the files of the manifest by their inodes alone. Of what it opens it notices what was
// changed since: another mode does no harm, and the rows of another segment do not count twice.
func TestSealedSegmentChangedInPlace(t *testing.T) {
	dir := smallTape(t, 4)
	first := filepath.Join(dir, tapedir.SegmentName(1))
	ask := func() (addresses []string, leftOut int) {
		t.Helper()
		tape := mustOpenTape(t, dir)
		addresses = rows(t, tape.Conn(), "SELECT remote_address FROM connections ORDER BY 1")
		cov, err := tape.Coverage()
		if err != nil {
			t.Fatal(err)
		}
		if err := tape.Close(); err != nil {
			t.Error(err)
		}
		return addresses, len(cov.LeftOut)
	}
	all := []string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"}
	if got, leftOut := ask(); !slices.Equal(got, all) || leftOut != 0 {
		t.Fatalf("%v, %d left out", got, leftOut)
	}
	if err := os.Chmod(first, 0o660); err != nil {
		t.Fatal(err)
	}
	if mode := mustOpenTape(t, dir).segs[0].Stat.Mode().Perm(); mode != tapedir.ClosedMode {
		t.Errorf("the file was looked at: mode %o", mode)
	}
	if got, leftOut := ask(); !slices.Equal(got, all) || leftOut != 0 {
		t.Errorf("another mode: %v, %d left out", got, leftOut)
	}
	if err := mustOpenTape(t, dir).LookAtFiles(); err != nil {
		t.Errorf("another mode: %v", err)
	}
	link := first + ".held" // another link, as of a hold, changes a time of the file too
	if err := os.Link(first, link); err != nil {
		t.Fatal(err)
	}
	tape := mustOpenTape(t, dir)
	var asking sync.WaitGroup
	for range 4 {
		asking.Go(func() {
			tables, release, err := tape.tablesOf(0)
			if err != nil {
				t.Error(err)
				return
			}
			defer release()
			if tables.Roots["connection"] == 0 {
				t.Error("no table")
			}
		})
		asking.Go(func() {
			if err := tape.LookAtFiles(); err != nil {
				t.Error(err)
			}
		})
	}
	asking.Wait()
	if damage := tape.Damage(); len(damage) != 0 {
		t.Error(damage)
	}
	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(first)
	if err != nil {
		t.Fatal(err)
	}
	other, err := os.ReadFile(filepath.Join(dir, tapedir.SegmentName(2)))
	if err == nil {
		err = os.WriteFile(first, other, 0)
	}
	after, serr := os.Stat(first)
	if err != nil || serr != nil || !os.SameFile(before, after) {
		t.Fatal(err, serr)
	}
	tape = mustOpenTape(t, dir)
	if err := tape.LookAtFiles(); !errors.Is(err, failure.ErrDamaged) || len(tape.Damage()) != 1 {
		t.Errorf("another segment in its place: %v, %v", err, tape.Damage())
	}
	err = segment.Exec(mustOpenTape(t, dir).Conn(), func(*sqlite.Stmt) error { return nil }, "SELECT * FROM connections")
	if err == nil {
		t.Error("the rows of another segment count twice")
	}
	if err := os.Truncate(first, int64(len(other)/2)); err != nil {
		t.Fatal(err)
	}
	tape = mustOpenTape(t, dir)
	if err := tape.LookAtFiles(); !errors.Is(err, failure.ErrDamaged) || len(tape.Damage()) != 1 {
		t.Errorf("half of it: %v, %v", err, tape.Damage())
	}
}
