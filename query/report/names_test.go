package report

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/indicator"
	"github.com/conntape/conntape/query/input"
	"github.com/conntape/conntape/query/table"
	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/test/testtape"
)

// namedTape has connects that names led to, and a name that was looked up in vain.
func namedTape(t *testing.T) *store.Tape {
	t.Helper()
	return testtape.Opened(t, testtape.Recorded(t, namedBatches))
}

// namedBatches are the batches of namedTape.
func namedBatches(now store.Anchor) []store.Batch {
	task, shape := testtape.Task(7, "/tmp/bot"), testtape.TCP()
	lookup := &store.Shape{SocketFamily: 2, Type: 2, Protocol: 17, Via: "lookup", AddressSource: "kernel", Backend: "fexit", HookErrno: store.Unknown, Errno: store.Unknown}
	at := now.Boot + 1000
	batch := store.Batch{Now: at + 1000}
	for i, names := range []string{"", "cdn.example", "cdn.example www.evil.example", "evil.example"} {
		e := &store.Endpoint{Family: 2, Address: "198.51.100.7", Port: 443, Raw: []byte("remote"), Names: names}
		if names != "" {
			e.NameSource = store.NameDNS
		}
		batch.Connections = append(batch.Connections, store.Connection{BootTime: at + uint64(i), Task: task, Remote: e, Shape: shape, FD: 3})
	}
	for i, name := range []string{"x1.evil.example", "other.example"} {
		batch.Sockets = append(batch.Sockets, store.SocketEvent{BootTime: at + uint64(i), Window: at, Task: task, Shape: lookup, Count: 3, Lookup: &store.Lookup{Name: name, Type: 16, Answers: "txt:200", TTL: 0}})
	}
	return []store.Batch{batch}
}

// who finds connects by a name, or by a pattern; as does a filter.
func TestWhoOfNames(t *testing.T) {
	tape := namedTape(t)
	window := input.Window{Since: time.Now().Add(-time.Hour)}
	for indicator, want := range map[string]int64{
		"evil.example": 1, "EVIL.example.": 1, "www.evil.example": 1, "*.evil.example": 1, "*evil.example": 2, "cdn.example": 2, "*": 3, "vil.example": 0, "cdn.example*www": 0, "nothing.example": 0,
	} {
		c := cannedNamed(t, "who")
		params, err := c.Bind(map[string]string{"indicator": indicator}, input.Clock{Now: time.Now()}, window)
		if err != nil {
			t.Fatal(err)
		}
		var n int64
		_, err = NewPlanned(tape, c, ask.Request{SQL: c.Source, Params: params}, window).Run(t.Context(), ask.EachRow(func(row []format.Value) error { n += row[2].Int; return nil }))
		if err != nil || n != want {
			t.Errorf("who %s: %d connects, want %d, %v", indicator, n, want, err)
		}
		r, err := Filter{Name: indicator}.Apply(ask.Request{SQL: "SELECT count(*) FROM connections"})
		if err != nil {
			t.Fatal(err)
		}
		if got := answerOf(t, tape, strings.ReplaceAll(r.SQL, ":filter_name", "'"+indicator+"'")); strings.TrimSpace(got) != fmt.Sprint(want) {
			t.Errorf("--name %s finds %s, want %d", indicator, got, want)
		}
	}
	if _, err := (Filter{Name: "a[b"}).Apply(ask.Request{}); err == nil {
		t.Error("a[b is taken for a name")
	}
}

// A list's names are found where they led to a connect, of a domain also those below it, and where they were only looked up.
func TestMatchOfNames(t *testing.T) {
	tape := namedTape(t)
	var set indicator.Set
	set.Add(&indicator.Indicator{Kind: indicator.Name, Text: "evil.example"})
	set.Add(&indicator.Indicator{Kind: indicator.Name, Text: "other.example", Port: 1})
	for _, known := range []*table.KnownView{table.NewKnownView(), nil} {
		var got []string
		_, err := match(t.Context(), table.Of(tape), known, &set, MatchRequest{Window: input.Window{}}, ask.EachRow(func(row []format.Value) error {
			got = append(got, fmt.Sprintf("%s %s %s %d", row[6].Bytes, row[3].Bytes, row[11].Bytes, row[2].Int))
			return nil
		}))
		slices.Sort(got)
		want := []string{"lookup evil.example x1.evil.example 3", "lookup other.example:1 other.example 3", "name evil.example cdn.example www.evil.example 1", "name evil.example evil.example 1"}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("known %v: got %q, %v", known != nil, got, err)
		}
	}
}

// names says which names a program looked up.
func TestNames(t *testing.T) {
	tape := namedTape(t)
	c, window := cannedNamed(t, "names"), input.Window{}
	for name, want := range map[string]string{"": "x1.evil.example,TXT,NOERROR,txt:200,7|other.example,TXT,NOERROR,txt:200,7", "*.evil.example": "x1.evil.example,TXT,NOERROR,txt:200,7", "none.example": ""} {
		given := map[string]string{"name": name}
		if name == "" {
			given = nil
		}
		params, err := c.Bind(given, input.Clock{Now: time.Now()}, window)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		_, err = NewPlanned(tape, c, ask.Request{SQL: c.Source, Params: params}, window).Run(t.Context(), ask.EachRow(func(row []format.Value) error {
			got = append(got, fmt.Sprintf("%s,%s,%s,%s,%d", row[3].Bytes, row[4].Bytes, row[5].Bytes, row[6].Bytes, row[7].Int))
			return nil
		}))
		if err != nil || strings.Join(got, "|") != want {
			t.Errorf("%q: got %q, %v", name, got, err)
		}
	}
}
