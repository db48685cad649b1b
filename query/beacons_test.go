package query

import (
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/conntape/conntape/generate"
)

// A beacon that began long after the window did is not one that went on already, also if a filter leaves nothing else of the window.
func TestNewBeaconUnderFilter(t *testing.T) {
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
	}}
	if err := generate.WriteTape(dir, generate.New(o), 2); err != nil {
		t.Fatal(err)
	}
	tape := opened(t, dir)
	c := cannedNamed(t, "beacons")
	usual := func(exe string, f Filter) string {
		t.Helper()
		params, err := c.Bind(nil, Clock{}, Window{})
		if err != nil {
			t.Fatal(err)
		}
		answer := csvOf(t, exe, func(out RowWriter) (Result, error) {
			return NewPlanned(tape, c, Request{SQL: c.Source, Params: params}, Window{}).Filtered(f).Run(t.Context(), out)
		})
		for _, line := range strings.Split(answer, "\n") {
			if strings.Contains(line, ","+exe+",") {
				return line
			}
		}
		t.Fatalf("no beacon of %s in\n%s", exe, answer)
		return ""
	}
	for exe, settled := range map[string]string{"/usr/bin/old": "1", "/usr/bin/new": "0"} {
		whole := usual(exe, Filter{})
		if got := strings.Split(whole, ",")[1]; got != settled {
			t.Errorf("%s: usual is %s, want %s", exe, got, settled)
		}
		if got := usual(exe, Filter{Exe: exe}); got != whole {
			t.Errorf("%s alone is\n%s\nand is without a filter\n%s", exe, got, whole)
		}
	}
}
