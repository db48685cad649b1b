package posting

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// build packs rows and copies the parts.
func build(t testing.TB, rows []Row) (parts []Part) {
	t.Helper()
	b := NewBuilder(func(p *Part) error {
		q := *p
		q.List = bytes.Clone(p.List)
		parts = append(parts, q)
		return nil
	})
	for _, r := range rows {
		if err := b.Add(r); err != nil {
			t.Fatalf("%+v: %v", r, err)
		}
	}
	if err := b.Flush(); err != nil {
		t.Fatal(err)
	}
	return parts
}

// read unpacks parts, and compares each with its columns.
func read(t testing.TB, parts []Part) (rows []Row) {
	t.Helper()
	for _, p := range parts {
		of, err := unpack(p.Remote, p.List)
		if err != nil {
			t.Fatalf("endpoint %d, part %d: %v", p.Remote, p.Number, err)
		}
		connects, first, last := int64(0), int64(math.MaxInt64), int64(math.MinInt64)
		for _, r := range of {
			connects, first, last = connects+r.Connects, min(first, r.ID), max(last, r.ID)
		}
		if int64(len(of)) != p.Rows || connects != p.Connects || first != p.First || last != p.Last {
			t.Fatalf("endpoint %d, part %d: %d rows, %d connects, %d to %d, and it says %+v", p.Remote, p.Number, len(of), connects, first, last, p)
		}
		rows = append(rows, of...)
	}
	return rows
}

// unpack reads a list.
func unpack(remote int64, list []byte) (rows []Row, err error) {
	r := NewReader(list)
	for r.Next() {
		n, connects := int64(0), int64(0)
		for id, c, ok := r.Row(); ok; id, c, ok = r.Row() {
			if n == 0 && id != r.First {
				return nil, errors.New("another first row")
			}
			rows = append(rows, Row{remote, r.Task, r.Shape, id, c})
			n, connects = n+1, connects+c
		}
		if r.Err() == nil && (n != r.Rows || connects != r.Connects) {
			return nil, errors.New("another number of rows")
		}
	}
	return rows, r.Err()
}

// someRows makes rows in order, with few or many per endpoint and group.
func someRows(r *rand.Rand, n int) (rows []Row) {
	for range n {
		row := Row{Remote: int64(r.IntN(1 + r.IntN(20))), Task: int64(r.IntN(1 + r.IntN(300))), Shape: 1 + int64(r.IntN(3)),
			ID: 1_767_225_600_000_000_000 + r.Int64N(3600e9), Connects: 1}
		switch r.IntN(40) {
		case 0:
			row.Connects += r.Int64N(1 << r.IntN(33))
		case 1:
			row.ID, row.Task, row.Shape, row.Remote = int64(r.Uint64()), int64(r.Uint64()), int64(r.Uint64()), int64(r.Uint64())
		case 2:
			row.ID = []int64{math.MinInt64, math.MaxInt64, 0, -1}[r.IntN(4)]
		}
		rows = append(rows, row)
	}
	order := func(a, b Row) int {
		switch {
		case a.less(&b):
			return -1
		case b.less(&a):
			return 1
		}
		return 0
	}
	slices.SortFunc(rows, order)
	return slices.CompactFunc(rows, func(a, b Row) bool { return order(a, b) == 0 })
}

// Packed rows come out again, in parts as long as allowed.
func TestRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 300 {
		rows := someRows(r, 1+r.IntN(1+i*20))
		parts := build(t, rows)
		if got := read(t, parts); !slices.Equal(got, rows) {
			t.Fatalf("%d rows in, %d out", len(rows), len(got))
		}
		taken := 0
		for n, p := range parts {
			taken += int(p.Rows)
			if len(p.List) > MostBytes {
				t.Fatalf("%d bytes", len(p.List))
			}
			next := n+1 < len(parts) && parts[n+1].Remote == p.Remote
			if number := parts[min(n+1, len(parts)-1)].Number; next && number != p.Number+1 {
				t.Fatalf("part %d after %d", number, p.Number)
			}
			if n == 0 || parts[n-1].Remote != p.Remote {
				if p.Number != 0 {
					t.Fatalf("part %d comes first", p.Number)
				}
			}
			if !next {
				continue
			}
			// One row more would have been too long.
			if more := packed(rows[taken-int(p.Rows) : taken+1]); more <= MostBytes {
				t.Fatalf("a part of %d bytes, and the next row makes it %d", len(p.List), more)
			}
		}
	}
}

