package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/sqlitefile"
)

// maxAttached is the most databases that the driver attaches to one connection.
// It is compiled in; a test watches it.
const maxAttached = 10

// Tape is a tape opened for reading. It is not safe for concurrent use, and must
// not be opened by the process that records on it: closing another descriptor of
// a file drops the locks that the process has on it.
type Tape struct {
	dir     string // of the tape
	single  string // file name, when one segment file was opened
	conn    *sqlite.Conn
	segs    []*openSegment // oldest first
	leftOut []LeftOut
}

// openSegment is a segment that a tape has attached.
type openSegment struct {
	info    SegmentInfo
	schema  string // name under which it is attached: s1, s2, …
	file    string // what is opened: the segment, or a private copy
	tables  *tableFile
	watch   sqlitefile.Watch
	created int64      // segment clock
	boots   []bootSpan // in order, at least one
	runs    []runAccount

	batches  int64
	previous int   // number of the segment before it
	counts   int64 // commits of that one which count, -1 all
}

// OpenTape opens a tape directory, or one segment file, for reading. It needs
// read permission and nothing more; it takes no lock, and leaves nothing behind
// in the directory. At most the newest 10 segments are read; what is left out,
// and why, is in [Coverage]. Errors are ErrNoTape, ErrNotSegment, ErrDamaged,
// ErrIncompatible or of the operating system, each with a hint. Segments that are
// known to be damaged, by [Tape.Damage], are not read.
func OpenTape(path string, damaged ...LeftOut) (*Tape, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, &Error{Op: "open tape", Path: path, Err: err}
	}
	for try := 1; ; try++ {
		t, err := openTape(path, abs, damaged)
		if !errors.Is(err, errVanished) || try == mostTries {
			return t, err
		}
	}
}

// errVanished: a segment was removed or sealed between two looks at it.
var errVanished = errors.New("a segment was removed or sealed meanwhile")

// mostTries is how often a tape is opened that loses segments meanwhile.
const mostTries = 20

func openTape(path, abs string, damaged []LeftOut) (*Tape, error) {
	t := &Tape{}
	names, err := t.find(abs)
	if err != nil {
		return nil, err
	}
	if names, err = t.without(names, damaged); err != nil {
		return nil, err
	}
	copies, err := os.MkdirTemp("", "conntape-")
	if err != nil {
		return nil, &Error{Op: "open tape", Path: path, Err: bare(err), Hint: copyHint}
	}
	// Once attached the copies are held by their descriptors alone, so that even
	// a reader that is killed leaves nothing in the temporary directory.
	defer os.RemoveAll(copies)
	ahead := begin(names[max(0, len(names)-maxAttached):], copies)
	err = t.prepare(names, copies, ahead.ready)
	begun := ahead.wait()
	if err != nil {
		begun.close()
		return nil, err
	}
	if err := t.attach(begun); err != nil {
		t.Close()
		return nil, &Error{Op: "open tape", Path: path, Err: err, Hint: hintFor(err)}
	}
	return t, nil
}

const copyHint = "the segment that is being recorded is read from a copy: set TMPDIR to a directory with room for it"

// find lists the files to read, oldest first.
func (t *Tape) find(path string) ([]string, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, &Error{Op: "open tape", Path: path, Err: ErrNoTape,
			Hint: "record one with: conntape record --dir " + path}
	case err != nil:
		return nil, &Error{Op: "open tape", Path: path, Err: bare(err), Hint: hintFor(err)}
	case !info.IsDir():
		t.dir, t.single = filepath.Split(path)
		return []string{path}, nil
	}
	t.dir = path
	found, err := readSegmentNames(path)
	if err != nil {
		return nil, &Error{Op: "open tape", Path: path, Err: bare(err), Hint: hintFor(err)}
	}
	for _, other := range found.others {
		t.leaveOut(other.number, other)
	}
	var names []string
	for _, n := range found.files {
		name := filepath.Join(path, segmentName(n))
		if info, err := os.Lstat(name); err == nil && info.Size() == 0 {
			continue // just being made
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		return nil, &Error{Op: "open tape", Path: path, Err: ErrNoTape,
			Hint: "record one with: conntape record --dir " + path}
	}
	return names, nil
}

