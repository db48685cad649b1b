package report

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/input"
	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/test/testtape"
)

// SQLite takes the columns beside a min() from the row with it, if there is no other min() or max() in that SELECT
// (https://sqlite.org/lang_select.html, bare columns). A query that says that it uses this has no other.
func TestOnlyOneMinimum(t *testing.T) {
	const says = "-- and so the columns beside it are of that row"
	aggregate := regexp.MustCompile(`\b(min|max)\(`)
	n := 0
	library, err := Library()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range library {
		for i, part := range strings.Split(c.Source, says) {
			if i == 0 {
				continue
			}
			n++
			before := c.Source[:strings.Index(c.Source, says)]
			part, _, _ = strings.Cut(part, "GROUP BY")
			if found := aggregate.FindAllString(before[strings.LastIndex(before, "SELECT"):]+part, -1); len(found) != 1 {
				t.Errorf("%s: %v beside each other", c.Name, found)
			}
		}
	}
	if n < 3 {
		t.Errorf("%d queries say %q", n, says)
	}
}

// exfiltration names the process that was the first and its time, though another connection lasted longer.
func TestFirstOfExfiltration(t *testing.T) {
	shape := &store.Shape{SocketFamily: unix.AF_INET, Type: unix.SOCK_STREAM, Protocol: unix.IPPROTO_TCP, Via: "connect", AddressSource: "kernel", Backend: "fexit", Final: store.FinalEstablished}
	remote := &store.Endpoint{Family: unix.AF_INET, Address: "198.51.100.7", Port: 443, Raw: make([]byte, 16)}
	sent := func(lasts time.Duration) *store.Outcome {
		o := testtape.Unmeasured()
		o.Sent, o.Received, o.Duration = 9<<20, 100, int64(lasts)
		return &o
	}
	var first store.Anchor
	tape := testtape.Opened(t, testtape.Recorded(t, func(now store.Anchor) []store.Batch {
		first = now
		var list []store.Connection
		for i, lasts := range []time.Duration{2 * time.Second, 90 * time.Second, time.Second} {
			p := &store.Process{Key: store.ProcessKey{Tgid: uint32(70 + i), StartBoot: now.Boot + uint64(i), Exec: 1}, Exe: "/tmp/carry", Comm: "carry", Argv: []string{fmt.Sprint("carry ", i)}, Source: store.SourceExec}
			list = append(list, store.Connection{BootTime: now.Boot + 1000 + uint64(i), Task: &store.Task{Process: p, Tid: p.Key.Tgid, Comm: "carry"}, Remote: remote, Shape: shape, FD: 3, Cookie: uint64(9 + i), Outcome: sent(lasts)})
		}
		return []store.Batch{{Now: now.Boot + 2000, Connections: list}}
	}))
	c, window := cannedNamed(t, "exfiltration"), input.Window{Since: time.Now().Add(-time.Hour)}
	params, err := c.Bind(nil, input.Clock{Now: time.Now()}, window)
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]Filter{"all": {}, "a filter": {Exe: "/tmp/carry"}} {
		found := testtape.CSVOf(t, "exfiltration", func(out format.RowWriter) (ask.Result, error) {
			return NewPlanned(tape, c, ask.Request{SQL: c.Source, Params: params}, window).Filtered(f).Run(t.Context(), out)
		})
		at := time.Unix(0, first.Real+1000).UTC().Format("2006-01-02T15:04:05.000000000Z")
		if want := at + `,3,28311552,300,"27 MiB out, 300 B in, up to 1m 30s",new and rare,70,`; !strings.Contains(found, want) || !strings.Contains(found, "carry 0") {
			t.Errorf("%s: it finds\n%s\nwant\n%s", name, found, want)
		}
	}
}
