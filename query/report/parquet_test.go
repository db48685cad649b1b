package report

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/table"
	"github.com/conntape/conntape/test/testtape"
	"github.com/parquet-go/parquet-go"
)

// An export as Parquet has the rows of the view, with types: each cell is what CSV has, times as times; and each row says
// of which tape it is.
func TestParquetIsTheView(t *testing.T) {
	tape := testtape.Altered(t, 1500, `UPDATE task SET user = CASE id % 3 WHEN 0 THEN NULL WHEN 1 THEN '' ELSE '1000' END;`)
	var file bytes.Buffer
	out, err := format.NewRowWriter("parquet", &file, format.Options{Identity: IdentityOf(tape), Identified: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Export(t.Context(), tape, Filter{}, ask.Request{}, out); err != nil {
		t.Fatal(err)
	}
	read, err := parquet.OpenFile(bytes.NewReader(file.Bytes()), int64(file.Len()))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range read.Schema().Fields() {
		names = append(names, f.Name())
	}
	columns := table.NewKnownView().Columns
	if want := append([]string{"tape_id", "host", "machine_id"}, columns...); !slices.Equal(names, want) {
		t.Fatalf("columns %v, want %v", names, want)
	}
	rows := parquet.NewReader(read)
	defer rows.Close()
	at := 0
	_, err = Export(t.Context(), tape, Filter{}, ask.Request{}, ask.EachRow(func(want []format.Value) error {
		got := make([]parquet.Row, 1)
		if n, err := rows.ReadRows(got); n != 1 {
			return fmt.Errorf("row %d: %w", at, err)
		}
		at++
		if got[0][0].String() != IdentityOf(tape).TapeID {
			t.Fatalf("row %d is of tape %s", at, got[0][0])
		}
		for i, v := range want {
			if has := got[0][3+i]; !sameCell(columns[i], v, has) {
				t.Fatalf("row %d, column %s: %v, want %v", at, columns[i], has, v)
			}
		}
		return nil
	}))
	if err != nil || at < 1500 {
		t.Fatal(at, err)
	}
	if n, err := rows.ReadRows(make([]parquet.Row, 1)); n != 0 || err != io.EOF {
		t.Errorf("%d rows more, %v", n, err)
	}
}

// sameCell reports whether a cell of a file is what the view has.
func sameCell(column string, v format.Value, has parquet.Value) bool {
	switch {
	case v.Kind == format.Null:
		return has.IsNull()
	case has.IsNull():
		return false
	case column == "time" || strings.HasSuffix(column, "_time"):
		return has.Kind() == parquet.Int64 && time.Unix(0, has.Int64()).UTC().Format(format.TapeTime) == string(v.Bytes)
	case v.Kind == format.Integer:
		return has.Kind() == parquet.Int64 && has.Int64() == v.Int
	}
	return v.Kind == format.Text && has.Kind() == parquet.ByteArray && string(has.ByteArray()) == string(v.Bytes)
}

// An answer of any form is a file too, with the types of its values; one whose values have several types is an error.
func TestParquetOfAnswers(t *testing.T) {
	tape := testtape.Generated(t, 400, 2)
	ask := func(sql string) ([]byte, error) {
		var file bytes.Buffer
		out, err := format.NewRowWriter("parquet", &file, format.Options{Identity: IdentityOf(tape)})
		if err == nil {
			_, err = table.RunSQL(t.Context(), tape, ask.Request{SQL: sql}, out)
		}
		return file.Bytes(), err
	}
	file, err := ask("SELECT exe, count(*) AS n, avg(remote_port) AS mean, min(time) AS first_time, NULL AS empty FROM connections GROUP BY exe")
	if err != nil {
		t.Fatal(err)
	}
	type row struct {
		Exe   *string  `parquet:"exe,optional"`
		N     *int64   `parquet:"n,optional"`
		Mean  *float64 `parquet:"mean,optional"`
		First *int64   `parquet:"first_time,optional,timestamp(nanosecond)"`
	}
	rows, err := parquet.Read[row](bytes.NewReader(file), int64(len(file)))
	if err != nil || len(rows) < 5 {
		t.Fatal(len(rows), err)
	}
	sum := int64(0)
	for _, r := range rows {
		sum += *r.N
		if r.Mean != nil && math.IsNaN(*r.Mean) || *r.First < 1e18 {
			t.Errorf("%+v", r)
		}
	}
	if sum < 400 {
		t.Errorf("%d connections", sum)
	}
	if _, err := ask("SELECT 1 AS a UNION ALL SELECT 'x'"); err == nil {
		t.Error("a column has two types")
	}
}