// prepare copies, checks and describes segments, newest first, until as many are
// ready as can be attached. In a directory a segment that cannot be read is left
// out; when none is left, its error is returned.
func (t *Tape) prepare(names []string, copies string, ready map[string]func() (*openSegment, error)) error {
	var next *openSegment
	for i := len(names) - 1; i >= 0; i-- {
		if len(t.segs) == maxAttached {
			t.leftOut = append(t.leftOut, LeftOut{Path: names[i],
				Err: fmt.Errorf("only the newest %d segments are read", maxAttached)})
			continue
		}
		limit := int64(-1)
		if n, ok := parseSegmentName(filepath.Base(names[i])); ok && next != nil && next.previous == n {
			limit = next.counts
		}
		begun := i == len(names)-1 && i > 0 && unborn(names[i]) // asked first: it may be born while it is read
		prepare, isAhead := ready[names[i]]
		if !isAhead {
			prepare = func() (*openSegment, error) { return prepareSegment(names[i], copies, limit) }
		}
		seg, err := prepare()
		if begun && errors.Is(err, ErrNotSegment) {
			continue
		}
		if err != nil {
			err = &Error{Op: "open segment", Path: names[i], Err: bare(err), Hint: hintFor(err)}
			t.leftOut = append(t.leftOut, LeftOut{Path: names[i], Err: err})
			continue
		}
		t.segs = append([]*openSegment{seg}, t.segs...)
		next = seg
	}
	if len(t.segs) == 0 {
		return t.leftOut[len(t.leftOut)-1].Err
	}
	t.findMissing()
	return nil
}

// leaveOut notes that an answer does not cover a segment.
func (t *Tape) leaveOut(number int, err error) {
	t.leftOut = append(t.leftOut, LeftOut{Path: filepath.Join(t.dir, segmentName(number)), Err: err})
}

// findMissing leaves out the segments that others say they follow, and that are not
// there: retention removes the oldest, and none from between.
func (t *Tape) findMissing() {
	for i := 1; i < len(t.segs); i++ {
		seg, before := t.segs[i], t.segs[i-1]
		path := filepath.Join(t.dir, segmentName(seg.previous))
		if seg.previous <= before.info.Number || slices.ContainsFunc(t.leftOut, func(l LeftOut) bool { return l.Path == path }) {
			continue
		}
		t.leaveOut(seg.previous, fmt.Errorf("it is not there, and %s follows it", segmentName(seg.info.Number)))
	}
}

// unborn reports whether a file has the mode with which a recorder begins one.
func unborn(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode().Perm() == birthMode
}

// prepareSegment makes one segment ready to attach. limit is the number of its
// commits that count, -1 all.
func prepareSegment(path, copies string, limit int64) (*openSegment, error) {
	seg := &openSegment{file: path}
	seg.info.Path = path
	for _, name := range []string{path, path + "-wal"} {
		if info, err := os.Lstat(name); err == nil {
			seg.info.Bytes += info.Size()
		}
	}
	if needsSnapshot(path) {
		seg.info.Snapshot = true
		file, err := snapshotUpTo(path, copies, limit)
		if err != nil {
			return nil, classify(err)
		}
		seg.file = file
	}
	err := peekAt(seg.file, func(conn *sqlite.Conn) error {
		if err := seg.describe(conn); err != nil {
			return err
		}
		return checkHasSums(conn, seg.file)
	})
	if err != nil {
		return nil, err
	}
	return seg, nil
}

// attach makes the connection, with every segment and the public views, of one that was
// begun or of a new one.
func (t *Tape) attach(a *attaching) (err error) {
	if !a.fits(t.segs) {
		a.close()
		if a, err = newAttaching(len(t.segs)); err != nil {
			return err
		}
	}
	t.conn = a.conn
	for _, seg := range t.segs[len(a.segs):] {
		if err := a.add(seg); err != nil {
			return err
		}
	}
	for _, name := range publicViews {
		if err := a.view(name); err != nil {
			return err
		}
	}
	return harden(t.conn)
}