// packed returns the length of a list of rows of one endpoint, without the limit.
func packed(rows []Row) (size int) {
	b := NewBuilder(nil)
	for i := range rows {
		r := &rows[i]
		if i > 0 && (r.Task != b.last.Task || r.Shape != b.last.Shape) {
			b.closeGroup()
		}
		b.push(r)
	}
	b.closeGroup()
	return len(b.part.List)
}

// Groups can be skipped, whole or after some of their rows.
func TestSkip(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		rows := someRows(r, 400)
		i := 0
		for _, p := range build(t, rows) {
			d := NewReader(p.List)
			for d.Next() {
				if rows[i].Task != d.Task || rows[i].Shape != d.Shape || rows[i].ID != d.First {
					t.Fatalf("row %d: %+v", i, rows[i])
				}
				for n := range r.Int64N(d.Rows + 1) {
					if id, _, ok := d.Row(); !ok || id != rows[i+int(n)].ID {
						t.Fatalf("row %d", i)
					}
				}
				i += int(d.Rows)
			}
			if d.Err() != nil {
				t.Fatal(d.Err())
			}
		}
		if i != len(rows) {
			t.Fatalf("%d of %d rows", i, len(rows))
		}
	}
}

func TestBuilderRefuses(t *testing.T) {
	good := Row{5, 5, 5, 5, 1}
	for _, bad := range []Row{{4, 9, 9, 9, 1}, {5, 4, 9, 9, 1}, {5, 5, 4, 9, 1}, {5, 5, 5, 4, 1}, good, {6, 1, 1, 1, 0}, {6, 1, 1, 1, -1}} {
		b := NewBuilder(func(*Part) error { return nil })
		if err := b.Add(good); err != nil {
			t.Fatal(err)
		}
		if err := b.Add(bad); !errors.Is(err, ErrOrder) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	full := errors.New("full")
	b := NewBuilder(func(*Part) error { return full })
	if err := b.Add(good); err != nil {
		t.Fatal(err)
	}
	if err := b.Add(Row{6, 1, 1, 1, 1}); err != full {
		t.Errorf("error %v", err)
	}
}

// The bytes are those that docs/format.md describes.
func TestBytes(t *testing.T) {
	for _, c := range []struct {
		rows []Row
		want []byte
	}{
		{[]Row{{1, 7, 2, 1000, 1}}, []byte{7, 2, 1, 0, 0xd0, 0x0f}},
		{[]Row{{1, 7, 2, 1000, 1}, {1, 7, 2, 1001, 1}, {1, 7, 2, 1200, 1}}, []byte{7, 2, 3, 0, 0xd0, 0x0f, 1, 0xc7, 1}},
		{[]Row{{1, 7, 2, 1000, 1}, {1, 7, 3, 998, 1}, {1, 8, 2, 999, 4}, {1, 8, 2, 1009, 1}}, []byte{7, 2, 1, 0, 0xd0, 0x0f, 0, 3, 1, 0, 3, 1, 2, 2, 3, 2, 3, 10, 0}},
	} {
		parts := build(t, c.rows)
		if len(parts) != 1 || !bytes.Equal(parts[0].List, c.want) {
			t.Errorf("%v: %v, want %v", c.rows, parts, c.want)
		}
	}
}

func TestReaderRefuses(t *testing.T) {
	for name, list := range map[string][]byte{
		"half a head":           {7, 2, 1},
		"half a number":         {7, 2, 1, 0, 0xd0},
		"a number without end":  bytes.Repeat([]byte{0xff}, 40),
		"no rows":               {7, 2, 0, 0, 2},
		"more rows than bytes":  {7, 2, 200, 200, 200, 1, 0, 2, 1, 1},
		"the same id twice":     {7, 2, 2, 0, 2, 0},
		"an id before":          {7, 2, 2, 0, 2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1},
		"the same group twice":  {7, 2, 1, 0, 2, 0, 2, 1, 0, 2},
		"a group before":        {7, 2, 1, 0, 2, 0, 1, 1, 0, 2},
		"a task before":         {7, 2, 1, 0, 2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 1, 1, 0, 2},
		"counts of too much":    {7, 2, 2, 1, 2, 1, 1, 1},
		"counts of too little":  {7, 2, 2, 9, 2, 1, 1, 1},
		"one row without count": {7, 2, 2, 1, 2, 1, 1},
	} {
		if rows, err := unpack(1, list); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v, %v", name, rows, err)
		}
	}
	r := NewReader([]byte{7, 2, 3, 0, 2, 1}) // a corrupt list whose rows are not read
	for r.Next() {
	}
	if r.Err() == nil {
		t.Error("a row that is missing is skipped")
	}
}

