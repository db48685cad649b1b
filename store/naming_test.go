package store

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/conntape/conntape/store/segment"
)

// saying is what a client said on a connection.
func saying(c Connection, name, source string) Naming {
	return Naming{Connect: c.BootTime, Tid: c.Task.Tid, Port: c.Remote.Port, Name: name, Source: source}
}

const namesSQL = `SELECT segment, remote_address, coalesce(remote_name, '-'), coalesce(name_source, '-') FROM connections ORDER BY time_ns`

// A client names its server after the row was committed: the row has the name, also if its segment was closed meanwhile, and the
// chain tells so. No other connection has it, and a row of several keeps what it has.
func TestLateNames(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	var told []SegmentSealed
	o := options(100 * second)
	o.LateNames = true
	o.Events = func(e Event) {
		if s, ok := e.(SegmentSealed); ok {
			told = append(told, s)
		}
	}
	w := mustOpenWriter(t, dir, o)
	w.now = func(string) (Anchor, error) { return at(105 * second), nil }
	x := newWorld()
	a, b, c, several := x.connection(101*second), x.connection(102*second), x.connection(103*second), x.connection(104*second)
	b.Cookie = 0
	several.Count, several.LastBootTime = 2, 104*second+5
	mustAppend(t, w, Batch{Connections: []Connection{a, b, c, several}, Now: 104 * second, Counters: segment.Counters{"stored": 4, "seen": 5}})
	other, early := saying(c, "x.example", NameSNI), saying(c, "y.example", NameSNI)
	other.Tid++
	early.Connect -= second / 2
	mustAppend(t, w, Batch{Now: 104 * second, Namings: []Naming{
		saying(a, "first.example", NameHTTP), saying(a, "a.example", NameSNI), other, early, saying(several, "z.example", NameSNI),
	}})
	w.writing.Lock()
	err := w.rotate(ReasonSize)
	w.writing.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	d := x.connection(106 * second)
	mustAppend(t, w, Batch{Connections: []Connection{d}, Namings: []Naming{saying(b, "b.example", NameHTTP), saying(d, "d.example", NameSNI)}, Now: 107 * second})
	mustAppend(t, w, Batch{Namings: []Naming{saying(b, "b.example", NameHTTP)}, Now: 108 * second}) // again: nothing to do
	if s := w.catalog.find(1); s == nil || len(told) != 0 {
		t.Fatal("it does not wait")
	}
	mustClose(t, w, 110*second)
	tape := mustOpenTape(t, dir)
	got, address := rows(t, tape.Conn(), namesSQL), a.Remote.Address
	want := []string{"1|" + address + "|a.example|sni", "1|" + address + "|b.example|http", "1|" + address + "|-|-", "1|" + address + "|-|-", "2|" + address + "|d.example|sni"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if c := tape.Segments(); c[0].Counters[missedNamesCounter] != 3 || c[1].Counters[missedNamesCounter] != 0 { // those of no row of their own
		t.Errorf("counters %v, %v", c[0].Counters, c[1].Counters)
	}
	if chains := chainsOf(t, tape, 1); len(told) != 1 || len(chains) != 3 || told[0].Chain != chains[3] {
		t.Errorf("told %+v, chains %v", told, chains)
	}
}

// A recorder that begins anew in the same segment names what the last one wrote.
func TestLateNameAfterRestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	x := newWorld()
	a := x.connection(101 * second)
	w := mustOpenWriter(t, dir, options(100*second))
	mustAppend(t, w, Batch{Connections: []Connection{a}, Now: 102 * second})
	mustClose(t, w, 103*second)
	w = mustOpenWriter(t, dir, options(104*second))
	mustAppend(t, w, Batch{Namings: []Naming{saying(a, "a.example", NameSNI)}, Now: 105 * second})
	mustClose(t, w, 106*second)
	tape := mustOpenTape(t, dir)
	if got := one(t, tape.Conn(), namesSQL); got != "1|"+a.Remote.Address+"|a.example|sni" {
		t.Errorf("got %s", got)
	}
	chainsOf(t, tape, 1)
}
