package store

import "time"

// logTeller passes the log's first key and its signed checkpoints to a receiver. A stopped terminal or a hanging system
// log only holds up the teller: it keeps the newest waiting checkpoint, which covers the others.
type logTeller struct {
	o     *LogOptions
	keys  chan string // capacity 1
	heads chan []byte // capacity 1
	done  chan struct{}
}

// tellerGrace limits the wait for the receiver at the end.
const tellerGrace = 2 * time.Second

func newLogTeller(o *LogOptions) *logTeller {
	t := &logTeller{o: o, keys: make(chan string, 1), heads: make(chan []byte, 1), done: make(chan struct{})}
	go t.run()
	return t
}

func (t *logTeller) run() {
	defer close(t.done)
	for head := range t.heads {
		t.tellKey()
		if t.o.Checkpoint != nil && head != nil {
			t.o.Checkpoint(head)
		}
	}
	t.tellKey()
}

func (t *logTeller) tellKey() {
	select {
	case key := <-t.keys:
		if t.o.Begun != nil {
			t.o.Begun(key)
		}
	default:
	}
}

// key passes on a new log's first key, at most once before the next head.
func (t *logTeller) key(key string) {
	select {
	case t.keys <- key:
	default: // the log was begun again before the last key was received
	}
}

// head passes on a signed checkpoint. One goroutine at a time may call it.
func (t *logTeller) head(head []byte) {
	select {
	case <-t.heads: // not received yet: the newer replaces it
	default:
	}
	t.heads <- head
}

// close waits for the receiver, but not for ever.
func (t *logTeller) close() {
	close(t.heads)
	select {
	case <-t.done:
	case <-time.After(tellerGrace):
	}
}
