package report

import (
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/conntape/conntape/generate"
	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/input"
	"github.com/conntape/conntape/query/table"
	"github.com/conntape/conntape/test/testtape"
)

// A filter chooses which beacons are shown, and changes nothing of what is said of one: whether it went on already when the window
// began, how many programs go where it goes, and how many beacons its program has.
func TestBeaconsUnderFilter(t *testing.T) {
	evenly := func(from time.Duration) (at []time.Duration) {
		for ; from < 24*time.Hour; from += 2 * time.Minute {
			at = append(at, from)
		}
		return at
	}
	dir := filepath.Join(t.TempDir(), "tape")
	o := generate.Options{Seed: 9, Connections: 3000, Processes: 20, Images: 10, Endpoints: 100, Begin: uint64(time.Hour), Span: 24 * time.Hour, Timers: []generate.Timer{
		{Exe: "/usr/bin/old", Remote: netip.MustParseAddrPort("203.0.113.65:443"), At: evenly(0)},
		{Exe: "/usr/bin/new", Remote: netip.MustParseAddrPort("203.0.113.66:443"), At: evenly(90 * time.Minute)},
		{Exe: "/usr/bin/new", Remote: netip.MustParseAddrPort("203.0.113.67:443"), At: evenly(91 * time.Minute)},
		{Exe: "/usr/bin/old", Remote: netip.MustParseAddrPort("203.0.113.66:443"), At: evenly(92 * time.Minute)},
		{Exe: "/usr/bin/new", Remote: netip.MustParseAddrPort("203.0.113.65:443"), At: evenly(93 * time.Minute)},
	}}
	if err := generate.WriteTape(dir, generate.New(o), 2); err != nil {
		t.Fatal(err)
	}
	tape := testtape.Opened(t, dir)
	c := cannedNamed(t, "beacons")
	params, err := c.Bind(nil, input.Clock{}, input.Window{})
	if err != nil {
		t.Fatal(err)
	}
	asking := func(f Filter) []string {
		t.Helper()
		answer := testtape.CSVOf(t, "beacons", func(out format.RowWriter) (ask.Result, error) {
			return NewPlanned(tape, c, ask.Request{SQL: c.Source, Params: params}, input.Window{}).Filtered(f).Run(t.Context(), out)
		})
		return strings.Split(strings.TrimSpace(answer), "\n")[1:]
	}
	whole := asking(Filter{})
	for beacon, want := range map[string]string{"/usr/bin/old,203.0.113.65:443": "1", "/usr/bin/new,203.0.113.66:443": "1"} { // of three alike
		line := whole[slices.IndexFunc(whole, func(line string) bool { return strings.Contains(line, ","+beacon+",") })]
		if got := strings.Split(line, ",")[1]; got != want {
			t.Errorf("%s: usual is %s, want %s", beacon, got, want)
		}
	}
	for _, f := range []Filter{{Exe: "/usr/bin/old"}, {Exe: "/usr/bin/new"}, {To: "203.0.113.66"}, {To: "203.0.113.64/30"}, {Port: "443"}, {Where: "time_ns % 7 = 0"}, {Exe: "nothing"}} {
		request, err := f.Apply(ask.Request{SQL: c.Source, Params: params})
		if err != nil {
			t.Fatal(err)
		}
		bySQL := testtape.CSVOf(t, "beacons", func(out format.RowWriter) (ask.Result, error) {
			return table.AskVirtual(t.Context(), table.Of(tape), func() (ask.Result, error) { return ask.Run(t.Context(), tape.Conn(), request, out) })
		})
		got := asking(f)
		if want := strings.Split(strings.TrimSpace(bySQL), "\n")[1:]; !slices.Equal(got, want) {
			t.Errorf("%+v: the plan says\n%s\nand the SQL\n%s", f, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		for _, line := range got {
			if !slices.Contains(whole, line) {
				t.Errorf("%+v: is otherwise without it: %s", f, line)
			}
		}
		if f.Exe != "nothing" && len(got) == 0 {
			t.Errorf("%+v: none", f)
		}
	}
}
