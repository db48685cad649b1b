package proof

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
	"github.com/conntape/conntape/store/tapelog"
)

// Options are facts about a tape that the user knows from elsewhere.
type Options struct {
	Key  string // first verifier key of the log, as record printed it; "": unknown
	Head []byte // a kept signed checkpoint; nil: none

	Witnesses []string // verifier keys of witnesses; each must have cosigned the log

	// Progress gets the checked and the total bytes. Several goroutines may call it, one at a time. May be nil.
	Progress func(done, total int64)
}

// Problem is one thing that is wrong with a tape.
type Problem struct {
	Segment int       `json:"segment,omitempty"` // 0: the log, or the tape as a whole
	File    string    `json:"file,omitempty"`
	Since   time.Time `json:"since,omitzero"` // last time at which it was right
	What    string    `json:"problem"`
}

// VerifiedSegment is a segment of the tape or the log.
type VerifiedSegment struct {
	Number   int       `json:"segment"`
	File     string    `json:"file"`
	State    string    `json:"state"` // sealed, active, stopped, closed, expired, missing, unreadable
	Bytes    int64     `json:"bytes,omitempty"`
	SHA256   string    `json:"sha256,omitempty"`
	Rows     int64     `json:"rows,omitempty"`
	From     time.Time `json:"from,omitzero"`
	To       time.Time `json:"to,omitzero"`
	SealedAt time.Time `json:"sealed_at,omitzero"` // wall clock of the seal leaf
	Chained  int64     `json:"batches_chained"`    // commits compared with the log
	OK       bool      `json:"ok"`
}

// Expiry is a removal by retention, according to the log.
type Expiry struct {
	Segment  int       `json:"segment"`
	At       time.Time `json:"at"`
	Why      string    `json:"why"`
	Bytes    int64     `json:"bytes"`
	Connects int64     `json:"connections"` // -1 unknown
	SHA256   string    `json:"sha256,omitempty"`
	From     time.Time `json:"from,omitzero"`
	To       time.Time `json:"to,omitzero"`
}

// Witnessed is the cosignature of one witness.
type Witnessed struct {
	Witness string    `json:"witness"`
	Leaves  int64     `json:"leaves"`
	At      time.Time `json:"at"` // by the witness's clock
}

// Verification is the result of [Verify].
type Verification struct {
	Tape   string `json:"tape"`
	TapeID string `json:"tape_id,omitempty"`

	Origin      string    `json:"log,omitempty"`
	FirstKey    string    `json:"first_key,omitempty"` // in the log itself
	Leaves      int64     `json:"leaves"`
	Proven      int64     `json:"leaves_proven"` // signed by a proven key
	LogFrom     time.Time `json:"log_from,omitzero"`
	LogTo       time.Time `json:"log_to,omitzero"`
	Stopped     bool      `json:"stopped"` // the last recorder stopped cleanly
	KeyMatched  bool      `json:"key_matched"`
	HeadMatched bool      `json:"head_matched"`
	HeadSize    int64     `json:"head_size,omitempty"`

	Cosigned []Witnessed `json:"cosigned"` // by the named witnesses

	Segments []VerifiedSegment `json:"segments"`
	Expired  []Expiry          `json:"expired"`
	Notes    []string          `json:"notes"`
	Problems []Problem         `json:"problems"`
}

// Verify checks a tape: its log with all signatures, the hash of each sealed segment, and that the rows, indexes,
// summaries, counters and gaps of each segment agree with each other and with the log. Problems has the findings; the
// error means that the tape could not be checked.
//
// It must not be called by the process that records on the tape.
func Verify(ctx context.Context, dir string, o Options) (*Verification, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, &failure.Error{Op: "verify tape", Path: dir, Err: err}
	}
	info, err := os.Stat(dir)
	switch {
	case err != nil:
		return nil, &failure.Error{Op: "verify tape", Path: dir, Err: failure.ErrNoTape, Hint: "name the directory of a tape with --dir"}
	case !info.IsDir():
		return nil, &failure.Error{Op: "verify tape", Path: dir, Err: errors.New("not a directory"),
			Hint: "name the directory of the tape: its log proves the segments"}
	}
	v := &tapeVerifier{dir: dir, o: o, book: newLogBook()}
	if err := v.run(ctx); err != nil {
		return nil, &failure.Error{Op: "verify tape", Path: dir, Err: failure.Bare(err), Hint: failure.HintFor(err)}
	}
	return &v.out, nil
}

