package recorder

import (
	"errors"
	"fmt"
	"math"
	"os"
	"time"
)

// finish reads what is left when capture has ended, writes what never returned, and hands over the last batch, whatever
// else fails.
func (r *recorder) finish() error {
	r.opens.nextLook = 0 // whoever records next may not find them open
	errs := []error{r.look(r.boot())}
	if err := r.src.Detach(); err != nil {
		errs = append(errs, fmt.Errorf("detach: %w", err))
	}
	errs = append(errs, r.drainRest(time.Now().Add(r.config.stopWithin)))
	now := r.boot()
	for range 2 { // two absences tell what is gone without a record
		errs = append(errs, r.sweep(now, 0))
	}
	r.ledger.own += r.flight.own // they return no more
	r.settle(now + 1)
	errs = append(errs, r.countLastSends(), r.drainEvents(now, forever), r.drainAnswers(math.MaxInt, forever), r.drainOutcomes(now, forever))
	r.settleAnswers(math.MaxUint64)
	r.endings(now, true)
	r.expireHellos(now, true)
	r.writeFolds(now, true)
	r.table.hashes.finish(hashesEndWithin)
	r.ledger.outcomes.ended, r.ledger.events.ended, r.ledger.lookups.ended = true, true, true
	return errors.Join(append(errs, r.push(now))...)
}

// readOut reads until the ring is empty once, or time is up: others go on filling it.
func (r *recorder) readOut() error {
	for until := time.Now().Add(r.config.stopWithin); time.Now().Before(until); {
		err := r.src.ReadConnect(time.Now(), &r.rec)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			r.horizon = max(r.horizon, r.passed)
			return nil
		}
		if err != nil {
			return fmt.Errorf("read connect ring: %w", err)
		}
		r.take(&r.rec)
	}
	return nil
}

// drainRest reads until the ring is empty and holds no more than was read, or time is up.
func (r *recorder) drainRest(until time.Time) error {
	var empty time.Time // since when, though more was sent: a program may still be at it
	for now := time.Now(); now.Before(until); now = time.Now() {
		err := r.src.ReadConnect(now, &r.rec)
		if err == nil {
			r.take(&r.rec)
			empty = time.Time{}
			continue
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("read connect ring: %w", err)
		}
		counters, err := r.src.Counters()
		if err != nil {
			return fmt.Errorf("read counters: %w", err)
		}
		if counters.Sent <= r.ledger.received+r.ledger.stolen {
			r.horizon = r.boot()
			break
		}
		if empty.IsZero() {
			empty = now
		} else if now.Sub(empty) > endsWithin {
			break
		}
		time.Sleep(time.Millisecond)
	}
	counters, err := r.src.Counters()
	if err != nil {
		return fmt.Errorf("read counters: %w", err)
	}
	missing := counters.Sent - min(counters.Sent, r.ledger.received+r.ledger.stolen)
	if missing > 0 && r.src.Unread() == 0 {
		r.steal(r.boot(), missing)
	} else {
		r.ledger.unread += missing
	}
	_, err = r.drainProcesses()
	return err
}