// openReader opens a connection that segments can be attached to.
func openReader() (*sqlite.Conn, error) {
	conn, err := sqlite.OpenConn(":memory:", sqlite.OpenReadWrite|sqlite.OpenCreate|sqlite.OpenMemory|sqlite.OpenURI)
	if err != nil {
		return nil, fmt.Errorf("open connection: %w", err)
	}
	err = setDefensive(conn)
	for _, pragma := range []string{"PRAGMA trusted_schema = OFF", "PRAGMA cell_size_check = ON"} {
		if err == nil {
			err = execOn(conn, nil, pragma)
		}
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// attach attaches the segment to a connection: the file whose tables are open already.
func (seg *openSegment) attach(conn *sqlite.Conn) error {
	uri, err := seg.watch.URI(seg.file)
	if err == nil {
		err = execOn(conn, nil, "ATTACH ? AS "+seg.schema, uri)
	}
	if !seg.tables.isAt(seg.file) {
		err = errVanished
	}
	if err != nil {
		return fmt.Errorf("attach %s: %w", filepath.Base(seg.info.Path), err)
	}
	return execOn(conn, nil, "PRAGMA "+seg.schema+".cache_size = -1024")
}

// Apart opens a connection to one segment alone, by its place among Segments, so that
// it can be read while the others are: attached under the name that it has on Conn,
// without the public views, and as unable to do anything but query. A segment that is
// read from a private copy has none. Whoever asked for it closes it.
func (t *Tape) Apart(segment int) (*sqlite.Conn, error) {
	seg := t.segs[segment]
	conn, err := openReader()
	if err == nil {
		err = seg.attach(conn)
	}
	if err == nil {
		err = harden(conn)
	}
	if err != nil {
		if conn != nil {
			conn.Close()
		}
		return nil, &Error{Op: "open segment", Path: seg.info.Path, Err: err, Hint: hintFor(err)}
	}
	return conn, nil
}

// Conn returns the connection: the segments are attached as s1 to sN, oldest
// first, and the TEMP views connections, processes, endpoints, gaps and segments
// are over all of them. It can only query; see authorizer.go.
func (t *Tape) Conn() *sqlite.Conn { return t.conn }

// Segments describes the attached segments, oldest first.
func (t *Tape) Segments() []SegmentInfo {
	infos := make([]SegmentInfo, len(t.segs))
	for i, seg := range t.segs {
		infos[i] = seg.info
	}
	return infos
}

// Close closes the connection. Private copies are gone already.
func (t *Tape) Close() error {
	if t.conn == nil {
		return nil
	}
	errs := []error{t.conn.Close()}
	t.conn = nil
	for _, seg := range t.segs {
		seg.watch.Close()
		if seg.tables != nil {
			errs = append(errs, seg.tables.file.Close())
		}
	}
	return errors.Join(errs...)
}

// hintFor says what to do about an error on opening.
func hintFor(err error) string {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return "read it as root, or as a member of the group " + groupName
	case errors.Is(err, ErrIncompatible):
		return "read it with the conntape that made it, or a newer one"
	case errors.Is(err, ErrNotSegment):
		return "name a tape directory or one of its .db files"
	case errors.Is(err, ErrDamaged):
		return "conntape salvage FILE reads what can be read of it; the other segments can be read as ever"
	case errors.Is(err, fs.ErrNotExist):
		return "it was removed meanwhile; try again"
	case errors.Is(err, errMoved):
		return "it is written faster than it can be copied; set TMPDIR to a faster disk, or try again"
	}
	switch code := sqlite.ErrCode(err).ToPrimary(); {
	case code == sqlite.ResultFull, strings.Contains(err.Error(), "no space left"):
		return copyHint
	}
	return ""
}

// wall returns the time on the wall clock of a time on a segment's clock.
func wall(ns, offset int64) time.Time { return time.Unix(0, ns+offset).UTC() }
