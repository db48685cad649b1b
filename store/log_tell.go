package store

import "time"

// logTeller tells somebody outside what the log has to say: its first key, and
// its signed checkpoints. A terminal that is stopped or a system log that hangs
// holds up nobody but the teller: of the checkpoints that wait the newest is kept,
// which covers the others.
type logTeller struct {
	o     *LogOptions
	keys  chan string // capacity 1
	heads chan []byte // capacity 1
	done  chan struct{}
}

// tellerGrace is how long the end waits for what is still to be told.
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

// key tells the first key of a log. It is called at most once before the next head.
func (t *logTeller) key(key string) {
	select {
	case t.keys <- key:
	default: // a log that was begun again before anybody heard of the one before
	}
}

// head tells a signed checkpoint. It is called by one goroutine at a time.
func (t *logTeller) head(head []byte) {
	select {
	case <-t.heads: // one that was not told yet
	default:
	}
	t.heads <- head
}

// close waits for what is still to be told, but not for ever.
func (t *logTeller) close() {
	close(t.heads)
	select {
	case <-t.done:
	case <-time.After(tellerGrace):
	}
}
