package store

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/retain"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
)

// WriterOptions describe the recorder to the tape.
type WriterOptions struct {
	Version    string   // of the program
	Backend    string   // fexit, kprobe, cgroup
	BlindSpots []string // what the backend cannot see

	BootID    string // /proc/sys/kernel/random/boot_id
	Kernel    string // uname -r
	Host      string
	MachineID string

	// Now is the clock at the moment from which events are seen (hooks
	// attached): the gap that the previous run left ends there. Zero: the store
	// reads the clocks itself.
	Now Anchor

	LateNames bool // clients may name servers after their connections are written ([Naming])

	Limits    retain.Limits // of size and age
	Immutable bool          // set the immutable flag on sealed segments (chattr +i)

	// Context ends what takes long: opening, which then returns the cause and leaves the tape as it was, and copies of
	// segments, which the next recorder makes. It does not end recording. nil: context.Background.
	Context context.Context

	// Handover says what this recorder takes over from the last one.
	Handover Handover

	// Events is told what happens to the tape, see [Event]. It may be nil.
	Events func(Event)

	Logger *slog.Logger // nil: discard

	// step is told of each step at which a recorder that is killed leaves something half done. Tests kill it there.
	step func(name string)
}

// Writer appends to a tape. It holds the tape lock and the newest segment, closes
// it when it is full or old, seals what it closed, and removes what is beyond the
// limits. Append and Close are for one goroutine; Rotate is for any.
type Writer struct {
	writing sync.Mutex // held by who writes to the active segment
	mu      sync.Mutex // guards catalog and hashed; taken after writing

	dir  string
	o    WriterOptions
	log  *slog.Logger
	lock *tapedir.Lock
	now  func(kind string) (Anchor, error) // ReadAnchor
	seg  *activeSegment                    // nil after a fault that left no segment to write to

	// Segments set aside after a fault. Their connections stay open until the
	// process ends: closing one would checkpoint, which is to touch the file.
	aside []*activeSegment

	telling sync.Mutex // held while an event is told

	tapeID  string
	counted segment.Counters   // as last committed, in whatever segment
	told    map[string]toldGap // likewise
	last    struct {           // the segment before the one that is to be created
		number  int
		batches int64
	}
	clock struct { // of the last segment
		boot                    string
		offset, floor, wallStep int64
	}
	synchronized   bool // the kernel says that the wall clock is right
	estimator      estimator
	rotationFailed time.Time // when a segment was due and could not be made
	forced         time.Time // when a segment was last removed because the disk was full
	lookedAround   time.Time // guarded by mu

	expiring sync.Mutex // held while a segment is taken off the tape; taken before mu
	stopped  bool       // the log says that the recorder has ended: nothing expires any more; guarded by expiring
	removed  []*stored  // because the disk was full, and not told by a gap yet; guarded by mu

	reserve  reserve
	grows    int64                  // what sealing makes of a segment, in percent of its size, as it last did; guarded by mu
	catalog  catalog                // segments that are not active
	manifest segment.ManifestWriter // of the keeper
	hashed   hashedSegment
	removing chan struct{} // closed when one more of what has expired is gone; nil nothing is being removed
	hurry    bool          // seal nothing more
	work     chan struct{} // holds a token when there may be something to seal
	quit     chan struct{} // closed when the keeper is to end
	kept     chan struct{} // closed when it has
	awaited  atomic.Int32  // how many wait for what the keeper does

	holding  sync.Mutex    // held while holds are changed
	requests *os.File      // tells of requests; nil none are answered
	served   chan struct{} // closed when no more are
	ending   atomic.Bool   // Close waits: nobody is to wait for sealing

	patience context.Context         // ends when Close waits, or WriterOptions.Context does: long copies end then
	hurryUp  context.CancelCauseFunc // ends it

	closed bool
}

