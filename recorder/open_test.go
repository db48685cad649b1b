package recorder

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/conntape/conntape/bpf"
	"github.com/conntape/conntape/store"
)

// openBy plays a socket that is open: its connect was seen at attempt.
func openBy(holder bpf.Connect, attempt bpf.ID, sent, received uint64) bpf.OpenSocket {
	holder.Via, holder.Errno = bpf.ViaSnapshot, bpf.Unknown
	return bpf.OpenSocket{Holder: holder, SoFar: bpf.Outcome{
		Kind: bpf.OutcomeOpen, From: bpf.TCPEstablished, Attempt: attempt, Cookie: holder.Cookie, BootTime: bootNow(), Sent: sent, Received: received,
		Established: attempt.BootTime + 5, Local: netip.MustParseAddrPort("10.0.0.9:4000"), RTT: 9,
	}}
}

func (s *script) setOpen(list ...bpf.OpenSocket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = list
}

func (m *memory) endings() (all []store.Ending) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, b := range m.batches {
		all = append(all, b.Endings...)
	}
	return all
}

// What was open when the recorder began has a row of its own, unless the tape has one of an earlier recorder: then its end is an
// ending of that.
func TestAdoptedSocketsAreTold(t *testing.T) {
	src, out := newScript(), newMemory()
	now := bootNow()
	k := key(1, 1, 1)
	fresh, resumed := connectBy(k, now), connectBy(k, now+1)
	src.setAlive(aliveOf(k, bpf.ProcessKey{}, "/bin/tunnel"))
	r := newRecorder(src, out, quick(), hostFiles{proc: procOf(t)})
	found := openBy(fresh, fresh.ID(), 10, 20)
	found.SoFar.Established = now // adopted
	again := openBy(resumed, resumed.ID(), 30, 40)
	again.SoFar.Established = now + 1
	before := store.Followed{Connect: now - uint64(time.Hour), Outcome: store.Outcome{Established: 77, RTT: 3}}
	r.opens.begun = []adopted{{OpenSocket: found}, {OpenSocket: again, row: &before}}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.run(ctx, Options{}) }()
	waitFor(t, "the row", func() bool { return out.count() == 1 && len(out.endings()) == 1 })
	for _, of := range []*bpf.Connect{&fresh, &resumed} {
		end := closed(of, 5000)
		end.Established = of.BootTime
		src.outcome(of, end)
	}
	src.wake()
	waitFor(t, "the ends", func() bool { return len(out.endings()) == 3 })
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	accounted(t, out)
	row := out.rows[0]
	if row.Shape.Via != "snapshot" || row.Shape.Final != store.FinalEstablished || row.Shape.Errno != -1 || row.BootTime != now || row.Outcome.Sent != 10 || row.Outcome.Received != 20 ||
		row.Outcome.SeenOpen == 0 || row.Outcome.Established != store.Unmeasured || row.Outcome.Duration != store.Unmeasured || row.Task.Process.Exe != "/bin/tunnel" {
		t.Errorf("the row says %+v %+v", row.Shape, row.Outcome)
	}
	hour := int64(time.Hour)
	for _, e := range out.endings() {
		o := e.Outcome
		switch {
		case e.Cookie == fresh.Cookie:
			if e.Connect != fresh.BootTime || o.Duration != 5000 || o.Established != store.Unmeasured || e.Final != store.FinalEstablished {
				t.Errorf("the end of the first: %+v %+v", e, o)
			}
		case o.Duration < 0:
			if e.Connect != before.Connect || o.Sent != 30 || o.SeenOpen < hour || o.Established != 77 || o.RTT != 3 {
				t.Errorf("the second, open: %+v %+v", e, o)
			}
		default:
			if e.Connect != before.Connect || o.Duration != hour+5001 || o.Established != 77 {
				t.Errorf("the end of the second: %+v %+v", e, o)
			}
		}
	}
}

// While a connection is open, each look tells what went over it, if that changed; of one whose row retention has removed, in a row
// of its own.
func TestOpenSocketsAreRefreshed(t *testing.T) {
	src, out := newScript(), newMemory()
	c := quick()
	c.refreshEvery = 20 * time.Millisecond
	stop := start(t, src, out, c, Options{})
	now := bootNow()
	k := key(1, 1, 1)
	src.process(execOf(k, bpf.ProcessKey{}, now, "/bin/x", "x\x00"))
	made := connectBy(k, now)
	src.outcome(&made, established(&made, 5))
	src.connect(made)
	waitFor(t, "the row", func() bool { return out.count() == 1 })
	look := func(sent uint64) { src.setOpen(openBy(made, made.ID(), sent, 5), openBy(made, made.ID(), sent, 5)) }
	look(100)
	waitFor(t, "the first look", func() bool { return len(out.endings()) == 1 })
	time.Sleep(100 * time.Millisecond) // nothing changed
	look(200)
	waitFor(t, "the second look", func() bool { return len(out.endings()) == 2 })
	for i, e := range out.endings() {
		if e.Connect != made.BootTime || e.Cookie != made.Cookie || e.Final != store.FinalEstablished || e.Outcome.Sent != int64(100+100*i) || e.Outcome.Received != 5 ||
			e.Outcome.Duration != store.Unmeasured || e.Outcome.SeenOpen == 0 || e.Outcome.Established != 5 || e.Outcome.RTT != 9 || e.Outcome.ClosedBy != store.ClosedByNobody {
			t.Errorf("look %d: %+v %+v", i, e, e.Outcome)
		}
	}
	out.mu.Lock()
	out.oldest = time.Now().Add(2 * time.Minute)
	out.mu.Unlock()
	holder := made
	holder.BootTime = now + 1e9
	src.setOpen(openBy(holder, made.ID(), 300, 5))
	waitFor(t, "a row of its own", func() bool { return out.count() == 2 })
	out.mu.Lock()
	out.oldest = time.Time{}
	out.mu.Unlock()
	src.outcome(&made, closed(&made, 3e9))
	src.wake()
	waitFor(t, "the end", func() bool { return len(out.endings()) == 3 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	accounted(t, out)
	row, end := out.rows[1], out.endings()[2]
	if row.BootTime != holder.BootTime || row.Shape.Via != "snapshot" || row.Outcome.Sent != 300 {
		t.Errorf("its row says %+v %+v %+v", row, row.Shape, row.Outcome)
	}
	if end.Connect != holder.BootTime || end.Cookie != made.Cookie || end.Outcome.Duration != 2e9 {
		t.Errorf("its end: %+v %+v", end, end.Outcome)
	}
}
