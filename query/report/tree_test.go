package report

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strconv"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/input"
	"github.com/conntape/conntape/query/table"
	"github.com/conntape/conntape/test/testtape"
)

// A tree is cut where its SQL is, and says so; in no time it is not answered at all.
func TestTreeLimits(t *testing.T) {
	tape := testtape.Generated(t, 5_000, 3)
	c := cannedNamed(t, "tree")
	params, err := c.Bind(map[string]string{"process": "1"}, input.Clock{}, input.Window{})
	if err != nil {
		t.Fatal(err)
	}
	stock := testtape.StockOf(t, tape, input.Window{})
	ask := func(limit int64, timeout time.Duration, planned bool) (ask.Result, string, error) {
		var out bytes.Buffer
		to, err := format.NewRowWriter("csv", &out, format.Options{})
		if err != nil {
			t.Fatal(err)
		}
		r := ask.Request{SQL: c.Source, Params: params, Limit: limit, Timeout: timeout}
		var result ask.Result
		if planned {
			result, err = NewPlanned(tape, c, r, input.Window{}).Run(t.Context(), to)
		} else {
			result, err = ask.Run(t.Context(), stock, r, to)
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
	if _, text, err := ask(0, time.Nanosecond, true); err == nil || err.Error() != "time limit of 1ns: nothing was answered in that time" || text != "" {
		t.Errorf("%q: %v", text, err)
	}
}

// Among the rows of one process too a tree ends with its time, and with whoever asks.
func TestTreeEndsAmongRows(t *testing.T) {
	ended := errors.New("ended")
	for _, cause := range []error{ask.ErrTimeLimit, ended} {
		ctx, stop := context.WithCancelCause(t.Context())
		rows := 0
		w := &treeWriter{ask.ManyWriter{Ctx: ctx, RowWriter: ask.EachRow(func([]format.Value) error {
			if rows++; rows == 2 {
				stop(cause)
			}
			return nil
		})}, map[int64][]*reachedRemote{7: {{}, {}, {}, {}}}}
		values := make([]format.Value, treeProcess+1)
		values[treeProcess] = format.IntValue(7)
		if err := w.Row(values); err != cause || rows != 2 || w.Rows != 2 {
			t.Errorf("%d rows: %v", rows, err)
		}
	}
}

// A tape with what generated ones have not is told as SQL tells it: addresses of no family, without a port or an IP, probes
// of name resolution, pids used again, two parents of one process, a circle of them, a clock that was set back.
func TestTreeOfAlteredTape(t *testing.T) {
	tape := testtape.Altered(t, 3_000, `
		UPDATE endpoint SET family = CASE id % 11 WHEN 0 THEN 65535 WHEN 1 THEN 0 WHEN 2 THEN 10 ELSE family END;
		UPDATE OR IGNORE endpoint SET port = CASE id % 7 WHEN 0 THEN 0 WHEN 1 THEN -1 ELSE port END;
		UPDATE shape SET type = 2 WHERE id % 2 = 0;
		UPDATE shape SET errno = NULL WHERE id % 5 = 0;
		UPDATE process SET tgid = tgid % 9 WHERE id % 2 = 0;
		UPDATE process SET parent = (SELECT id FROM process p WHERE p.id > process.id ORDER BY id LIMIT 1 OFFSET %[1]d) WHERE id % 3 = 0;
		UPDATE process SET parent = NULL WHERE id % 7 = %[1]d;
		INSERT OR IGNORE INTO clock SELECT min(id) + (max(id) - min(id)) / 2, -7200000000000, 'step', NULL FROM connection;`)
	c := cannedNamed(t, "tree")
	from, to := tape.Segments()[0].From, tape.Segments()[2].To
	windows := []input.Window{{}, {Since: from.Add(to.Sub(from) / 3), Until: from.Add(to.Sub(from) * 2 / 3)}}
	stock := map[input.Window]*sqlite.Conn{}
	for _, w := range windows {
		stock[w] = testtape.StockOf(t, tape, w)
	}
	for pid := range 9 {
		for _, all := range []string{"false", "true"} {
			for _, w := range windows {
				compareWithSQL(t, tape, stock[w], c, map[string]string{"process": strconv.Itoa(pid), "all": all}, w)
			}
		}
	}
}

// Which parent counts is written here, and not only in the SQL: that of the oldest segment which tells one.
func TestTreeAsksTheOldestParent(t *testing.T) {
	tape := testtape.Generated(t, 10, 2)
	rows := [][]sqlite.Value{}
	add := func(process, parent, segment int64) {
		row := []sqlite.Value{sqlite.IntegerValue(process), {}, sqlite.IntegerValue(process), sqlite.TextValue("p"), sqlite.TextValue("2026"), {}, {}, sqlite.IntegerValue(segment)}
		if parent != 0 {
			row[1] = sqlite.IntegerValue(parent)
		}
		rows = append(rows, row)
	}
	add(3, 2, 3)
	add(3, 1, 2)
	add(3, 0, 1)
	add(1, 0, 1)
	add(2, 0, 1)
	c := cannedNamed(t, "tree")
	if err := table.NewRowTable(tape.Conn(), "family", treeProcesses, rows); err != nil {
		t.Fatal(err)
	}
	params, err := c.Bind(map[string]string{"process": "3"}, input.Clock{}, input.Window{})
	if err != nil {
		t.Fatal(err)
	}
	var got []int64
	_, err = ask.Run(t.Context(), tape.Conn(), ask.Request{SQL: withTable("processes AS (SELECT * FROM family)", c.Source), Params: params}, ask.EachRow(func(row []format.Value) error {
		got = append(got, row[treeProcess].Int)
		return nil
	}))
	if want := []int64{1, 3}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, want %v: %v", got, want, err)
	}
}
