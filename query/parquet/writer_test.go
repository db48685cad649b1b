package parquet

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/parquet-go/parquet-go"
)

// row is a row of the tests, as the reader of parquet-go takes it apart.
type row struct {
	Time *int64  `parquet:"time,optional,timestamp(nanosecond)"`
	Port *int64  `parquet:"port,optional"`
	Exe  *string `parquet:"exe,optional"`
	None *string `parquet:"none,optional"`
}

// written writes rows in groups of a size.
func written(t *testing.T, rows []row, size int) []byte {
	t.Helper()
	var out bytes.Buffer
	columns := []Column{{Name: "time", Kind: Time, Ascend: true}, {Name: "port", Kind: Integer}, {Name: "exe", Kind: Text, Bloom: true}, {Name: "none", Kind: Text}}
	w, err := New(&out, columns, []Pair{{"host", "web1"}}, 0)
	if err != nil {
		t.Fatal(err)
	}
	w.groupRows = size
	for _, r := range rows {
		for i, n := range []*int64{r.Time, r.Port} {
			if n == nil {
				w.Null(i)
			} else {
				w.Int(i, *n)
			}
		}
		if r.Exe == nil {
			w.Null(2)
		} else {
			w.Text(2, []byte(*r.Exe))
		}
		w.Null(3)
		if err := w.EndRow(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// What was written is what another reader finds, whatever the size of the groups, with statistics and filters that are true.
func TestWrittenIsRead(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, number := range []int{0, 1, 7, 1000} {
		var rows []row
		at := int64(1_700_000_000_000_000_000)
		for range number {
			at += r.Int64N(1e9)
			time, port, exe := at, r.Int64N(65536)-5, fmt.Sprintf("/usr/bin/%d \xc3\xbc", r.IntN(30))
			one := row{Time: &time, Port: &port, Exe: &exe}
			if r.IntN(5) == 0 {
				one.Port = nil
			}
			if r.IntN(7) == 0 {
				one.Exe = nil
			}
			rows = append(rows, one)
		}
		for _, size := range []int{1, 3, 1 << 16} {
			file, err := parquet.OpenFile(bytes.NewReader(written(t, rows, size)), int64(len(written(t, rows, size))))
			if err != nil {
				t.Fatal(err)
			}
			got := make([]row, number)
			reader := parquet.NewGenericReader[row](file)
			if n, err := reader.Read(got); n != number || err != nil && number > 0 && err.Error() != "EOF" {
				t.Fatalf("%d of %d rows: %v", n, number, err)
			}
			for i := range rows {
				if fmt.Sprint(deref(rows[i])) != fmt.Sprint(deref(got[i])) {
					t.Fatalf("row %d in groups of %d: %v, want %v", i, size, deref(got[i]), deref(rows[i]))
				}
			}
			if host, _ := file.Lookup("host"); host != "web1" {
				t.Errorf("host is %q", host)
			}
			checkGroups(t, file, rows)
		}
	}
}

func deref(r row) (all []any) {
	for _, n := range []*int64{r.Time, r.Port} {
		if n != nil {
			all = append(all, *n)
		} else {
			all = append(all, nil)
		}
	}
	for _, s := range []*string{r.Exe, r.None} {
		if s != nil {
			all = append(all, *s)
		} else {
			all = append(all, nil)
		}
	}
	return all
}

// checkGroups holds the statistics and the filters of row groups to their rows.
func checkGroups(t *testing.T, file *parquet.File, rows []row) {
	t.Helper()
	at := 0
	for _, group := range file.RowGroups() {
		its := rows[at : at+int(group.NumRows())]
		at += len(its)
		chunk := group.ColumnChunks()[0].(*parquet.FileColumnChunk)
		low, high, ok := chunk.Bounds()
		if !ok || low.Int64() != *its[0].Time || high.Int64() != *its[len(its)-1].Time {
			t.Fatalf("times from %v to %v", low, high)
		}
		filter := group.ColumnChunks()[2].BloomFilter()
		for _, r := range its {
			if r.Exe == nil {
				continue
			}
			if has, err := filter.Check(parquet.ValueOf(*r.Exe)); !has || err != nil {
				t.Fatalf("%s is not in the filter: %v", *r.Exe, err)
			}
		}
		if filter == nil {
			continue
		}
		for i := range 20 {
			if has, err := filter.Check(parquet.ValueOf(fmt.Sprint("nothing", i))); err != nil {
				t.Fatal(err)
			} else if !has {
				return
			}
		}
		t.Fatal("the filter has everything")
	}
}

// A row without each column is an error, not a file.
func TestRowLacksColumn(t *testing.T) {
	w, err := New(new(bytes.Buffer), []Column{{Name: "a"}, {Name: "b"}}, nil, -1)
	if err != nil {
		t.Fatal(err)
	}
	w.Null(0)
	if err := errors.Join(w.EndRow(), w.Close()); !errors.Is(err, ErrColumn) {
		t.Error(err)
	}
}

// A column has the type of its first value, and no other. Text that is no UTF-8 is made one.
func TestKinds(t *testing.T) {
	var out bytes.Buffer
	w, err := New(&out, []Column{{Name: "a", Kind: Any}, {Name: "b", Kind: Any}, {Name: "c", Kind: Any}}, nil, -1)
	if err != nil {
		t.Fatal(err)
	}
	w.Real(0, 1.5)
	w.Text(1, []byte("x\xff"))
	w.Null(2)
	if err := errors.Join(w.EndRow(), w.Close()); err != nil {
		t.Fatal(err)
	}
	type kinds struct {
		A *float64 `parquet:"a,optional"`
		B *string  `parquet:"b,optional"`
		C *string  `parquet:"c,optional"`
	}
	rows, err := parquet.Read[kinds](bytes.NewReader(out.Bytes()), int64(out.Len()))
	if err != nil || len(rows) != 1 || *rows[0].A != 1.5 || *rows[0].B != "x\ufffd" || rows[0].C != nil {
		t.Errorf("%+v, %v", rows, err)
	}
	if w, err = New(&out, []Column{{Name: "a", Kind: Any}}, nil, -1); err != nil {
		t.Fatal(err)
	}
	w.Int(0, 1)
	if err := w.EndRow(); err != nil {
		t.Fatal(err)
	}
	w.Text(0, []byte("x"))
	if err := errors.Join(w.EndRow(), w.Close()); !errors.Is(err, ErrKind) {
		t.Error(err)
	}
}
