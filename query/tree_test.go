package query

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"time"
)

// A tree is cut where its SQL is, and says so; in no time it is not answered at all.
func TestTreeLimits(t *testing.T) {
	tape := generated(t, 5_000, 3)
	library, err := Library()
	if err != nil {
		t.Fatal(err)
	}
	c := library[slices.IndexFunc(library, func(c *Canned) bool { return c.Name == "tree" })]
	params, err := c.Bind(map[string]string{"process": "1"}, Clock{}, Window{})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(limit int64, timeout time.Duration, planned bool) (Result, string, error) {
		var out bytes.Buffer
		to, err := NewRowWriter("csv", &out, FormatOptions{})
		if err != nil {
			t.Fatal(err)
		}
		r := Request{SQL: c.Source, Params: params, Limit: limit, Timeout: timeout}
		var result Result
		if planned {
			result, err = NewPlanned(c, r, Window{}, Sources(tape), Sources(tape)).Run(t.Context(), to)
		} else {
			result, err = Run(t.Context(), tape.Conn(), r, to)
		}
		return result, out.String(), err
	}
	all, _, err := ask(0, 0, true)
	if err != nil || all.Rows < 20 || all.Cut != "" {
		t.Fatal(all, err)
	}
	for _, limit := range []int64{1, 2, 7, all.Rows - 1, all.Rows, all.Rows + 1} {
		got, gotText, err := ask(limit, 0, true)
		want, wantText, wantErr := ask(limit, 0, false)
		if got != want || gotText != wantText || err != nil || wantErr != nil || (got.Cut == "") != (limit >= all.Rows) {
			t.Errorf("limit of %d: %v, want %v: %v, %v", limit, got, want, err, wantErr)
		}
	}
	if _, text, err := ask(0, time.Nanosecond, true); err == nil || err.Error() != nothingInTime(time.Nanosecond).Error() || text != "" {
		t.Errorf("%q: %v", text, err)
	}
}

// Among the rows of one process too a tree ends with its time, and with whoever asks.
func TestTreeEndsAmongRows(t *testing.T) {
	ended := errors.New("ended")
	for _, cause := range []error{errTimeLimit, ended} {
		ctx, stop := context.WithCancelCause(t.Context())
		rows := 0
		w := &treeWriter{ctx: ctx, connected: map[int64][]*reachedRemote{7: {{}, {}, {}, {}}}, RowWriter: eachRow(func([]Value) error {
			if rows++; rows == 2 {
				stop(cause)
			}
			return nil
		})}
		values := make([]Value, treeProcess+1)
		values[treeProcess] = intValue(7)
		if err := w.Row(values); err != cause || rows != 2 || w.rows != 2 {
			t.Errorf("%d rows: %v", rows, err)
		}
	}
}