// Reading any list ends, and its readable rows can be packed again.
func FuzzReader(f *testing.F) {
	f.Fuzz(func(t *testing.T, list []byte) {
		skipping := NewReader(list)
		groups := 0
		for skipping.Next() {
			groups++
		}
		rows, err := unpack(1, list)
		if len(rows) > len(list) || groups > len(list) {
			t.Fatalf("%d bytes hold %d rows, %d groups", len(list), len(rows), groups)
		}
		if err != nil {
			return
		}
		if skipping.Err() != nil {
			t.Fatal("it can be read, and not skipped")
		}
		if got := read(t, build(t, rows)); !slices.Equal(got, rows) {
			t.Fatalf("%v, and packed again %v", rows, got)
		}
	})
}

func reaches(t testing.TB, pairs [][2]int64) (parts []Reach) {
	t.Helper()
	b := NewReachBuilder(func(p *Reach) error {
		parts = append(parts, Reach{p.Task, p.Number, bytes.Clone(p.List)})
		return nil
	})
	for _, p := range pairs {
		if err := b.Add(p[0], p[1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Flush(); err != nil {
		t.Fatal(err)
	}
	return parts
}

func TestReach(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 100 {
		var pairs [][2]int64
		for task := range int64(1 + r.IntN(5)) {
			remote := int64(r.IntN(9)) - 4
			for range 1 + r.IntN(3000) {
				pairs = append(pairs, [2]int64{task, remote})
				remote += 1 + r.Int64N(1<<r.IntN(20))
			}
		}
		var got [][2]int64
		number := map[int64]int64{}
		for _, p := range reaches(t, pairs) {
			if p.Number != number[p.Task] || len(p.List) > MostBytes {
				t.Fatalf("task %d, part %d: %d bytes", p.Task, p.Number, len(p.List))
			}
			number[p.Task]++
			for remote, err := range IDs(p.List) {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, [2]int64{p.Task, remote})
			}
		}
		if !slices.Equal(got, pairs) {
			t.Fatalf("%d pairs in, %d out", len(pairs), len(got))
		}
	}
	parts := reaches(t, [][2]int64{{3, -5}, {3, math.MaxInt64}, {4, 300}, {4, 301}})
	if len(parts) != 2 || !bytes.Equal(parts[1].List, []byte{0xac, 2, 1}) {
		t.Errorf("%v", parts)
	}
	for _, bad := range [][2]int64{{3, 3}, {2, 9}, {3, 2}} {
		b := NewReachBuilder(func(*Reach) error { return nil })
		if err := errors.Join(b.Add(3, 3), b.Add(bad[0], bad[1])); !errors.Is(err, ErrOrder) {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

// Any list has at most as many numbers as bytes, in order, and these make the same list again.
func FuzzIDs(f *testing.F) {
	f.Fuzz(func(t *testing.T, list []byte) {
		var ids, again []int64
		var made []byte
		before := int64(0)
		for id, err := range IDs(list) {
			if err != nil {
				return
			}
			ids, made = append(ids, id), AppendID(made, before, id)
			before = id
		}
		for id, err := range IDs(made) {
			if err != nil {
				t.Fatal(err)
			}
			again = append(again, id)
		}
		if len(ids) > len(list) || !slices.IsSorted(ids) || !slices.Equal(ids, again) {
			t.Fatalf("%d bytes hold %v, and made again %v", len(list), ids, again)
		}
	})
}

func BenchmarkReader(b *testing.B) {
	r := rand.New(rand.NewPCG(7, 8))
	var rows []Row
	id := int64(0)
	for task := range int64(300) {
		for range 5 {
			id += r.Int64N(1 << 33)
			rows = append(rows, Row{1, task, 1, id, 1})
		}
	}
	parts := build(b, rows)
	for name, each := range map[string]bool{"rows": true, "groups": false} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				for _, p := range parts {
					d := NewReader(p.List)
					for d.Next() {
						if !each {
							continue
						}
						for _, _, ok := d.Row(); ok; _, _, ok = d.Row() {
						}
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(rows)), "ns/row")
		})
	}
}
