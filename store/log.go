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

// checkpointPause is the longest time without a leaf: an intruder can still rewrite the records since the last leaf.
const checkpointPause = 10 * time.Second

// LogOptions are options of a tape's log.
type LogOptions struct {
	Host, MachineID, BootID, Version, Backend string   // as in WriterOptions
	BlindSpots                                []string // likewise

	MaxBytes int64         // limit of the tape's size; 0: none
	MaxAge   time.Duration // limit of a segment's age; 0: none

	// Begun gets the first verifier key of a new log. Checkpoint gets each durable signed checkpoint, or only the newest
	// if they come too fast. One goroutine calls both; nothing else waits for it. May be nil.
	Begun      func(key string)
	Checkpoint func(head []byte)

	Logger *slog.Logger // nil: discard
}

// LogKeeper writes the log of a tape from the [Writer]'s events, and the state of the active segment every 10 s. Set
// WriterOptions.Events to its method Listen.
//
// The log is opened at the first event, when the tape is locked. A failure to write it never stops recording: a limited
// number of leaves waits, and the log later reports how many were left out.
type LogKeeper struct {
	dir    string
	o      LogOptions
	logger *slog.Logger
	clocks func() (tapelog.Clocks, error)

	partLeaves int64 // of tapelog.Options
	teller     *logTeller

	writing sync.Mutex   // held while writing the log, as long as the disk takes
	log     *tapelog.Log // nil: not open
	failing bool

	mu      sync.Mutex // guards the fields below; never held while waiting for the disk
	tape    string
	started bool              // the start leaf was queued
	queue   []tapelog.Leaf    // to be written
	dropped int               // leaves dropped from a full queue
	active  tapelog.Leaf      // checkpoint leaf of the active segment, without clocks
	gaps    []tapelog.Leaf    // to be written with the next checkpoint
	alarmed map[string]uint64 // by cause: begin of the last gap reported at once
	expired bool              // a segment was removed since the last pruning
	pruned  time.Time         // time of the last pruning

	wake chan struct{}
	quit chan struct{}
	done chan struct{}
}

// mostQueued limits the leaves waiting for the disk.
const mostQueued = 1024

// NewLogKeeper returns the log keeper of the tape in dir. Close it after use.
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

// tick writes a checkpoint and waiting leaves after each pause.
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

// checkpoint logs the state of the active segment.
func (k *LogKeeper) checkpoint() {
	k.mu.Lock()
	if k.started {
		k.putCheckpoint()
	}
	k.mu.Unlock()
	k.flush()
}

// putCheckpoint queues the gaps and a checkpoint.
func (k *LogKeeper) putCheckpoint() {
	k.putGaps()
	leaf := k.active
	leaf.Kind = tapelog.KindCheckpoint
	k.put(leaf)
}

// Close writes the queue and closes the log. Close the writer first.
func (k *LogKeeper) Close() error {
	close(k.quit)
	<-k.done
	k.flush()
	defer k.teller.close() // without a lock: the receiver may hang
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

// put queues a leaf with the current time.
func (k *LogKeeper) put(leaf tapelog.Leaf) {
	k.stamp(&leaf)
	last := len(k.queue) - 1
	switch {
	case leaf.Kind == tapelog.KindCheckpoint && last >= 0 && k.queue[last].Kind == leaf.Kind && k.queue[last].Detail == "":
		k.queue = k.queue[:last] // the newer one replaces it
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

// flush writes the queue in order. Failed leaves wait.
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

// write writes one leaf. taken with an error means that the log keeps the leaf and writes it before the next one.
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

// begin queues the start leaf before any other leaf of the run.
func (k *LogKeeper) begin() {
	if k.started {
		return
	}
	k.started = true
	k.put(k.start())
}

// start returns the leaf of the run's start.
func (k *LogKeeper) start() tapelog.Leaf {
	leaf := tapelog.Leaf{Kind: tapelog.KindStart, Tape: k.tape, Host: k.o.Host, Machine: k.o.MachineID, BootID: k.o.BootID,
		Version: k.o.Version, Backend: k.o.Backend, Detail: tapelog.Cut(escapeLines(k.o.BlindSpots)), MaxSize: k.o.MaxBytes, MaxAge: int64(k.o.MaxAge)}
	k.stamp(&leaf)
	return leaf
}

// stamp sets the clocks in a leaf.
func (k *LogKeeper) stamp(leaf *tapelog.Leaf) {
	now, err := k.clocks()
	if err != nil {
		k.logger.Error("clock not read", "error", err)
	}
	leaf.Boot, leaf.Real, leaf.Suspended, leaf.Sync = now.Boot, now.Real, now.Suspended, now.Sync
}

// putGaps queues the gaps reported since the last checkpoint.
func (k *LogKeeper) putGaps() {
	for _, g := range k.gaps {
		k.put(g)
	}
	k.gaps = nil
}

// addGap keeps a gap until the next checkpoint: a lasting gap comes with each batch.
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
