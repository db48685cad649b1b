package coverage

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/conntape/conntape/query/input"
	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/store/segment"
)

// A recorder that has stopped and is asked to rotate before it has closed the tape was
// stopped all the same.
func TestStopMeetsRotation(t *testing.T) {
	dir := t.TempDir()
	now, err := store.ReadAnchor("start")
	if err != nil {
		t.Fatal(err)
	}
	w, err := store.OpenWriter(dir, store.WriterOptions{Version: "test", Backend: "fexit", BootID: "b", Now: now})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Append(store.Batch{Now: now.Boot + 1, Counters: segment.Counters{"seen": 0}}); err != nil {
		t.Fatal(err)
	}
	stopped := now.Boot + 2
	if err := w.Rotate(); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(store.Gap{From: stopped}, nil); err != nil {
		t.Fatal(err)
	}
	tape, err := store.OpenTape(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer tape.Close()
	covered, err := tape.Coverage()
	if err != nil {
		t.Fatal(err)
	}
	c := New(covered, input.Window{}, nil)
	if c.Ended != segment.CauseStopped || len(c.Gaps) != 0 || !strings.Contains(c.Lines(true)[0], "(then stopped)") {
		t.Errorf("%+v: %q", c, c.Lines(true))
	}
}

// A number that nobody knows is neither 0 nor left out.
func TestUnknownLoss(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(1_800_000_000+s), 0).UTC() }
	for _, c := range []struct {
		lost       []store.Loss
		text, json string
	}{
		{[]store.Loss{{Known: 3}, {Known: 4}}, "7 connections lost", `"lost":7,"lost_unknown":false`},
		{[]store.Loss{{Unknown: true}}, "an unknown number of connections lost", `"lost":0,"lost_unknown":true`},
		{[]store.Loss{{Known: 1}, {Unknown: true}}, "1 connection and an unknown number more lost", `"lost":1,"lost_unknown":true`},
	} {
		covered := store.Coverage{From: at(0), To: at(100)}
		for i, l := range c.lost {
			covered.Gaps = append(covered.Gaps, store.GapInfo{From: at(i), To: at(i + 1), Cause: "crash", Lost: l})
			covered.Lost.Add(l)
		}
		coverage := New(covered, input.Window{}, nil)
		text, err := json.Marshal(coverage)
		if err != nil {
			t.Fatal(err)
		}
		if lines := strings.Join(coverage.Lines(true), "\n"); !strings.Contains(lines, c.text) {
			t.Errorf("%q does not say %q", lines, c.text)
		}
		if !strings.Contains(string(text), c.json) || strings.Count(string(text), `"lost":null`) != unknown(c.lost) {
			t.Errorf("%s does not say %s", text, c.json)
		}
		var out bytes.Buffer
		if err := NewStatus("dir", covered, nil).WriteText(&out, time.UTC, at(200)); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out.String(), c.text) || strings.Contains(out.String(), ", an unknown number lost") != (unknown(c.lost) > 0) {
			t.Errorf("status does not say %q:\n%s", c.text, &out)
		}
	}
}

// A moment that several gaps have is blind once: gaps within others, that overlap, that touch, in any order, cut by the
// window, and one that is still open.
func TestBlindTimeIsCountedOnce(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(1_800_000_000+s), 0).UTC() }
	for _, c := range []struct {
		gaps         [][2]int
		since, until int
		want         float64
	}{
		{[][2]int{{10, 20}, {10, 20}}, 0, 0, 10},
		{[][2]int{{12, 14}, {10, 20}, {18, 25}, {25, 26}}, 0, 0, 16},
		{[][2]int{{40, 50}, {10, 20}}, 0, 0, 20},
		{[][2]int{{10, 20}, {15, 30}}, 18, 25, 7},
		{[][2]int{{90, 0}, {80, 95}}, 0, 0, 20},
	} {
		covered := store.Coverage{From: at(0), To: at(100), Recording: true}
		for _, g := range c.gaps {
			gap := store.GapInfo{From: at(g[0]), Cause: "crash"}
			if g[1] > 0 {
				gap.To = at(g[1])
			}
			covered.Gaps = append(covered.Gaps, gap)
		}
		var w input.Window
		if c.since > 0 {
			w = input.Window{Since: at(c.since), Until: at(c.until)}
		}
		if got := New(covered, w, nil); got.Blind != c.want || len(got.Gaps) != len(c.gaps) {
			t.Errorf("%v: %d gaps, %v s blind, want %v", c.gaps, len(got.Gaps), got.Blind, c.want)
		}
	}
}

