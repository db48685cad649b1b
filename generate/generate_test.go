package generate

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/conntape/conntape/store"
)

func small() Options {
	return Options{Seed: 1, Connections: 50_000, Processes: 100, Images: 20, Endpoints: 500, Begin: uint64(time.Hour), Span: 24 * time.Hour, Intrusion: true}
}

func TestSameSeedSameConnections(t *testing.T) {
	a, b := New(small()), New(small())
	for n := 0; ; n++ {
		x, more := a.Next()
		y, _ := b.Next()
		if !more {
			if n != 50_000 {
				t.Errorf("%d connections, want 50,000", n)
			}
			return
		}
		if x.BootTime != y.BootTime || x.Remote.Address != y.Remote.Address || x.Task.Process.Exe != y.Task.Process.Exe || *x.Shape != *y.Shape {
			t.Fatalf("connection %d: %+v and %+v", n, x, y)
		}
	}
}

func TestTimesRise(t *testing.T) {
	s := New(small())
	last := uint64(0)
	for c, ok := s.Next(); ok; c, ok = s.Next() {
		if c.BootTime <= last {
			t.Fatalf("%d after %d", c.BootTime, last)
		}
		last = c.BootTime
	}
	if end := s.end(); last < end-uint64(2*time.Hour) || last > end+uint64(2*time.Hour) {
		t.Errorf("the last connection is %v from the end of the span", time.Duration(last-end))
	}
}

// Everything listed as planted is there, and only the intrusion connects to its endpoints.
func TestPlanted(t *testing.T) {
	s := New(small())
	type pair struct {
		process *store.Process
		address string
	}
	seen, others := map[pair]int{}, map[string]int{}
	var last uint64
	for c, ok := s.Next(); ok; c, ok = s.Next() {
		seen[pair{c.Task.Process, c.Remote.Address}]++
		others[c.Remote.Address]++
		last = c.BootTime
	}
	kinds := map[Kind]int{}
	for _, p := range s.Planted() {
		kinds[p.Kind]++
		if p.Interval > 0 && p.Last > last { // the stream ends with its number of connections
			p.Connections -= int((p.Last - last) / uint64(p.Interval))
		}
		got := 0
		for address, n := range places(p) {
			if have := seen[pair{p.Process, address}]; have > 0 {
				got += have
				if p.Kind != Periodic && n > 0 && p.Kind != Scan && others[address] != have {
					t.Errorf("%s: other processes connect to %s too", p.Kind, address)
				}
			}
		}
		if got < p.Connections-2 || got > p.Connections+2 {
			t.Errorf("%s by %s: %d connections, want %d", p.Kind, p.Process.Exe, got, p.Connections)
		}
	}
	if kinds[Beacon] != 4 || kinds[Scan] != 2 || kinds[Exfiltration] != 1 || kinds[Periodic] != 5 {
		t.Errorf("planted: %v", kinds)
	}
}

func places(p Planted) map[string]int {
	m := map[string]int{}
	for _, e := range p.Remotes {
		m[e.Address]++
	}
	return m
}

// The steps of the story are in order, all below one shell that a web server started. The same seed gives the same story.
func TestStory(t *testing.T) {
	s := New(Demo(1))
	var steps []string
	for c, ok := s.Next(); ok; c, ok = s.Next() {
		for p := c.Task.Process; p != nil; p = p.Parent {
			if p.Comm != "sh" {
				continue
			}
			if p.Parent.Comm != "nginx" || p.Parent.Parent.Comm != "nginx" {
				t.Fatalf("a shell of %s", p.Parent.Exe)
			}
			if name := c.Task.Comm; len(steps) == 0 || !slices.Contains(steps, name) {
				steps = append(steps, name)
			}
			break
		}
	}
	if got, want := strings.Join(steps, " "), "sh curl kworker/u8:2 nmap ssh pg_dump rclone"; got != want {
		t.Errorf("steps %s, want %s", got, want)
	}
	for _, p := range s.Planted() {
		if p.Kind == Beacon && p.Connections < 100 {
			t.Errorf("a beacon of %d", p.Connections)
		}
	}
}

// A few endpoints have most of the connections, and most endpoints have some.
func TestHeavyTail(t *testing.T) {
	o := small()
	s := New(o)
	count := map[*store.Endpoint]int{}
	for c, ok := s.Next(); ok; c, ok = s.Next() {
		count[c.Remote]++
	}
	most := 0
	for _, n := range count {
		most = max(most, n)
	}
	if most < o.Connections/100 {
		t.Errorf("the most popular endpoint has %d of %d", most, o.Connections)
	}
	if len(count) < o.Endpoints*8/10 {
		t.Errorf("%d of %d endpoints were met", len(count), o.Endpoints)
	}
}
