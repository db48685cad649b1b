package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/conntape/conntape/store/sqlitefile"
)

// sealedLoad writes a tape whose first segment is sealed, and opens it.
func sealedLoad(t *testing.T, connections, endpoints int) (tape *Tape, dir string) {
	t.Helper()
	dir = t.TempDir()
	w := mustOpenWriter(t, dir, options(100*second))
	l := newLoad(300, endpoints)
	w.now = func(string) (Anchor, error) { return at(l.boot), nil }
	conns := make([]Connection, connections)
	l.fill(conns)
	mustAppend(t, w, l.batch(conns))
	if err := w.Rotate(); err != nil {
		t.Fatal(err)
	}
	waitSealed(t, w)
	mustClose(t, w, l.boot+second)
	return mustOpenTape(t, dir), dir
}

// postingRows are what ScanPostings reads, and what SQLite reads of the same, as text.
func postingRows(t *testing.T, tape *Tape, remotes []int64, from, to int64) (got, want []string) {
	t.Helper()
	err := tape.ScanPostings(t.Context(), 0, remotes, from, to, func(remote int64, list []byte) error {
		got = append(got, fmt.Sprintf("%d|%X", remote, list))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows(t, connOf(t, tape, 1), fmt.Sprintf("SELECT remote, hex(list) FROM posting WHERE first_ns < %d AND last_ns >= %d ORDER BY remote, part", to, from)) {
		var remote int64
		fmt.Sscanf(row, "%d|", &remote)
		if _, asked := slices.BinarySearch(remotes, remote); asked || remotes == nil {
			want = append(want, row)
		}
	}
	return got, want
}

// ScanPostings reads what SQLite reads, of a table of one page and of one with branches, of all endpoints or of some.
func TestScanPostingsReadsLikeSQLite(t *testing.T) {
	const lowest, highest = -1 << 63, 1<<63 - 1
	for _, c := range []struct{ connections, endpoints int }{{3, 2000}, {500, 2000}, {60_000, 2000}, {60_000, 30}} { // of 30, each has several lists
		n := c.connections
		tape, _ := sealedLoad(t, n, c.endpoints)
		got, want := postingRows(t, tape, nil, lowest, highest)
		if !slices.Equal(got, want) || len(want) == 0 {
			t.Fatalf("%d connections: %d lists, want %d", n, len(got), len(want))
		}
		var most, first, last int64
		fmt.Sscanf(rows(t, connOf(t, tape, 1), "SELECT max(remote), min(first_ns), max(last_ns) FROM posting")[0], "%d|%d|%d", &most, &first, &last)
		for round := range 60 {
			remotes := []int64{}
			for range []int{0, 1, 2, 30, 1000}[round%5] {
				remotes = append(remotes, rand.Int64N(most+10)-3)
			}
			slices.Sort(remotes)
			remotes = slices.Compact(remotes)
			from, to := int64(lowest), int64(highest)
			if round%2 == 1 {
				from, to = first+rand.Int64N(last-first+1), first+rand.Int64N(last-first+1)
			}
			if got, want := postingRows(t, tape, remotes, from, to); !slices.Equal(got, want) && from < to {
				t.Errorf("%d connections, %d endpoints: %d lists, want %d", n, len(remotes), len(got), len(want))
			}
		}
	}
}

// Postings whose bytes are anything are read to an end, in order.
func TestScanPostingsOfDamagedTable(t *testing.T) {
	tape, dir := sealedLoad(t, 60_000, 2000)
	connOf(t, tape, 1)
	roots := tape.segs[0].reading.Tables.Roots
	root := int(roots["posting"]-1) * pageSize
	whole, err := os.ReadFile(filepath.Join(dir, "00000001.db"))
	if err != nil {
		t.Fatal(err)
	}
	whole = whole[:len(whole)/(pageSize+4)*pageSize] // without sums, which would tell
	if whole[root] != byte(sqlitefile.IndexBranch) {
		t.Fatalf("the root is of kind %d", whole[root])
	}
	path, said := filepath.Join(t.TempDir(), "damaged"), 0
	for round := range 400 {
		damaged := slices.Clone(whole)
		if round == 0 { // the root leads to itself
			for i := range 4 {
				damaged[root+8+i] = byte(roots["posting"] >> (24 - 8*i))
			}
		}
		damage(damaged, root, rand.IntN(3000))
		c := tablesWith(t, path, damaged, roots)
		var remotes []int64
		if round%2 == 1 {
			remotes = []int64{1, 70, 500, 1999}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		last := int64(-1 << 63)
		err := c.Postings(ctx, remotes, -1<<63, 1<<63-1, func(remote int64, list []byte) error {
			if remote < last || len(list) > pageSize {
				t.Errorf("round %d: %d after %d, %d bytes", round, remote, last, len(list))
			}
			last = remote
			return nil
		})
		if err != nil {
			said++
		}
		if ctx.Err() != nil {
			t.Errorf("round %d has no end", round)
		}
		cancel()
		c.Close()
	}
	if said < 100 {
		t.Errorf("%d of 400 rounds were said to be damaged", said)
	}
}