// tapeVerifier is one verification of a tape.
type tapeVerifier struct {
	dir  string // of the tape, as the caller named it
	at   string // a path to the same directory, even if it was renamed
	o    Options
	book *logBook
	log  *tapelog.Result // nil: there is no log

	manifest *segment.Manifest

	mu          sync.Mutex // guards the fields below
	done, total int64
	out         Verification
}

func (v *tapeVerifier) run(ctx context.Context) error {
	v.out.Tape = v.dir
	v.out.Segments, v.out.Expired, v.out.Cosigned, v.out.Notes, v.out.Problems = []VerifiedSegment{}, []Expiry{}, []Witnessed{}, []string{}, []Problem{}
	dirs := tapedir.KeepOpen(v.dir)
	defer dirs.Close()
	v.at = tapedir.Beneath(dirs[v.dir])
	dirs.KeepBeneath(v.dir, tapedir.LogDir)
	numbers, _, err := tapedir.List(v.at)
	if err != nil {
		return err
	}
	for _, n := range numbers {
		if info, err := os.Lstat(filepath.Join(v.at, tapedir.SegmentName(n))); err == nil {
			v.total += info.Size()
		}
	}
	// The log is read first, so that a segment has at least everything in the log.
	if err := v.readLog(ctx); err != nil {
		return err
	}
	names, err := tapedir.ReadNames(v.at)
	if err != nil {
		return err
	}
	if len(names.Files) == 0 && v.log == nil {
		return failure.ErrNoTape
	}
	v.manifest = segment.ReadManifest(v.at)
	defer v.manifest.Close()
	if err := v.segments(ctx, names); err != nil {
		return err
	}
	if err := v.holds(ctx); err != nil {
		return err
	}
	if !dirs.Same() {
		v.problem(Problem{What: "the directory of the tape, or of its log, was replaced while it was verified: nothing above is proven of what is there now"})
	}
	slices.SortStableFunc(v.out.Problems, func(a, b Problem) int { return a.Segment - b.Segment })
	return v.noteCopy()
}

// readLog verifies the log and collects its content by segment.
func (v *tapeVerifier) readLog(ctx context.Context) error {
	r, err := tapelog.Verify(filepath.Join(v.at, tapedir.LogDir), tapelog.VerifyOptions{Key: v.o.Key, Head: v.o.Head, Witnesses: v.o.Witnesses, Leaf: until(ctx, v.book.take)})
	if errors.Is(err, tapelog.ErrNoLog) {
		v.problem(Problem{What: "there is no log: nothing of this tape can be proven"})
		return nil
	}
	if err != nil {
		return err
	}
	v.log = r
	out := &v.out
	out.Origin, out.FirstKey, out.Leaves, out.Proven = r.Origin, r.First, r.Leaves, r.Proven
	out.KeyMatched, out.HeadMatched, out.HeadSize = r.KeyMatched, r.HeadMatched, r.HeadSize
	out.LogFrom, out.LogTo, out.Stopped = v.book.first, segment.WallTime(r.Last.Real), v.book.stopped
	for _, f := range r.Findings {
		p := Problem{File: tapedir.LogDir, Since: f.Since, What: f.Problem, Segment: v.book.segmentAt(f.Leaf)}
		if f.Part != "" {
			p.File = filepath.Join(tapedir.LogDir, f.Part)
		}
		v.problem(p)
	}
	if r.Pruned > 0 {
		v.note(fmt.Sprintf("%d entries of the log were removed, all of them about segments that have expired", r.Pruned))
	}
	if r.Torn {
		v.note("the last line of the log is cut short: a recorder was killed while it wrote it, or is writing it now")
	}
	for _, l := range v.book.alarms {
		v.note(alarmNote(l))
	}
	if v.o.Key == "" {
		v.note("no key was given: that this is the log which the recorder began is not proven (--key)")
	}
	for _, c := range r.Cosigned {
		out.Cosigned = append(out.Cosigned, Witnessed{c.Witness, c.Leaves, c.At})
	}
	if v.o.Head == nil && len(v.o.Witnesses) == 0 {
		v.note("no head was given: that nothing is missing at the end is not proven (--head, --witness)")
	}
	for _, p := range v.book.problems {
		v.problem(p)
	}
	v.silence(r)
	return nil
}

