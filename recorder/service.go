package recorder

import (
	"time"
)

// Service is how a recorder and what supervises it keep in touch. Every field may be left out. The functions are called by
// the recorder's goroutines, and must not block.
type Service struct {
	// Ready is called when every connect from then on is recorded, and again when recording began anew with another
	// backend.
	Ready func(backend string)
	// Alive is called each time connects of our own, made through every hook, came back through the ring: hooks, ring and
	// the draining goroutine work. A recorder that hangs does not call it. While the ring loses records in a flood, a pass
	// over the ring has to do, since nothing follows from a connect that does not come back.
	Alive func()
	// Progress is told the status line every 10 s, if it has changed.
	Progress func(line string)
	// ProbeEvery is the time between two such looks; 0 is a minute.
	ProbeEvery time.Duration
	// Tune hands over what is to change while recording goes on.
	Tune <-chan Tuning
}

// Tuning is what of Options may change while recording goes on.
type Tuning struct {
	BatchAge        time.Duration // as in Options
	BatchRows       int
	KeepFree        int64 // as in retain.Limits, bytes
	KeepFreePercent int
	MaxHeldBytes    int64
}

// apply puts a change into options, so that a backend that takes over has it too.
func (t Tuning) apply(o *Options) {
	o.BatchAge, o.BatchRows = t.BatchAge, t.BatchRows
	o.Limits.KeepFree, o.Limits.KeepFreePercent, o.Limits.MaxHeldBytes = t.KeepFree, t.KeepFreePercent, t.MaxHeldBytes
}

// retune takes over what was changed. It belongs to the draining goroutine.
func (r *recorder) retune() {
	for {
		select {
		case t := <-r.service.Tune:
			r.config.batchAge, r.config.batchRows = t.BatchAge, t.BatchRows
			if r.tuned != nil {
				r.tuned(t)
			}
		default:
			return
		}
	}
}

// alive tells that a look at the recording found it whole.
func (r *recorder) alive() {
	if r.service.Alive != nil {
		r.service.Alive()
	}
}