// What retention has removed is told with its number, whether the window is partly or
// wholly in it, each segment once.
func TestRemovedLines(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(1_800_000_000+s), 0).UTC() }
	r := store.Removals{List: []store.Removal{
		{Segment: 1, At: at(5000), Cause: "size", From: at(0), To: at(100), Rows: 10, Connects: 1_000_000},
		{Segment: 2, At: at(5100), Cause: "size", From: at(100), To: at(200), Rows: 10, Connects: 204_511},
		{Segment: 3, At: at(5200), Cause: "age", From: at(300), To: at(400), Rows: -1, Connects: -1},
	}}
	removed := func(cause string, steps string, until, from, to int, held string) string {
		return "coverage: removed by retention (" + cause + ") " + steps + " " + input.Stamp(at(until), time.UTC) + ": " +
			input.Stamp(at(from), time.UTC) + " to " + input.Stamp(at(to), time.UTC) + ", " + held
	}
	both := removed("size", "in 2 segments, the last at", 5100, 0, 200, "1,204,511 connections")
	second := removed("size", "at", 5100, 100, 200, "204,511 connections")
	third := removed("age", "at", 5200, 300, 400, "an unknown number of connections")
	for _, c := range []struct {
		since, until int
		want         []string
		whole        bool // all of the window is gone
	}{
		{0, 0, []string{both, third, "coverage: no gaps, nothing lost in what is left"}, false},
		{150, 1000, []string{second, third, "coverage: no gaps, nothing lost in what is left"}, false},
		{110, 150, []string{second}, true},
		{320, 330, []string{third}, true},
		{600, 700, []string{"coverage: no gaps, nothing lost"}, false},
	} {
		var w input.Window
		if c.since > 0 {
			w = input.Window{Since: at(c.since), Until: at(c.until)}
		}
		s := New(store.Coverage{From: at(500), To: at(6000)}, w, nil)
		if w.Since.IsZero() || w.Since.Before(at(500)) {
			s.Gone = newGone(r, w)
		}
		got := slices.DeleteFunc(s.Lines(true), func(line string) bool {
			return strings.HasPrefix(line, "coverage: recorded from") || strings.HasPrefix(line, "coverage: asked for")
		})
		if !slices.Equal(got, c.want) {
			t.Errorf("%+v: got\n%s\nwant\n%s", c, strings.Join(got, "\n"), strings.Join(c.want, "\n"))
		}
		if strings.Contains(strings.Join(s.Lines(true), "\n"), "ALL OF IT BEFORE what is left") != c.whole {
			t.Errorf("%+v: %q", c, s.Lines(true))
		}
	}
	unknown := &Coverage{From: timeOrNil(at(500)), Gone: newGone(store.Removals{Err: errors.New("this tape has no log")}, input.Window{}), Zone: time.UTC}
	if lines := strings.Join(unknown.Lines(true), "\n"); !strings.Contains(lines, "CANNOT BE KNOWN: this tape has no log") || strings.Contains(lines, "nothing lost\n") {
		t.Errorf("without the log: %s", lines)
	}
	untold := &Coverage{From: timeOrNil(at(500)), Gone: newGone(store.Removals{Untold: 4}, input.Window{}), Zone: time.UTC}
	if lines := strings.Join(untold.Lines(true), "\n"); !strings.Contains(lines, "4 segments GONE before this") {
		t.Errorf("after pruning: %s", lines)
	}
}

// A history that retention has made shorter than an hour is a warning; one that is young
// is none.
func TestShortHistory(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(1_800_000_000+s), 0).UTC() }
	removed := newGone(store.Removals{List: []store.Removal{{Segment: 1, Cause: "size", Connects: 5}}}, input.Window{})
	for _, c := range []struct {
		gone Gone
		span int
		want bool
	}{{removed, 3599, true}, {removed, 3600, false}, {Gone{}, 10, false}} {
		s := &Status{From: timeOrNil(at(0)), To: timeOrNil(at(c.span)), Gone: c.gone}
		var out bytes.Buffer
		if err := s.WriteText(&out, time.UTC, at(4000)); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(out.String(), "WARNING      the history is only "); got != c.want {
			t.Errorf("%+v: %s", c, &out)
		}
	}
}

func unknown(losses []store.Loss) (n int) {
	for _, l := range losses {
		if l.Unknown {
			n++
		}
	}
	return n
}