// until calls take until ctx is done: a log may be long.
func until(ctx context.Context, take func(tapelog.Leaf) error) func(tapelog.Leaf) error {
	return func(l tapelog.Leaf) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return take(l)
	}
}

// silence checks that a running recorder still writes to the log.
func (v *tapeVerifier) silence(r *tapelog.Result) {
	held, err := tapeHeld(v.at)
	if err != nil || !held || v.book.bootID != localBootID() {
		return
	}
	now, err := tapelog.ReadClocks()
	if err != nil {
		return
	}
	awake := time.Duration(int64(now.Boot-now.Suspended) - int64(r.Last.Boot-r.Last.Suspended))
	if awake > time.Minute {
		v.problem(Problem{File: tapedir.LogDir, Since: segment.WallTime(r.Last.Real),
			What: fmt.Sprintf("the tape is being recorded, and nothing was written to its log for %v", awake.Round(time.Second))})
	}
}

func (v *tapeVerifier) problem(p Problem) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.out.Problems = append(v.out.Problems, p)
}

func (v *tapeVerifier) note(text string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.out.Notes = append(v.out.Notes, text)
}

// progress adds checked bytes.
func (v *tapeVerifier) progress(bytes int64) {
	if v.o.Progress == nil {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.done += bytes
	v.o.Progress(min(v.done, v.total), v.total)
}

// segments checks all segments, and the time between them.
func (v *tapeVerifier) segments(ctx context.Context, names tapedir.Names) error {
	results := make([]*segmentVerifier, len(names.Files))
	for i, n := range names.Files {
		results[i] = v.segment(n)
	}
	v.lookAt(ctx, results)
	results, err := v.lookAgain(ctx, results)
	if err == nil {
		results, err = v.late(ctx, results, names)
	}
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	v.out.Expired = append([]Expiry{}, v.book.expired...)
	for _, s := range results {
		for _, note := range s.notes {
			v.note(note)
		}
	}
	results = slices.DeleteFunc(results, func(s *segmentVerifier) bool { return s.unborn })
	for i, s := range results {
		v.out.Segments = append(v.out.Segments, s.result())
		v.out.Problems = append(v.out.Problems, s.problems...)
		if v.out.TapeID == "" {
			v.out.TapeID = s.seg.Info.TapeID
		}
		if i > 0 {
			v.follows(results[i-1], s)
			v.between(results[i-1], s)
		}
	}
	v.missingGaps(results)
	return v.missing(ctx, results, names.Others)
}

// segment returns what looks at segment n.
func (v *tapeVerifier) segment(n int) *segmentVerifier {
	return &segmentVerifier{tape: v, number: n, path: filepath.Join(v.at, tapedir.SegmentName(n)), book: v.book.segments[n]}
}

// follows checks that no segment is missing between two that is not in the log either. missing reports those in the log.
func (v *tapeVerifier) follows(a, b *segmentVerifier) {
	previous := b.seg.Previous
	if b.broken || previous <= a.number || v.book.segments[previous] != nil {
		return
	}
	v.out.Problems = append(v.out.Problems, Problem{Segment: b.number, File: tapedir.SegmentName(b.number), Since: b.rightUntil(),
		What: fmt.Sprintf("it says that it follows %s, which is neither in the tape nor in its log", tapedir.SegmentName(previous))})
}

// between checks the time between two consecutive segments.
func (v *tapeVerifier) between(a, b *segmentVerifier) {
	if a.broken || b.broken || b.seg.Previous != a.number {
		return
	}
	v.continued(a, b)
	last, first := &a.seg.Boots[len(a.seg.Boots)-1], &b.seg.Boots[0]
	if last.BootID != first.BootID {
		return
	}
	blind := time.Duration((b.seg.Created - first.Offset) - (a.heartbeat - last.Offset))
	if blind <= 30*time.Second || a.gapAfter || b.gapBefore {
		return
	}
	v.out.Problems = append(v.out.Problems, Problem{Segment: b.number, File: tapedir.SegmentName(b.number), Since: a.seg.Info.To,
		What: fmt.Sprintf("nothing covers the %v between %s and this segment, and there is no gap that says so", blind.Round(time.Second), tapedir.SegmentName(a.number))})
}