// OpenWriter takes the tape lock (an error that is ErrLocked says who holds it
// and since when), continues the newest segment or creates the next one, and
// writes the gap since the last run: "stopped" after a clean stop, "crash" after
// any other end, "start" on a new tape.
//
// The newest segment is continued, also after a restart of the host, when it is of
// this host and this schema and can be locked at once. Otherwise it is closed, if
// it can be, or left alone.
func OpenWriter(dir string, o WriterOptions) (_ *Writer, err error) {
	w, err := newWriter(dir, o)
	if err != nil {
		return nil, err
	}
	if err := w.open(); err != nil {
		return nil, err
	}
	return w, nil
}

// open begins to write to a tape that is locked, or lets go of it.
func (w *Writer) open() error {
	w.recallRemoved()
	if err := w.openSegment(); err != nil {
		w.closeReserve()
		w.lock.Release()
		return err
	}
	w.tell(RunStarted{TapeID: w.tapeID, Segment: w.seg.number, BootID: w.o.BootID, At: w.o.Now})
	w.tellHoldsAgain()
	w.makeRoom(growth{}) // before the keeper takes any of it
	w.startKeeper()
	w.startServing()
	return nil
}

// newWriter makes or finds the directory of a tape, and locks it.
func newWriter(dir string, o WriterOptions) (_ *Writer, err error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Context == nil {
		o.Context = context.Background()
	}
	if o.Now.Boot == 0 {
		if o.Now, err = ReadAnchor("start"); err != nil {
			return nil, &failure.Error{Op: "open tape", Path: dir, Err: err}
		}
	}
	if err := o.Limits.Check(); err != nil {
		return nil, &failure.Error{Op: "open tape", Path: dir, Err: err}
	}
	o.Now.Kind = "start"
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, &failure.Error{Op: "open tape", Path: dir, Err: err}
	}
	if err := tapedir.Make(dir); err != nil {
		return nil, err
	}
	if err := tapedir.CheckTapeDir(dir); err != nil {
		return nil, err
	}
	if err := tapedir.CheckFileSystem(dir); err != nil {
		return nil, err
	}
	w := &Writer{dir: dir, o: o, log: o.Logger, now: ReadAnchor, counted: segment.Counters{}, synchronized: o.Now.Sync == syncedClock, grows: retain.SealedPercent,
		work: make(chan struct{}, 1)}
	w.patience, w.hurryUp = context.WithCancelCause(o.Context)
	if w.lock, err = tapedir.TakeLock(dir, time.Now()); err != nil {
		return nil, err
	}
	return w, nil
}

// syncedClock is what an anchor says of a clock that the kernel holds for right.
const syncedClock = "synchronized"

// Relimit changes what may change while the tape is written: what is left free on the disk, in bytes and percent, and
// the bytes that holds may take. Size and age stay: they are in the log's line of this start, by which what was removed is judged.
func (w *Writer) Relimit(keepFree int64, percent int, held int64) {
	w.holding.Lock()
	defer w.holding.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.o.Limits.KeepFree, w.o.Limits.KeepFreePercent, w.o.Limits.MaxHeldBytes = keepFree, percent, held
	w.lookedAround = time.Time{}
}

// step tells a test that a step is done.
func (w *Writer) step(name string) {
	if w.o.step != nil {
		w.o.step(name)
	}
}

// tell hands an event to who wants to know.
func (w *Writer) tell(e Event) {
	if w.o.Events == nil {
		return
	}
	w.telling.Lock()
	defer w.telling.Unlock()
	w.o.Events(e)
}

// Segment returns the number and path of the active segment, 0 when there is
// none.
func (w *Writer) Segment() (number int, path string) {
	if w.seg == nil {
		return 0, ""
	}
	return w.seg.number, w.seg.path
}

