package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
)

// Tape is a tape opened for reading. It is not safe for concurrent use but for [Tape.Use], and must
// not be opened by the process that records on it: closing another descriptor of
// a file drops the locks that the process has on it.
type Tape struct {
	dir          string   // of the tape, as people know it
	folder       *os.File // it, held open: all is opened beneath it
	single       string   // file name, when one segment file was opened
	conn         *sqlite.Conn
	listed       os.FileInfo // of folder, before its segments were listed; nil: they may have changed meanwhile
	segs         []*member   // oldest first
	since, until time.Time   // window of the views
	manifest     *segment.Manifest
	leftOut      []LeftOut
	readers      readers
	newest       newestRun
	lowest       int      // number of the first segment, when they were listed
	ownGaps      bool     // the view gaps is without what retention has removed
	goneRows     []string // the rows of that; nil: not asked for yet
}

// OpenTape opens a tape directory, or one segment file, for reading. It needs
// read permission and nothing more; it takes no lock, and leaves nothing behind
// in the directory. What is left out, and why, is in [Coverage]. Errors are failure.ErrNoTape, failure.ErrNotSegment, failure.ErrDamaged,
// failure.ErrIncompatible or of the operating system, each with a hint. Segments that are
// known to be damaged, by [Tape.Damage], are not read.
func OpenTape(path string, damaged ...LeftOut) (*Tape, error) {
	return OpenTapeContext(context.Background(), path, damaged...)
}

// OpenTapeContext is OpenTape until ctx ends, and then returns the cause: the segment that is recorded is copied, which
// takes a while if it is large.
func OpenTapeContext(ctx context.Context, path string, damaged ...LeftOut) (*Tape, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, &failure.Error{Op: "open tape", Path: path, Err: err}
	}
	for start := time.Now(); ; {
		t, err := openTape(ctx, path, abs, damaged)
		if !errors.Is(err, errVanished) {
			return t, err
		}
		if time.Since(start) > openPatience {
			return nil, &failure.Error{Op: "open tape", Path: path, Err: err, Hint: "ask again, or record with a larger --max-size"}
		}
	}
}

// openPatience limits the tries to open a tape that loses all of its segments during each.
const openPatience = 30 * time.Second

var errVanished = errors.New("every segment was removed before it could be read")

func openTape(ctx context.Context, path, abs string, damaged []LeftOut) (*Tape, error) {
	t := &Tape{}
	if err := t.hold(abs); err != nil {
		return nil, err
	}
	// Beside the list of the directory: on a tape of thousands of segments each takes milliseconds.
	var connected error
	var reading, connecting sync.WaitGroup
	reading.Go(func() { t.manifest = segment.ReadManifest(t.at("")) })
	connecting.Go(func() { connected = t.connect() })
	fail := func(err error) (*Tape, error) {
		reading.Wait()
		connecting.Wait()
		t.Close()
		return nil, err
	}
	files, err := t.find(abs, reading.Wait)
	if err == nil {
		files, err = t.without(files, damaged)
	}
	if err != nil {
		return fail(err)
	}
	copies, err := os.MkdirTemp("", "conntape-")
	if err != nil {
		return fail(&failure.Error{Op: "open tape", Path: path, Err: failure.Bare(err), Hint: failure.CopyHint})
	}
	// The copies are opened at once, and held by their descriptors alone, so that even
	// a reader that is killed leaves nothing in the temporary directory.
	defer os.RemoveAll(copies)
	if err := t.prepare(ctx, files, copies); err != nil {
		return fail(err)
	}
	if connecting.Wait(); connected != nil {
		return fail(&failure.Error{Op: "open tape", Path: path, Err: connected})
	}
	t.readNewestRun()
	return t, nil
}

// hold looks whether there is a directory or a file, and holds the directory open: whatever its name leads to later, what
// is read is in this one.
func (t *Tape) hold(path string) error {
	err := t.holdFolder(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &failure.Error{Op: "open tape", Path: path, Err: failure.ErrNoTape,
			Hint: "record one with: conntape record --dir " + path}
	case err != nil:
		return &failure.Error{Op: "open tape", Path: path, Err: failure.Bare(err), Hint: failure.HintFor(err)}
	}
	return nil
}

func (t *Tape) holdFolder(path string) error {
	held, err := tapedir.OpenPath(path)
	if err != nil {
		return err
	}
	info, err := held.Stat()
	if err != nil {
		held.Close()
		return err
	}
	if t.dir = path; !info.IsDir() {
		held.Close()
		t.dir, t.single = filepath.Split(path)
		if held, err = tapedir.OpenPath(t.dir); err != nil {
			return err
		}
	}
	t.folder = held
	return nil
}

// at returns the path by which a file of the tape is opened.
func (t *Tape) at(name string) string { return filepath.Join(tapedir.Beneath(t.folder), name) }

// connect opens the connection that has the public views, and can do nothing but query them.
func (t *Tape) connect() error {
	conn, err := segment.OpenConn(":memory:", sqlite.OpenReadWrite|sqlite.OpenCreate|sqlite.OpenMemory)
	if err != nil {
		return fmt.Errorf("open connection: %w", err)
	}
	t.conn = conn
	err = segment.Defend(conn)
	if err == nil {
		err = segment.Exec(conn, nil, "PRAGMA trusted_schema = OFF")
	}
	for _, view := range segment.Views {
		if err == nil {
			err = t.newPublicTable(view)
		}
	}
	if err == nil {
		err = segment.Harden(conn)
	}
	return err
}

// Conn returns the connection on which connections, processes, endpoints, gaps and segments are tables over all
// segments. It can only query; see authorizer.go.
func (t *Tape) Conn() *sqlite.Conn { return t.conn }

// Segments describes the segments, oldest first.
func (t *Tape) Segments() []segment.Info {
	infos := make([]segment.Info, len(t.segs))
	for i, seg := range t.segs {
		infos[i] = seg.Info
		infos[i].Counters = segment.CountersOf(seg.Runs)
	}
	return infos
}

// Span is which connections a segment has.
type Span struct {
	Number      int   // of the segment
	First, Last int64 // lowest and highest time_ns; First > Last: it has none
}

// Spans returns what Segments says of the connections of each segment, in a hundredth of the time.
func (t *Tape) Spans() []Span {
	spans := make([]Span, len(t.segs))
	for i, seg := range t.segs {
		spans[i] = Span{seg.Info.Number, seg.Info.First, seg.Info.Last}
	}
	return spans
}

// Close closes the connections. Private copies are gone already.
func (t *Tape) Close() error {
	var errs []error
	if t.manifest != nil {
		errs = append(errs, t.manifest.Close())
	}
	if t.folder != nil {
		errs = append(errs, t.folder.Close())
		t.folder = nil
	}
	if t.conn != nil {
		errs = append(errs, segment.CloseConn(t.conn))
		t.conn = nil
	}
	for _, seg := range t.segs {
		seg.Watch.Close()
		if seg.reading != nil {
			errs = append(errs, seg.reading.Close())
			seg.reading = nil
		}
	}
	return errors.Join(errs...)
}
