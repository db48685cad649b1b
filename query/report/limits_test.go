package report

import (
	"math"
	"testing"

	"strings"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/indicator"
	"github.com/conntape/conntape/query/input"
	"github.com/conntape/conntape/query/table"
	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/test/testtape"
)

// Beacons and scans are sought in several passes where their flows do not fit in memory, and the slots of a timeline are counted
// in several parts: none is lost, whatever their number.
func TestFoundInPasses(t *testing.T) {
	tape := testtape.Generated(t, 10_000, 3)
	stock := testtape.StockOf(t, tape, input.Window{})
	for _, q := range []struct {
		name   string
		given  map[string]string
		limits []int64
		set    func(l *table.Limits, most int64)
	}{
		{"beacons", map[string]string{"least": "4", "score": "0"}, []int64{1 << 20, 1 << 18, 1 << 17}, func(l *table.Limits, most int64) { l.Held = most }},
		{"fanout", map[string]string{"addresses": "1", "ports": "1"}, []int64{10_000, 2000, 500}, func(l *table.Limits, most int64) { l.Tried = int(most) }},
		{"timeline", map[string]string{"seconds": "60"}, []int64{1, 100, 2000}, func(l *table.Limits, most int64) { l.Grouped, l.Pairs = int(most), 1 }},
	} {
		c := cannedNamed(t, q.name)
		params, err := c.Bind(q.given, input.Clock{}, input.Window{})
		if err != nil {
			t.Fatal(err)
		}
		request := ask.Request{SQL: c.Source, Params: params}
		want := testtape.CSVOf(t, c.Name, func(out format.RowWriter) (ask.Result, error) { return ask.Run(t.Context(), stock, request, out) })
		if n := strings.Count(want, "\n"); n < 8 {
			t.Fatalf("%s: %d lines", q.name, n)
		}
		for _, most := range q.limits {
			p := NewPlanned(tape, c, request, input.Window{})
			q.set(&p.tape.Limits, most)
			sameRows(t, c.Name, c.Name, want, testtape.CSVOf(t, c.Name, func(out format.RowWriter) (ask.Result, error) { return p.Run(t.Context(), out) }))
		}
	}
}

// A part that begins with a slot has its first time, and not the last of the slot before.
func TestStartOfSlot(t *testing.T) {
	for _, length := range []int64{1e9, 7e9, 1 << 62} {
		for _, slot := range []int64{-3, -1, 0, 1, 2, 1 << 30} {
			at := startOfSlot(slot, length)
			if at == math.MinInt64 || at == math.MaxInt64 {
				if most := math.MaxInt64 / length; slot <= most && slot > -most {
					t.Errorf("slot %d of %d: %d", slot, length, at)
				}
			} else if at/length != slot || (at-1)/length != slot-1 {
				t.Errorf("slot %d of %d: %d, which is in %d after %d", slot, length, at, at/length, (at-1)/length)
			}
		}
	}
}

// Passes start again, twice as many, when one does not fit, and each of them is made.
func TestPassesAreAllMade(t *testing.T) {
	for most := 1; most <= 9; most++ {
		var sum, passed int32
		err := inPasses(1, func(pass, passes int32) error {
			if pass == 0 {
				sum, passed = 0, passes
			}
			for n := pass; n < 9; n += passes {
				if sum++; (9+passes-1)/passes > int32(most) {
					return table.ErrTooMuch
				}
			}
			return nil
		})
		if err != nil || sum != 9 || (9+passed-1)/passed > int32(most) {
			t.Errorf("at most %d: %d in %d passes, %v", most, sum, passed, err)
		}
	}
}

// A match finds the same in parts.
func TestMatchInParts(t *testing.T) {
	tape := testtape.Altered(t, 6_000, testtape.Oddities)
	list, err := indicator.Read(strings.NewReader("10.20.0.0/24\n22\n443\n/run/docker.sock\n10.0.0.0/8\n"))
	if err != nil {
		t.Fatal(err)
	}
	matched := func(of *table.Tape) string {
		return testtape.CSVOf(t, "match", func(out format.RowWriter) (ask.Result, error) {
			return match(t.Context(), of, table.NewKnownView(), &list.Set, MatchRequest{All: true}, out)
		})
	}
	low := table.Of(tape)
	low.Limits = lowLimits(tape)
	if want, got := matched(table.Of(tape)), matched(low); got != want || strings.Count(want, "\n") < 20 {
		t.Errorf("%d lines and %d", strings.Count(want, "\n"), strings.Count(got, "\n"))
	}
}

// lowLimits returns limits so low that tapes of tests are read in parts, and that some pairs of each set are in its table.
func lowLimits(tape *store.Tape) table.Limits {
	l := table.Of(tape).Limits.Divided(400)
	l.Pairs /= 400
	return l
}

// within makes a planned query keep limits.
func within(l table.Limits, p *Planned) *Planned {
	p.tape.Limits = l
	return p
}
