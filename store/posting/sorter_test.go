package posting

import (
	"cmp"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// Rows come out in order, however few fit into memory.
func TestSorter(t *testing.T) {
	r := rand.New(rand.NewPCG(10, 11))
	for i := range 60 {
		want := someRows(r, 1+r.IntN(3000))
		rows := slices.Clone(want)
		slices.SortStableFunc(rows, func(a, b Row) int { return cmp.Compare(a.ID, b.ID) })
		files := 0
		s := NewSorter([]int{1, 7, 100, 1000, len(rows), len(rows) + 1}[i%6], func() (File, error) {
			files++
			return os.Create(filepath.Join(t.TempDir(), "rows"))
		})
		for _, row := range rows {
			if err := s.Add(row); err != nil {
				t.Fatal(err)
			}
		}
		var got []Row
		if err := s.Each(func(r Row) error { got = append(got, r); return nil }); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("round %d: %d rows in, %d out, or in another order", i, len(rows), len(got))
		}
		if most := s.most; (files == 1) != (len(rows) > most) {
			t.Errorf("%d rows, %d in memory: %d files", len(rows), most, files)
		}
	}
}

// brokenFile fails at the n-th call.
type brokenFile struct {
	*os.File
	left *int
}

var errBroken = errors.New("broken")

func (f brokenFile) Write(p []byte) (int, error) {
	if *f.left--; *f.left < 0 {
		return 0, errBroken
	}
	return f.File.Write(p)
}

func (f brokenFile) ReadAt(p []byte, at int64) (int, error) {
	if *f.left--; *f.left < 0 {
		return 0, errBroken
	}
	return f.File.ReadAt(p, at)
}

// Each failure is returned, and none is taken for the end.
func TestSorterErrors(t *testing.T) {
	rows := someRows(rand.New(rand.NewPCG(12, 13)), 2000)
	slices.SortStableFunc(rows, func(a, b Row) int { return cmp.Compare(a.ID, b.ID) })
	failed := 0
	for n := 0; ; n++ {
		left := n
		s := NewSorter(100, func() (File, error) {
			if left--; left < 0 {
				return nil, errBroken
			}
			f, err := os.Create(filepath.Join(t.TempDir(), "rows"))
			return brokenFile{f, &left}, err
		})
		var err error
		for _, row := range rows {
			if err = s.Add(row); err != nil {
				break
			}
		}
		seen := 0
		if err == nil {
			err = s.Each(func(Row) error { seen++; return nil })
		}
		s.Close()
		if err == nil {
			if seen != len(rows) || failed < 20 {
				t.Errorf("after %d failures: %d of %d rows", failed, seen, len(rows))
			}
			return
		}
		if failed++; !errors.Is(err, errBroken) {
			t.Fatalf("call %d: %v", n, err)
		}
	}
}

func BenchmarkSorter(b *testing.B) {
	r := rand.New(rand.NewPCG(7, 8))
	rows := make([]Row, 1_000_000)
	for i := range rows {
		rows[i] = Row{Remote: int64(5000 * r.Float64() * r.Float64()), Task: r.Int64N(500), Shape: 1, ID: int64(i) * 80_000_000, Connects: 1}
	}
	dir := b.TempDir()
	for b.Loop() {
		s := NewSorter(1<<17, func() (File, error) { return os.Create(filepath.Join(dir, "rows")) })
		for _, row := range rows {
			if err := s.Add(row); err != nil {
				b.Fatal(err)
			}
		}
		p := NewBuilder(func(*Part) error { return nil })
		if err := errors.Join(s.Each(p.Add), p.Flush(), s.Close()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(rows)), "ns/row")
}
