package store

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
)

// What checking each page costs, in turns with the same reads unchecked: of all connections of a sealed segment, row by row
// in Go, and of single ones with SQLite, each through a cache that has none of it. The least of all turns is reported.
func BenchmarkCheckedReads(b *testing.B) {
	dir := filepath.Join(b.TempDir(), "tape")
	w := mustOpenWriter(b, dir, options(999*second))
	l := newLoad(500, 5000)
	w.now = func(string) (Anchor, error) { return at(l.boot), nil }
	conns := make([]Connection, 20_000)
	const batches, points = 30, 1000
	for range batches {
		l.fill(conns)
		mustAppend(b, w, l.batch(conns))
	}
	if err := w.Rotate(); err != nil {
		b.Fatal(err)
	}
	waitSealed(b, w)
	path := filepath.Join(dir, tapedir.SegmentName(1))
	tables, err := segment.OpenTables(path)
	if err != nil {
		b.Fatal(err)
	}
	defer tables.Close()
	if err := segment.PeekAt(path, tables.Find); err != nil {
		b.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	unchecked := tablesWith(b, filepath.Join(b.TempDir(), "unchecked"), data[:len(data)/(pageSize+4)*pageSize], tables.Roots)
	defer unchecked.Close()
	var ids []int64
	scan := func(tables *segment.Tables) {
		ids = ids[:0]
		take := func(id, _, _, _ int64) error { ids = append(ids, id); return nil }
		if err := tables.Connections(b.Context(), tables.Roots["connection"], 0, 1<<62, segment.Wanted{}, take); err != nil || len(ids) != batches*len(conns) {
			b.Fatal(len(ids), err)
		}
	}
	look := func(conn *sqlite.Conn) error {
		r := rand.New(rand.NewPCG(1, 1))
		for range points {
			if err := segment.Exec(conn, nil, "SELECT task FROM connection WHERE id = ?", ids[r.IntN(len(ids))]); err != nil {
				return err
			}
		}
		return nil
	}
	file, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	run := func(read func(*os.File, func(*sqlite.Conn) error) error) func() {
		return func() {
			if err := read(file, look); err != nil {
				b.Fatal(err)
			}
		}
	}
	turns := []struct {
		name string
		per  int
		do   func()
		best time.Duration
	}{
		{"ns/row", batches * len(conns), func() { scan(tables) }, 0},
		{"ns/row-unchecked", batches * len(conns), func() { scan(unchecked) }, 0},
		{"ns/point", points, run(segment.PeekInto), 0},
		{"ns/point-unchecked", points, run(segment.PeekUnchecked), 0},
	}
	for b.Loop() {
		for i := range turns {
			began := time.Now()
			turns[i].do()
			if took := time.Since(began); turns[i].best == 0 || took < turns[i].best {
				turns[i].best = took
			}
		}
	}
	for _, turn := range turns {
		b.ReportMetric(float64(turn.best.Nanoseconds())/float64(turn.per), turn.name)
	}
}
