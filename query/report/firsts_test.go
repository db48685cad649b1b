package report

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/input"
	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/test/testtape"
)

// Any number of connections is read, in parts, and one that is not there is damage.
func TestWriteFirsts(t *testing.T) {
	tape := testtape.Generated(t, 5_000, 2)
	p := NewPlanned(tape, &Canned{}, ask.Request{}, input.Window{})
	p.tape.Limits.Firsts = 400
	var rows []firstRow
	err := ask.Each(t.Context(), tape.Conn(), "SELECT segment, id FROM connections ORDER BY pid LIMIT 1000", func(row []format.Value) {
		rows = append(rows, firstRow{firstIn: int(row[0].Int), first: row[1].Int})
	})
	if err != nil {
		t.Fatal(err)
	}
	for len(rows) < 3*p.tape.Limits.Firsts {
		rows = append(rows, rows...)
	}
	asking := func(rows []firstRow) (ask.Result, error) {
		i := 0
		return p.writeFirsts(t.Context(), ask.EachRow(func(row []format.Value) error {
			if want := rows[i].key(); row[0].Int != want[0] || row[1].Int != want[1] || len(row[2].Bytes) != len(format.TapeTime) {
				t.Fatalf("row %d is of %v, want %v", i, row, want)
			}
			i++
			return nil
		}), []string{"segment", "id", "time"}, rows, func(i int, first []format.Value) []format.Value {
			return []format.Value{format.IntValue(int64(rows[i].firstIn)), format.IntValue(rows[i].first), first[0]}
		})
	}
	if result, err := asking(rows); err != nil || result.Rows != int64(len(rows)) || result.Cut != "" {
		t.Errorf("%v, want %d rows: %v", result, len(rows), err)
	}
	most := int64(p.tape.Limits.Firsts) + 1
	p.request.Limit = most
	if result, err := asking(rows); err != ask.ErrTimeLimit || result.Rows != most || result.Cut != ask.RowLimitText(most) {
		t.Errorf("%v, want a row limit: %v", result, err)
	}
	rows[200].first++
	if result, err := asking(rows); !errors.Is(err, failure.ErrDamaged) || result.Rows != 0 {
		t.Errorf("%v: %v", result, err)
	}
}

// A time limit that comes while rows are read and written cuts the answer, and says so.
func TestTimeLimitAmongRows(t *testing.T) {
	p := &Planned{request: ask.Request{Timeout: time.Millisecond}}
	ctx, stop := ask.WithTimeLimit(context.Background(), p.request.Timeout)
	defer stop()
	for _, failed := range []error{nil, errors.New("stopped in the middle")} {
		cut := ""
		result, err := ask.WriteRows(ctx, p.request, endOf(&cut), nil, 5, func(i int) ([]format.Value, error) {
			<-ctx.Done()
			return nil, failed
		})
		if want := "time limit of " + p.request.Timeout.String() + ", there may be more"; err != nil || result.Cut != want || cut != want || result.Rows != 0 {
			t.Errorf("%v, %q: %v", result, cut, err)
		}
	}
}

// endWriter keeps why an answer was cut.
type endWriter struct {
	ask.EachRow
	cut *string
}

func endOf(cut *string) endWriter { return endWriter{func([]format.Value) error { return nil }, cut} }

func (e endWriter) End(cut string) error { *e.cut = cut; return nil }
