package store

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/conntape/conntape/store/retain"
	"github.com/conntape/conntape/store/segment"
)

// Whatever is in a batch, the files grow by no more than was estimated before; and
// the estimate is not so large that it would cost history.
func TestGrowthIsBounded(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	w := mustOpenWriter(t, t.TempDir(), options(1000*second))
	boot := 1000 * second
	var processes []*Process
	var endpoints []*Endpoint
	var written []Connection
	var estimated, grown int64
	for i := range 60 {
		var b Batch
		for range 1 << random.IntN(11) {
			boot += uint64(random.IntN(1_000_000))
			if len(processes) == 0 || random.IntN(20) == 0 {
				p := &Process{Key: ProcessKey{Tgid: uint32(len(processes) + 1), StartBoot: boot}, Comm: "x", Exe: "/" + strings.Repeat("d/", random.IntN(200)),
					Argv: []string{strings.Repeat("\x01", random.IntN(9000))}, Source: SourceExec}
				if len(processes) > 0 {
					p.Parent = processes[len(processes)-1]
				}
				processes = append(processes, p)
			}
			if len(endpoints) == 0 || random.IntN(3) == 0 {
				address := fmt.Sprint(random.Uint64(), strings.Repeat("a", random.IntN(100)))
				endpoints = append(endpoints, &Endpoint{Family: 1, Address: address, Port: -1, Raw: []byte(address)})
			}
			p := processes[random.IntN(len(processes))]
			c := Connection{BootTime: boot - uint64(random.IntN(2))*uint64(random.IntN(1_000_000_000)), Task: &Task{Process: p, Tid: random.Uint32(), Comm: "thread"},
				Remote: endpoints[random.IntN(len(endpoints))], Shape: &Shape{Errno: int32(random.IntN(200))}, FD: int32(random.IntN(100)), Cookie: random.Uint64()}
			if random.IntN(5) == 0 {
				c.Count, c.LastBootTime, c.Local = 9, boot+1, endpoints[random.IntN(len(endpoints))]
			}
			b.Connections = append(b.Connections, c)
			if random.IntN(10) == 0 && len(written) > 0 {
				old := written[random.IntN(len(written))]
				old.Update, old.Shape = true, &Shape{Errno: 500}
				b.Connections = append(b.Connections, old)
			}
		}
		for i := range b.Connections {
			if !b.Connections[i].Update && len(written) < 1000 {
				written = append(written, b.Connections[i])
			}
		}
		for range random.IntN(1 + len(written)/2) {
			old := written[random.IntN(len(written))]
			local := endpoints[random.IntN(len(endpoints))]
			b.Endings = append(b.Endings, Ending{Connect: old.BootTime, Cookie: old.Cookie, Final: Final(random.IntN(3) + 100), Outcome: &Outcome{Local: local,
				Sent: random.Int64N(1 << 40), Received: random.Int64N(1 << 40), Duration: random.Int64N(1 << 50)}})
		}
		for range random.IntN(1 + len(written)/2) {
			old := written[random.IntN(len(written))]
			b.Namings = append(b.Namings, Naming{Connect: old.BootTime, Tid: old.Task.Tid, Port: old.Remote.Port,
				Name: strings.Repeat("n", random.IntN(255)) + fmt.Sprint(random.IntN(500)), Source: NameSNI})
		}
		b.Gaps = []Gap{{From: boot, Cause: "x", Detail: strings.Repeat("y", random.IntN(500))}}
		b.Counters = segment.Counters{"seen": boot}
		w.seg.blocks.size = 1000
		n, g := w.estimator.fit(w.seg, &b, growth{1 << 30, 1 << 30, 1 << 30})
		before := w.seg.bytes()
		mustAppend(t, w, b)
		if n != partOf(&b) {
			t.Fatalf("%+v of %+v fit", n, partOf(&b))
		}
		if more := w.seg.bytes() - before; more > g.sum() {
			t.Errorf("batch %d of %d: grew by %d, estimated %d", i, len(b.Connections), more, g.sum())
		} else {
			estimated, grown = estimated+g.sum(), grown+more
		}
	}
	mustClose(t, w, boot)
	t.Logf("grew by %d, estimated %d", grown, estimated)
	if estimated > 6*grown {
		t.Error("that is far too much")
	}
}

// TestSlotsAreFilledInFewTransactions: the end of a small slot is not filled row by row, each with a sync.
func TestSlotsAreFilledInFewTransactions(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	commits, segments := 0, 0
	o := options(999 * second)
	o.Limits = retain.Limits{MaxBytes: minSlotted, Reserve: true}
	o.Events = func(e Event) {
		switch e.(type) {
		case BatchCommitted:
			commits++
		case SegmentStarted:
			segments++
		}
	}
	w := mustOpenWriter(t, dir, o)
	if !w.slotted() {
		t.Skip("nothing can be reserved here")
	}
	l := newLoad(32, 320)
	w.now = func(string) (Anchor, error) { return at(l.boot), nil }
	conns := make([]Connection, 1000)
	const batches = 60
	for range batches {
		l.fill(conns)
		mustAppend(t, w, l.batch(conns))
	}
	mustClose(t, w, l.boot+1)
	if segments < 3 || commits > batches+10*segments {
		t.Errorf("%d transactions for %d batches in %d segments", commits, batches, segments)
	}
}
