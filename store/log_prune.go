package store

import (
	"math"
	"time"

	"github.com/conntape/conntape/store/tapedir"
	"github.com/conntape/conntape/store/tapelog"
)

// pruneEvery is the least pause between two prunings of the log. A part of the log is a week.
const pruneEvery = time.Hour

// pruneIfDue removes leaves that only concern expired segments, so that the log has a limit like the tape.
func (k *LogKeeper) pruneIfDue() {
	k.mu.Lock()
	due := k.expired && time.Since(k.pruned) >= pruneEvery
	if due {
		k.expired, k.pruned = false, time.Now()
	}
	k.mu.Unlock()
	if !due {
		return
	}
	if err := k.prune(); err != nil {
		k.logger.Warn("log not pruned", "error", err)
	}
}

func (k *LogKeeper) prune() error {
	oldest, err := oldestKept(k.dir)
	if err != nil {
		return err
	}
	return k.pruneBefore(oldest)
}

// pruneBefore removes leaves that only concern segments before oldest.
func (k *LogKeeper) pruneBefore(oldest int) error {
	k.writing.Lock()
	defer k.writing.Unlock()
	note, err := k.stampedNow()
	if err != nil {
		return err
	}
	return k.log.Prune(note, func(l tapelog.Leaf) bool { return l.Segment < oldest })
}

// stampedNow returns a leaf later than all queued ones, which are written first, and earlier than all others. The caller
// has the log to itself.
func (k *LogKeeper) stampedNow() (tapelog.Leaf, error) {
	for {
		if err := k.tryFlush(); err != nil {
			return tapelog.Leaf{}, err
		}
		if err := k.open(); err != nil {
			return tapelog.Leaf{}, err
		}
		k.mu.Lock()
		note, queued := k.start(), len(k.queue)
		k.mu.Unlock()
		if queued == 0 {
			return note, nil
		}
	}
}

// oldestKept returns the number of the oldest segment in the tape or under a hold.
func oldestKept(dir string) (int, error) {
	numbers, _, err := tapedir.List(dir)
	if err != nil {
		return 0, err
	}
	holds, err := tapedir.Holds(dir)
	if err != nil {
		return 0, err
	}
	oldest := math.MaxInt
	if len(numbers) > 0 {
		oldest = numbers[0]
	}
	for _, h := range holds {
		for _, s := range h.Segments {
			oldest = min(oldest, s.Number)
		}
	}
	if oldest == math.MaxInt {
		oldest = 0
	}
	return oldest, nil
}
