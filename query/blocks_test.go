package query

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/conntape/conntape/generate"
	"github.com/conntape/conntape/store"
)

// A segment that is not sealed is passed over block by block where it does not have what is asked for, and rows that came
// late, whose blocks do not tell of them, are found all the same.
func TestBlocksArePassedOver(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	o := generate.Options{Seed: 5, Connections: 220_000, Processes: 400, Images: 20, Endpoints: 3000, Begin: uint64(time.Hour), Span: 24 * time.Hour}
	stream := generate.New(o)
	now, err := store.ReadAnchor("start")
	if err != nil {
		t.Fatal(err)
	}
	w, err := store.OpenWriter(dir, store.WriterOptions{
		Version: "test", Backend: "fexit", BootID: "00000000-0000-4000-8000-000000000001",
		Now: store.Anchor{Boot: o.Begin, Real: now.Real, Kind: "start"},
	})
	if err != nil {
		t.Fatal(err)
	}
	var late, all []store.Connection
	for {
		rows := stream.Batch(nil, 70_000)
		if len(rows) == 0 {
			break
		}
		all = append(all, rows...)
		var batch []store.Connection
		for i, row := range rows {
			if i%997 == 0 && len(all) == len(rows) { // of the first batch, after all others
				late = append(late, row)
			} else {
				batch = append(batch, row)
			}
		}
		if err := w.Append(store.Batch{Connections: batch, Now: batch[len(batch)-1].BootTime}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Append(store.Batch{Connections: late}); err != nil {
		t.Fatal(err)
	}
	tape, err := store.OpenTape(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer tape.Close()
	seen := make(map[string]int)
	for i := range all {
		seen[all[i].Remote.Address]++
	}
	addresses := []string{late[3].Remote.Address, late[len(late)/2].Remote.Address, late[len(late)-1].Remote.Address}
	for _, row := range all[len(all)-2000:] {
		if a := row.Remote.Address; seen[a] < 5 && !slices.Contains(addresses, a) && len(addresses) < 6 {
			addresses = append(addresses, a)
		}
	}
	who := cannedNamed(t, "who")
	left := 0
	stock := stockOf(t, tape, Window{})
	for _, address := range addresses {
		compareWithSQL(t, tape, stock, who, map[string]string{"indicator": address}, Window{})
		s := &segmentSource{Source: Sources(tape)[0]}
		if err := s.describe(t.Context()); err != nil {
			t.Fatal(err)
		}
		sel, err := chooseIndicator(address)(t.Context(), s)
		if err != nil || sel == nil {
			t.Fatalf("%s: %v, %v", address, sel, err)
		}
		for _, id := range sel.remotes {
			s.remotes.add(id)
		}
		spans, err := s.spans(t.Context(), sel, s.first, s.last+1)
		if err != nil {
			t.Fatal(err)
		}
		read := int64(0)
		for _, span := range spans {
			read += span.to - span.from
		}
		if read < (s.last+1-s.first)*2/3 {
			left++
		}
		t.Logf("%s, %d times: %d parts, %d%% of the time", address, seen[address], len(spans), 100*read/(s.last+1-s.first))
	}
	if left < 2 {
		t.Errorf("for %d of %d addresses a third was passed over", left, len(addresses))
	}
}

// Parts of spans are the spans, in order, and about as long as each other.
func TestSplit(t *testing.T) {
	const lowest, highest = -1 << 63, 1<<63 - 1
	for _, c := range []struct {
		spans []idSpan
		parts int
		want  string
	}{
		{nil, 2, "[]"},
		{[]idSpan{{5, 6}}, 2, "[[{5 6}]]"},
		{[]idSpan{{0, 10}}, 1, "[[{0 10}]]"},
		{[]idSpan{{0, 10}}, 2, "[[{0 5}] [{5 10}]]"},
		{[]idSpan{{0, 10}, {20, 24}}, 3, "[[{0 4}] [{4 9}] [{9 10} {20 24}]]"},
		{[]idSpan{{0, 1}, {2, 3}, {4, 5}, {6, 7}}, 2, "[[{0 1} {2 3}] [{4 5} {6 7}]]"},
		{[]idSpan{{lowest, highest}}, 2, "[[{-9223372036854775808 -1}] [{-1 9223372036854775807}]]"},
	} {
		if got := fmt.Sprint(split(c.spans, c.parts)); got != c.want {
			t.Errorf("%v in %d: %s, want %s", c.spans, c.parts, got, c.want)
		}
	}
}
