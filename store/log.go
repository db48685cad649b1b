package store

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/conntape/conntape/store/escape"
	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
	"github.com/conntape/conntape/store/tapelog"
)

// checkpointPause is how long the log goes without a leaf: what an intruder can
// still rewrite is what was recorded since the last one.
const checkpointPause = 10 * time.Second

// LogOptions say how the log of a tape is kept.
type LogOptions struct {
	Host, MachineID, BootID, Version, Backend string   // as in WriterOptions
	BlindSpots                                []string // likewise

	MaxBytes int64         // what the tape may take, 0 unbounded
	MaxAge   time.Duration // how long a segment is kept, 0 for ever

	// Begun is told the first verifier key of a log that is new, and Checkpoint the
	// signed checkpoints once they are on the disk; when they come faster than they
	// are taken, the newest. Both are called by one goroutine, which holds up nothing
	// else. May be nil.
	Begun      func(key string)
	Checkpoint func(head []byte)

	Logger *slog.Logger // nil: discard
}

// LogKeeper writes the log of a tape: what [Writer] tells it, and every 10 s how
// far the active segment has come. Its method Listen is for WriterOptions.Events.
//
// The log is opened with the first event, when the tape is locked. That it cannot
// be written never stops recording: the leaves wait, up to a number, and what had
// to be left out is said in the log when it can be written again.
type LogKeeper struct {
	dir    string
	o      LogOptions
	logger *slog.Logger
	clocks func() (tapelog.Clocks, error)

	partLeaves int64 // of tapelog.Options
	teller     *logTeller

	writing sync.Mutex   // held while the log is written: for as long as the disk takes
	log     *tapelog.Log // nil: not open
	failing bool

	mu      sync.Mutex // guards what follows; never held while the disk is waited for
	tape    string
	started bool              // the start leaf was queued
	queue   []tapelog.Leaf    // not written yet
	dropped int               // leaves that found no room in it
	active  tapelog.Leaf      // checkpoint leaf of the active segment, without clocks
	gaps    []tapelog.Leaf    // to be written with the next checkpoint
	alarmed map[string]uint64 // by cause, beginning of the gap that was told at once last
	expired bool              // a segment was removed since the log was pruned
	pruned  time.Time         // when that was looked at last

	wake chan struct{}
	quit chan struct{}
	done chan struct{}
}

// mostQueued bounds what waits for a disk that takes nothing.
const mostQueued = 1024

// NewLogKeeper returns the keeper of the log of the tape in dir. Close ends it.
func NewLogKeeper(dir string, o LogOptions) *LogKeeper {
	return newLogKeeper(dir, o, checkpointPause)
}

func newLogKeeper(dir string, o LogOptions, pause time.Duration) *LogKeeper {
	k := &LogKeeper{dir: dir, o: o, logger: o.Logger, clocks: tapelog.ReadClocks,
		wake: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{})}
	if k.logger == nil {
		k.logger = slog.New(slog.DiscardHandler)
	}
	k.teller = newLogTeller(&k.o)
	go k.tick(pause)
	return k
}

// tick writes a checkpoint after each pause, and whatever waits.
func (k *LogKeeper) tick(pause time.Duration) {
	defer close(k.done)
	timer := time.NewTicker(pause)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			k.checkpoint()
			k.pruneIfDue()
		case <-k.wake:
			k.flush()
		case <-k.quit:
			return
		}
	}
}

// checkpoint says how far the active segment has come.
func (k *LogKeeper) checkpoint() {
	k.mu.Lock()
	if k.started {
		k.putCheckpoint()
	}
	k.mu.Unlock()
	k.flush()
}

// putCheckpoint queues a checkpoint, and the gaps before it.
func (k *LogKeeper) putCheckpoint() {
	k.putGaps()
	leaf := k.active
	leaf.Kind = tapelog.KindCheckpoint
	k.put(leaf)
}

