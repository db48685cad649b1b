// Package recorder is the running service: it drains what the kernel recorded, finds out who every connect belongs to,
// batches the rows and hands them to the tape, and accounts for each attempt.
//
// Two goroutines share the work. One drains: it owns process table, caches and ledger, and never waits for the disk.
// The other writes: it takes whole batches and waits for each to be on disk. Between them is a queue of bounded memory.
// A third watches the clock, a fourth prints.
//
// The package knows bpf and store. It knows nothing of SQL, of command lines, or of how a hook works.
package recorder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/conntape/conntape/bpf"
	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/store/retain"
	"github.com/conntape/conntape/store/segment"
)

// Defaults of Options.
const (
	DefaultBatchAge  = time.Second
	DefaultBatchRows = 100_000
	DefaultBuffer    = 64 << 20
)

// MinBuffer is the least memory that a queue can work with.
const MinBuffer = 1 << 20

// Options say what to record and where to.
type Options struct {
	Dir       string        // of the tape
	Backend   bpf.Backend   // "" takes the first that attaches
	BatchAge  time.Duration // a row is on disk at most this long after it was read; 0 is DefaultBatchAge
	BatchRows int           // rows after which a batch is written before its time; 0 is DefaultBatchRows
	Buffer    int64         // bytes of rows that may wait for the disk; 0 is DefaultBuffer
	Events    Events        // what to record beside connects
	Exclude   []Exclusion   // connects that are counted and not kept
	NoHashes  bool          // do not read the programs that connect
	RingBytes uint32        // of the kernel's ring; 0 is its default
	Limits    retain.Limits // of the tape
	Immutable bool          // set the immutable flag on sealed segments
	Pin       string        // directory for what goes on recording when this recorder ends (bpf.DefaultPin); "": nothing does

	// LogBegun is told the first verifier key of a tape's log when it is begun, and Checkpoint each signed checkpoint of
	// it. They may be nil.
	LogBegun   func(key string)
	Checkpoint func(head []byte)

	Service Service // what supervises the recorder

	Version  string
	Status   io.Writer // where to say that recording began, and how it goes; nil is nowhere
	Terminal bool      // Status is a terminal
	Logger   *slog.Logger
}

// Events says what is recorded beside connects.
type Events struct {
	bpf.Events
	EachAccept bool // a connection that is accepted has a row of its own
}

// gcPercent is the garbage, in percent of what is in use, at which it is collected. A flood fills the queue with pointers
// that each collection follows: half as many are half the time, and when little is in use they cost no memory.
const gcPercent = 200

// heapBeside is the memory that the heap may take beside the queue, in bytes, garbage included. Of 100 MB beside the queue,
// the rest is for SQLite's cache, a batch that it writes, the rings and the program.
const heapBeside = 28 << 20

// boundHeap has garbage collected more often than gcPercent says when there is much of it. Whoever started us may have
// set a lower limit (GOMEMLIMIT).
func boundHeap(buffer int64) (restore func()) {
	before := debug.SetMemoryLimit(-1)
	debug.SetMemoryLimit(min(before, buffer+heapBeside))
	return func() { debug.SetMemoryLimit(before) }
}

func (o Options) check() error {
	switch {
	case o.Dir == "":
		return errors.New("no tape directory")
	case o.BatchAge < 0, o.BatchRows < 0:
		return errors.New("a batch needs a positive age and size")
	case o.Buffer != 0 && o.Buffer < MinBuffer:
		return fmt.Errorf("a buffer of %d bytes is too small: %d is the least", o.Buffer, MinBuffer)
	}
	return nil
}