// create begins the next segment, and in it the run of this recorder, whose
// counters are at counted; fill adds what else the first transaction holds.
func (w *Writer) create(now Anchor, counted segment.Counters, reason string, fill func(*activeSegment) error) (*activeSegment, error) {
	_, highest, err := tapedir.List(w.dir)
	if err == nil {
		err = w.lock.CheckPlace()
	}
	if err != nil {
		return nil, &failure.Error{Op: "begin segment", Path: w.dir, Err: err}
	}
	if w.tapeID == "" {
		var id [16]byte
		rand.Read(id[:]) // never fails
		w.tapeID = hex.EncodeToString(id[:])
	}
	b := birth{walBytes: retain.WALBytes(w.room()), walLength: w.reserve.wal, spareWAL: filepath.Join(w.dir, spareWALName), number: max(highest, w.last.number) + 1, tapeID: w.tapeID, now: now, previous: w.last.number, previousBatches: w.last.batches}
	b.offset, b.wallStep = w.clockOf(now)
	b.floor = b.offset
	path := filepath.Join(w.dir, tapedir.SegmentName(b.number))
	if b.placed, err = w.placeFiles(path); err != nil {
		w.unplace(path)
		return nil, &failure.Error{Op: "begin segment", Path: path, Err: failure.Bare(err), Hint: storageHint(err)}
	}
	seg, err := createSegment(path, b, &w.o, func(s *activeSegment) error {
		if err := s.beginRun(os.Getpid(), &w.o, counted); err != nil {
			return err
		}
		if err := s.insertAnchor(now); err != nil {
			return err
		}
		return fill(s)
	})
	if err != nil {
		if b.placed {
			w.unplace(path)
		}
		return nil, err
	}
	w.fillWAL(seg)
	seg.told = carryTold(w.told)
	w.log.Info("segment begun", "path", seg.path, "reason", reason)
	w.tell(SegmentStarted{TapeID: w.tapeID, Segment: b.number, File: tapedir.SegmentName(b.number), Previous: b.previous,
		Reason: reason, BootID: w.o.BootID, At: now})
	return seg, nil
}

// Close writes the last counters and the gap that begins with this stop, to be
// closed by the next start; its Cause is always "stopped", its Detail is kept.
// Then it empties the WAL and lets go of the tape. The writer is closed whatever
// is returned.
func (w *Writer) Close(stop Gap, c segment.Counters) error {
	w.writing.Lock()
	if w.closed {
		w.writing.Unlock()
		return &failure.Error{Op: "close tape", Path: w.dir, Err: failure.ErrClosed}
	}
	w.closed = true // no request can rotate any more
	w.ending.Store(true)
	w.writing.Unlock()
	w.hurryUp(errEnding)
	w.stopServing()
	return w.close(stop, c)
}

// close is what is left of Close when no request is worked on.
func (w *Writer) close(stop Gap, c segment.Counters) error {
	w.writing.Lock()
	defer w.writing.Unlock()
	stop.Cause, stop.To = segment.CauseStopped, 0
	if stop.From == 0 {
		now, err := w.now("stop")
		if err != nil {
			w.log.Error("read clock", "error", err)
		}
		stop.From = now.Boot
	}
	last, _, _ := w.next(&Batch{Gaps: []Gap{stop}, Counters: c, Now: stop.From}, segment.StateStopped)
	err := w.append(&last, segment.StateStopped)
	w.expiring.Lock()
	w.stopped = true
	w.tell(RunStopped{Segment: w.last.number, Now: stop.From, Why: stop.Detail, Counters: maps.Clone(w.counted)})
	w.expiring.Unlock()
	if w.seg != nil {
		if serr := w.spareWAL(w.seg); serr != nil {
			w.log.Warn("WAL not kept", "path", w.seg.path, "error", serr)
		}
		if cerr := w.seg.close(); err == nil && cerr != nil {
			err = &failure.Error{Op: "close segment", Path: w.seg.path, Err: cerr}
		}
		w.seg = nil
	}
	w.waitForRemovals()
	w.stopKeeper()
	w.unpin(true)
	w.fillReserve()
	w.closeReserve()
	if lerr := w.lock.Release(); err == nil && lerr != nil {
		err = &failure.Error{Op: "release tape lock", Path: w.dir, Err: failure.Bare(lerr)}
	}
	return err
}