// Close writes what waits and closes the log. The writer must have been closed.
func (k *LogKeeper) Close() error {
	close(k.quit)
	<-k.done
	k.flush()
	defer k.teller.close() // with nothing locked: it may be that somebody hangs
	k.writing.Lock()
	defer k.writing.Unlock()
	var err error
	if k.log != nil {
		err = k.log.Close()
		k.log = nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if left := len(k.queue) + k.dropped; left > 0 {
		err = errors.Join(err, fmt.Errorf("%d entries were not written", left))
	}
	if err != nil {
		return &failure.Error{Op: "close log", Path: filepath.Join(k.dir, tapedir.LogDir), Err: err, Hint: storageHint(err)}
	}
	return nil
}

// put queues a leaf, with the time that it is now.
func (k *LogKeeper) put(leaf tapelog.Leaf) {
	k.stamp(&leaf)
	last := len(k.queue) - 1
	switch {
	case leaf.Kind == tapelog.KindCheckpoint && last >= 0 && k.queue[last].Kind == leaf.Kind && k.queue[last].Detail == "":
		k.queue = k.queue[:last] // the newer one says all that it said
	case len(k.queue) >= mostQueued:
		if leaf.Kind != tapelog.KindCheckpoint {
			k.dropped++
		}
		return
	}
	if k.dropped > 0 && leaf.Detail == "" {
		leaf.Detail = fmt.Sprintf("%d entries before this one could not be written", k.dropped)
		k.dropped = 0
	}
	k.queue = append(k.queue, leaf)
}

// flush writes what waits, in order. What fails waits on.
func (k *LogKeeper) flush() {
	k.writing.Lock()
	defer k.writing.Unlock()
	err := k.tryFlush()
	if err != nil && !k.failing {
		k.logger.Error("log of the tape not written; recording goes on", "error", err)
	}
	k.failing = err != nil
}

func (k *LogKeeper) tryFlush() error {
	for {
		k.mu.Lock()
		if len(k.queue) == 0 {
			k.mu.Unlock()
			return nil
		}
		leaf := k.queue[0]
		k.queue = k.queue[1:]
		k.mu.Unlock()
		taken, err := k.write(leaf)
		if err != nil {
			if !taken {
				k.mu.Lock()
				k.queue = append([]tapelog.Leaf{leaf}, k.queue...)
				k.mu.Unlock()
			}
			return err
		}
	}
}

// write writes one leaf. With an error, taken says that the log keeps the leaf
// and writes it before the next one.
func (k *LogKeeper) write(leaf tapelog.Leaf) (taken bool, err error) {
	if err := k.open(); err != nil {
		return false, err
	}
	before := k.log.Pending()
	head, err := k.log.Append(leaf)
	if err != nil {
		return !before && k.log.Pending(), err
	}
	k.teller.head(head)
	return true, nil
}

// open opens the log unless it is open.
func (k *LogKeeper) open() error {
	if k.log != nil {
		return nil
	}
	l, err := tapelog.Open(filepath.Join(k.dir, tapedir.LogDir), tapelog.Options{Give: tapedir.GiveToGroup, PartLeaves: k.partLeaves, Logger: k.logger})
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	k.log = l
	if key := l.FirstKey(); key != "" {
		k.teller.key(key)
	}
	return nil
}

// begin queues the start leaf before anything else of this run.
func (k *LogKeeper) begin() {
	if k.started {
		return
	}
	k.started = true
	k.put(k.start())
}

// start says who records, where and within what limits.
func (k *LogKeeper) start() tapelog.Leaf {
	leaf := tapelog.Leaf{Kind: tapelog.KindStart, Tape: k.tape, Host: k.o.Host, Machine: k.o.MachineID, BootID: k.o.BootID,
		Version: k.o.Version, Backend: k.o.Backend, Detail: tapelog.Cut(escapeLines(k.o.BlindSpots)), MaxSize: k.o.MaxBytes, MaxAge: int64(k.o.MaxAge)}
	k.stamp(&leaf)
	return leaf
}

// stamp puts the clocks into a leaf.
func (k *LogKeeper) stamp(leaf *tapelog.Leaf) {
	now, err := k.clocks()
	if err != nil {
		k.logger.Error("clock not read", "error", err)
	}
	leaf.Boot, leaf.Real, leaf.Suspended, leaf.Sync = now.Boot, now.Real, now.Suspended, now.Sync
}

// putGaps queues the gaps that were told since the last checkpoint.
func (k *LogKeeper) putGaps() {
	for _, g := range k.gaps {
		k.put(g)
	}
	k.gaps = nil
}

// addGap keeps a gap until the next checkpoint: one that lasts is told with each
// batch.
func (k *LogKeeper) addGap(number int, g Gap) {
	leaf := tapelog.Leaf{Kind: tapelog.KindGap, Segment: number, From: int64(g.From), To: int64(g.To), Cause: g.Cause, Lost: g.Lost}
	if segment.IsAlarm(g.Cause) {
		leaf.Detail = tapelog.Cut(escape.Bytes([]byte(g.Detail)))
	}
	for i := range k.gaps {
		old := &k.gaps[i]
		if old.Segment == number && old.From == leaf.From && old.Cause == leaf.Cause {
			*old = leaf
			return
		}
	}
	k.gaps = append(k.gaps, leaf)
}