// Run records until ctx ends, and returns nil then: everything seen until that moment is on the tape. An error means
// that recording did not begin, or could not go on. When the kernel stops running the programs of a backend, recording goes
// on with another one, whichever was asked for.
func Run(ctx context.Context, o Options) (err error) {
	if err := o.check(); err != nil {
		return err
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	defer debug.SetGCPercent(debug.SetGCPercent(gcPercent))
	defer boundHeap(cmp.Or(o.Buffer, DefaultBuffer))()
	if err := coarseTimers(); err != nil {
		o.Logger.Debug("timers as precise as ever, so that an idle recorder wakes more often", "error", err)
	}
	for {
		if err = runOnce(ctx, &o); !errors.Is(err, bpf.ErrBlind) || ctx.Err() != nil {
			return err
		}
		o.Logger.Error("recording begins anew, with a backend that sees", "error", err)
		o.Backend = ""
	}
}

// runOnce records with one backend. The error wraps bpf.ErrBlind when that one sees no more; the tape is closed then.
func runOnce(ctx context.Context, o *Options) (err error) {
	w := store.WriterOptions{Version: o.Version}
	if err := describeHost(&w); err != nil {
		return err
	}
	before := lastHandover(ctx, o, w.BootID)
	capture, err := bpf.Open(bpf.Options{
		Backend: o.Backend, RingBytes: o.RingBytes, Events: o.Events.Events, Logger: o.Logger,
		Pin: o.Pin, Tape: tapeName(o.Dir), Handover: before,
	})
	if err != nil {
		return fmt.Errorf("start capture: %w", err)
	}
	defer func() { err = errors.Join(err, capture.Close()) }()
	w = store.WriterOptions{
		Version:    o.Version,
		Backend:    string(capture.Backend()),
		BlindSpots: append(capture.BlindSpots(), excludedSpots(o.Exclude)...),
		Limits:     o.Limits,
		Immutable:  o.Immutable,
		Now:        takeAnchor(anchorStart),
		LateNames:  o.Events.TLS || o.Events.HTTP,
		Logger:     o.Logger,
		Context:    ctx,
	}
	if err := describeHost(&w); err != nil {
		return err
	}
	if w.Handover, err = firstHandover(capture, before, w.Now.Boot); err != nil {
		return fmt.Errorf("take over: %w", err)
	}
	open, known := adopt(ctx, capture, o.Dir, w.BootID, o.Logger), recallNames(ctx, o, w.BootID) // before the tape is open
	keeper := store.NewLogKeeper(o.Dir, store.LogOptions{
		Host: w.Host, MachineID: w.MachineID, BootID: w.BootID, Version: w.Version, Backend: w.Backend, BlindSpots: w.BlindSpots,
		MaxBytes: o.Limits.MaxBytes, MaxAge: o.Limits.MaxAge,
		Begun: o.LogBegun, Checkpoint: o.Checkpoint, Logger: o.Logger,
	})
	defer func() { err = errors.Join(err, keeper.Close()) }() // after the tape was closed
	c := configOf(*o)
	w.Events = noticeSegments(c.names.begun, noticeFull(c.tape.full, keeper.Listen))
	tape, err := store.OpenWriter(o.Dir, w)
	if ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
		return nil // it was told to stop before it began
	}
	if err != nil {
		return fmt.Errorf("open tape: %w", err)
	}
	c.tape.bootID = w.BootID
	if err := c.tape.recall(tape.KeptShares()); err != nil {
		o.Logger.Warn("nobody knows who wrote how much of the tape", "error", err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		o.Logger.Warn("mounts not read", "error", err)
	}
	r := newRecorder(capture, tape, c, hostFiles{
		proc: "/proc", passwd: "/etc/passwd", cgroups: cgroupMount(mounts),
	})
	r.opens.begun = open
	r.lookups.names.recall(known)
	if capture.Pinned() {
		r.heritage = capture
		r.overlap = capture.Overlap()
		r.takeOver(capture.Taken())
	}
	r.doubted(r.boot(), capture.Doubt())
	r.tuned = func(t Tuning) {
		t.apply(o)
		go tape.Relimit(t.KeepFree, t.KeepFreePercent, t.MaxHeldBytes) // it waits while something is put under a hold
	}
	return r.run(ctx, *o)
}

// hostFiles are the places on the host that the recorder reads.
type hostFiles struct {
	proc    string
	passwd  string
	cgroups string // mount of cgroup v2, "" none
}

// recorder is one run. Everything but queue, writer, anchors and progress belongs to the draining goroutine.
type recorder struct {
	src    source
	sink   sink
	config config
	log    *slog.Logger
	boot   func() uint64 // now, ns CLOCK_BOOTTIME
	proc   procfs

	table    *table
	resolver *resolver
	reissues *reissues
	flight   *inFlight
	fates    *fates
	opens    opens
	inbound  *inbound
	lookups  *lookups
	sends    sends
	frames   frames
	ledger   *ledger
	queue    *queue
	writer   *writer
	anchors  anchors
	progress progress
	watch    watch
	service  Service
	tuned    func(Tuning) // hands a change on to the tape; nil: to nobody
	theft    theft
	touches  touches

	heritage    heritage       // nil: what happens when this recorder has ended is not recorded
	predecessor bpf.ProcessKey // the last recorder, if this one goes on with its programs

	rec     bpf.Connect // reused
	process bpf.Process
	row     store.Connection

	overlap        bool   // records are not in order yet: replaced programs saw what these saw, too
	horizon        uint64 // every record of what ended before this has been read, ns CLOCK_BOOTTIME
	passed         uint64 // when the last pass began
	received       uint64 // when the host was last seen busy
	receivedBefore uint64 // ledger.received then
	opened         uint64 // when the open batch got its first row; 0 it has none
	pushed         uint64 // when the last batch was handed over
	drowsy         bool   // the next attempt to begin wakes us
	freed          uint64 // when free memory was given back, ns CLOCK_BOOTTIME; 0: not yet
	program        programPages
	nextTick       uint64
	nextWalk       uint64
	relearnAlive   int   // walks over all processes that are due
	err            error // of a look at the process ring from where none can be returned
}

func newRecorder(src source, out sink, c config, host hostFiles) *recorder {
	queue := newQueue(c.buffer, c.tape)
	r := &recorder{
		src: src, sink: out, config: c,
		log:      slog.New(slog.DiscardHandler),
		boot:     bootNow,
		proc:     procfs{root: host.proc},
		table:    newTable(newUsers(host.passwd), newCgroups(host.cgroups), queue.shares),
		reissues: newReissues(),
		flight:   newInFlight(),
		fates:    newFates(),
		opens:    opens{follows: map[bpf.ID]store.Followed{}, told: map[bpf.ID]told{}},
		inbound:  newInbound(c.single),
		sends:    sends{senders: map[bpf.ProcessKey]*store.Process{}},
		queue:    queue,
	}
	r.table.mounts = newMounts(host.proc)
	if c.hash != nil {
		r.table.hashes = newHashes(*c.hash, host.proc)
	}
	if c.names != nil {
		r.table.names = c.names
	}
	r.resolver = newResolver(string(src.Backend()), r.table, queue.find, r.who, r.lookUp)
	r.lookups = newLookups(string(src.Backend()), r.resolver)
	r.lookups.off = !c.lookups && !c.hellos
	r.lookups.hellos = newHellos(c.hellos)
	r.resolver.namings = r.lookups.names
	r.writer = &writer{recorder: r, stopping: make(chan struct{})}
	now := r.boot()
	r.ledger = newLedger(now, uint64(c.tick))
	r.passed, r.pushed, r.received = now, now, now
	r.theft.whole = now
	r.opens.nextLook = now + uint64(c.refreshEvery)
	r.sends.next = now + uint64(c.sendsEvery)
	r.watch = newWatch(now, src.Checks(), c)
	return r
}

// run records until ctx ends, then closes the tape.
func (r *recorder) run(ctx context.Context, o Options) error {
	if o.Logger != nil {
		r.log = o.Logger
	}
	r.service = o.Service
	if _, err := r.table.users.refresh(); err != nil {
		r.log.Warn("users not read", "error", err)
	}
	var background sync.WaitGroup
	clock, stopClock := context.WithCancel(context.Background())
	defer stopClock()
	background.Go(func() {
		if err := watchClock(clock, &r.anchors); err != nil {
			r.log.Warn("clock not watched", "error", err)
		}
	})
	background.Go(r.writer.run)
	err := r.learnAlive(store.SourceSnapshot)
	r.tellAdopted(r.boot())
	r.tellFoundSockets(r.boot())
	debug.FreeOSMemory() // what the kernel's types and the programs took to load is not needed again
	shown := make(chan struct{})
	// Only now is every process described that connects from here on.
	if err == nil && r.service.Ready != nil {
		r.service.Ready(string(r.src.Backend()))
	}
	if r.service.Progress != nil {
		background.Go(func() { r.tellProgress(clock.Done(), r.service.Progress) })
	}
	if o.Status != nil {
		announce(o.Status, string(r.src.Backend()), o.Dir, r.src.BlindSpots(), o.Events)
		announceExcluded(o.Status, o.Exclude)
		go func() { // not waited for before the tape is closed: a stopped terminal blocks it
			defer close(shown)
			r.showStatus(clock.Done(), o.Status, o.Terminal)
		}()
	}
	if err == nil {
		err = r.drain(ctx)
	}
	reason := "told to stop"
	if err != nil {
		reason = err.Error()
	}
	r.lookAtTouches(r.boot())
	if err == nil {
		reason += r.touches.stopped
	}
	see := errors.Is(err, bpf.ErrBlind) || r.lookAtHooksLast() // a blind one has told its gap
	if err == nil && see && r.heritage != nil {
		err = r.leave()
	} else {
		r.heritage = nil
		err = errors.Join(err, r.finish())
	}
	stopped := r.boot()
	close(r.writer.stopping)
	stopClock()
	r.queue.close()
	background.Wait()
	r.writer.keep(r.queue.tape.keep(true))
	err = errors.Join(err, r.closeTape(stopped, reason))
	if o.Status != nil {
		<-shown
		r.summarize(o.Status)
	}
	return err
}

// closeTape says when and why recording ended, and what the last batches failed to say.
func (r *recorder) closeTape(stopped uint64, reason string) error {
	var errs []error
	r.ledger.observe(stopped, r.ledger.kernel)
	left := r.writer.takeCarried()
	left.Gaps = append(left.Gaps, r.ledger.gaps.take()...)
	counters := r.ledger.counters()
	r.handOver(counters, stopped)
	if len(left.Gaps)+len(left.Anchors) > 0 {
		left.Counters = counters // what a gap lost is counted in the segment that has the gap
		if err := r.sink.Append(left); err != nil {
			errs = append(errs, fmt.Errorf("write last gaps: %w", err))
		}
	}
	err := r.sink.Close(store.Gap{From: stopped, Cause: segment.CauseStopped, Detail: reason}, counters)
	if err != nil {
		errs = append(errs, fmt.Errorf("close tape: %w", err))
	}
	return errors.Join(errs...)
}
