package report

import (
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/conntape/conntape/generate"
	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/input"
	"github.com/conntape/conntape/query/table"
	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/test/testtape"
)

// A filter chooses which beacons are shown, and changes nothing of what is said of one: whether it went on already when the window
// began, how many programs go where it goes, and how many beacons its program has.
func TestBeaconsUnderFilter(t *testing.T) {
	sizes := func(n int, size func(i int) int64) (sent []int64) {
		for i := range n {
			sent = append(sent, size(i))
		}
		return sent
	}
	evenly := func(from time.Duration) (at []time.Duration) {
		for ; from < 24*time.Hour; from += 2 * time.Minute {
			at = append(at, from)
		}
		return at
	}
	dir := filepath.Join(t.TempDir(), "tape")
	often := every(0, 24*time.Hour, func() time.Duration { return 12 * time.Second })
	o := generate.Options{Seed: 9, Connections: 5500, Processes: 20, Images: 10, Endpoints: 100, Begin: uint64(time.Hour), Span: 24 * time.Hour, Timers: []generate.Timer{
		{Exe: "/usr/bin/old", Remote: netip.MustParseAddrPort("203.0.113.65:443"), At: evenly(0)},
		{Exe: "/usr/bin/new", Remote: netip.MustParseAddrPort("203.0.113.66:443"), At: evenly(90 * time.Minute)},
		{Exe: "/usr/bin/new", Remote: netip.MustParseAddrPort("203.0.113.67:443"), At: evenly(91 * time.Minute), Sent: sizes(720, func(i int) int64 { return int64(517 + i*i%97) })},
		{Exe: "/usr/bin/old", Remote: netip.MustParseAddrPort("203.0.113.66:443"), At: evenly(92 * time.Minute)},
		{Exe: "/usr/bin/new", Remote: netip.MustParseAddrPort("203.0.113.65:443"), At: evenly(93 * time.Minute), Sent: sizes(720, func(int) int64 { return 0 })},
		{Exe: "/usr/bin/third", Remote: netip.MustParseAddrPort("203.0.113.68:443"), At: often, Sent: sizes(len(often), func(i int) int64 { return int64(500 + i%50 + 90_000*max(0, 440-i)) })}, // the newest 1,000 count
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

// Bytes of connections that ended when later segments were active are sizes of a beacon, by plan and by SQL.
func TestBeaconSizesOfLaterSegments(t *testing.T) {
	tape := testtape.Opened(t, testtape.Recorded(t, func(now store.Anchor) []store.Batch {
		batches := make([]store.Batch, 3)
		for i := range 12 {
			at, shape := now.Boot+uint64(i+1)*uint64(time.Second), testtape.TCP()
			shape.Errno = 115
			c := store.Connection{BootTime: at, Task: testtape.Task(7, "/usr/bin/implant"), Remote: &store.Endpoint{Family: 2, Address: "192.0.2.7", Port: 443, Raw: []byte("7")}, Shape: shape, FD: 3, Cookie: uint64(100 + i)}
			batches[0].Connections, batches[0].Now = append(batches[0].Connections, c), at
			outcome := testtape.Unmeasured()
			outcome.Sent = int64(300 + 40*i)
			end := &batches[i%3].Endings
			*end = append(*end, store.Ending{Connect: at, Cookie: c.Cookie, Final: store.FinalEstablished, Outcome: &outcome})
			if i > 0 && i < 3 {
				c.BootTime, c.Cookie, c.Remote = c.BootTime+uint64(time.Minute), 0, &store.Endpoint{Family: 2, Address: "192.0.2.8", Port: 443, Raw: []byte("8")}
				batches[i].Connections = []store.Connection{c}
			}
		}
		return batches
	}))
	c := cannedNamed(t, "beacons")
	params, err := c.Bind(map[string]string{"score": "0"}, input.Clock{}, input.Window{})
	if err != nil {
		t.Fatal(err)
	}
	request := ask.Request{SQL: c.Source, Params: params}
	bySQL := testtape.CSVOf(t, "beacons", func(out format.RowWriter) (ask.Result, error) {
		return table.AskVirtual(t.Context(), table.Of(tape), func() (ask.Result, error) { return ask.Run(t.Context(), tape.Conn(), request, out) })
	})
	planned := testtape.CSVOf(t, "beacons", func(out format.RowWriter) (ask.Result, error) {
		return NewPlanned(tape, c, request, input.Window{}).Run(t.Context(), out)
	})
	if planned != bySQL {
		t.Errorf("the plan says\n%s\nand the SQL\n%s", planned, bySQL)
	}
	sizes := []int64{300, 340, 380, 420, 460, 500, 540, 580, 620, 660, 700, 740}
	want := strconv.FormatFloat(rounded(100*scoreSizes(sizes), 1), 'f', 1, 64)
	if row := strings.Split(planned, "\n")[1]; strings.Split(row, ",")[3] != want {
		t.Errorf("sizes are not %s of\n%s", want, planned)
	}
}
