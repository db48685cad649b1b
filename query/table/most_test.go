package table

import (
	"fmt"
	"testing"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/input"
	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/test/testtape"
)

// ORDER BY count DESC has the rows of the view in its order, those of one count as the segments have them, whatever the
// statement compares, and whether or not a segment, a task or an endpoint has any.
func TestMostFirst(t *testing.T) {
	tapes := map[string]*store.Tape{"generated": testtape.Generated(t, 600, 3)}
	for name, script := range map[string]string{
		"repeats":     `INSERT OR REPLACE INTO repeat SELECT id, 2 + id % 7, id + 5000000000 * (id % 3) FROM connection WHERE id % 5 = 0;`,
		"one segment": `INSERT OR REPLACE INTO repeat SELECT id, 2 + id % 7, id FROM connection WHERE %[1]d = 1 AND id % 3 = 0;`,
		"odd counts":  `INSERT OR REPLACE INTO repeat SELECT id, id % 5 - 2, id FROM connection WHERE id % 3 = 0;`,
		"holes":       `INSERT OR REPLACE INTO repeat SELECT id, 2 + id % 3, id FROM connection WHERE id % 2 = 0; DELETE FROM endpoint WHERE id % 7 = 0; DELETE FROM process WHERE id % 5 = 0; DELETE FROM connection WHERE id % 4 = 0;`,
	} {
		tapes[name] = testtape.Altered(t, 600, script)
	}
	for name, tape := range tapes {
		stock := testtape.StockOf(t, tape, input.Window{})
		var port, exe, at string
		if err := ask.Each(t.Context(), stock, "SELECT remote_port, exe, time_ns FROM connections WHERE remote_port > 0 AND exe IS NOT NULL LIMIT 1 OFFSET 20", func(row []format.Value) {
			port, exe, at = fmt.Sprint(row[0].Int), string(row[1].Bytes), fmt.Sprint(row[2].Int)
		}); err != nil || exe == "" {
			t.Fatal(name, err)
		}
		for _, where := range []string{"", " WHERE remote_port = " + port, " WHERE exe = '" + exe + "'", " WHERE time_ns >= " + at, " WHERE time_ns < " + at + " AND outcome <> 'established'", " WHERE count > 1", " WHERE exe IS NULL",
			" WHERE process_id IN (SELECT process_id FROM processes WHERE uid = 0)", " WHERE remote_port = " + port + " AND time_ns >= " + at} {
			for _, limit := range []string{"", " LIMIT 5 OFFSET 120"} {
				sql := "SELECT id, time, exe, outcome, last_time, remote, count FROM connections" + where + " ORDER BY count DESC" + limit
				want := inOrder(t, func(out format.RowWriter) (ask.Result, error) {
					return ask.Run(t.Context(), stock, ask.Request{SQL: sql}, out)
				})
				low := usualLimits.Divided(400)
				low.Repeats = 1
				for _, limits := range []Limits{usualLimits, usualLimits.Divided(400), low} {
					got := inOrder(t, func(out format.RowWriter) (ask.Result, error) {
						return (&Tape{tape, limits}).RunSQL(t.Context(), ask.Request{SQL: sql}, out)
					})
					if got != want {
						t.Fatalf("%s: %s, %d repeats:\n%.900s\nwant\n%.900s", name, sql, limits.Repeats, got, want)
					}
				}
			}
		}
	}
}
