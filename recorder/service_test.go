package recorder

import (
	"sync/atomic"
	"testing"
	"time"
)

// TestAlive: what supervises the recorder hears of it only while connects of our own come back.
func TestAlive(t *testing.T) {
	src, out := newScript(), newMemory()
	var ready, alive atomic.Int64
	stop := start(t, src, out, watchful(), Options{Service: Service{
		Ready: func(string) { ready.Add(1) }, Alive: func() { alive.Add(1) },
	}})
	waitFor(t, "signs of life", func() bool { return alive.Load() > 2 && ready.Load() == 1 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}

	src, out = newScript(), newMemory()
	src.unseen = true
	alive.Store(0)
	stop = start(t, src, out, watchful(), Options{Service: Service{Alive: func() { alive.Add(1) }}})
	waitFor(t, "the end", func() bool { out.mu.Lock(); defer out.mu.Unlock(); return out.stop != nil })
	_ = stop()
	if n := alive.Load(); n != 0 {
		t.Errorf("%d signs of life of a recorder whose hooks see nothing", n)
	}
}

// TestRetune: what is changed while recording goes on is in force from the next batch on.
func TestRetune(t *testing.T) {
	src, out := newScript(), newMemory()
	c := quick()
	c.batchAge = time.Hour
	tune := make(chan Tuning, 1)
	stop := start(t, src, out, c, Options{Service: Service{Tune: tune}})
	src.connect(connectBy(key(1, 1, 1), bootNow()))
	tune <- Tuning{BatchAge: time.Millisecond, BatchRows: 10}
	waitFor(t, "a row", func() bool { out.mu.Lock(); defer out.mu.Unlock(); return len(out.rows) > 0 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}

	o := Options{BatchAge: 1, BatchRows: 1}
	Tuning{BatchAge: 2, BatchRows: 3, KeepFree: 4, KeepFreePercent: 5, MaxHeldBytes: 6}.apply(&o)
	if l := o.Limits; o.BatchAge != 2 || o.BatchRows != 3 || l.KeepFree != 4 || l.KeepFreePercent != 5 || l.MaxHeldBytes != 6 {
		t.Errorf("%+v", o)
	}
}
