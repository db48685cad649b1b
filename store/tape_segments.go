package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
	"github.com/conntape/conntape/store/tapelog"
)

// find lists the files to read, oldest first. It calls haveManifest before it needs the manifest.
func (t *Tape) find(path string, haveManifest func()) ([]segment.File, error) {
	if t.single != "" {
		haveManifest()
		at := t.at(t.single)
		stat, _ := os.Lstat(at)
		return []segment.File{{Path: path, At: at, Stat: stat, HasWAL: tapedir.IsThere(at + "-wal")}}, nil
	}
	if listed, err := t.folder.Stat(); err == nil && !tapedir.JustChanged(listed) {
		t.listed = listed
	}
	found, err := tapedir.ReadNames(t.at(""))
	if err != nil {
		return nil, &failure.Error{Op: "open tape", Path: path, Err: failure.Bare(err), Hint: failure.HintFor(err)}
	}
	for _, other := range found.Others {
		t.leaveOut(other.Number, other)
	}
	if len(found.Files) > 0 {
		t.lowest = found.Files[0]
	}
	haveManifest()
	files, stats := make([]segment.File, len(found.Files)), make([]tapedir.Stat, len(found.Files))
	folder := int(t.folder.Fd()) // by its own path each name would go through /proc
	device, known := t.deviceOf(found)
	shown, at := filepath.Join(path, "x"), t.at("x")
	shown, at = shown[:len(shown)-1], at[:len(at)-1] // what is before a name
	sideBySide(len(files), func(i int) {
		n := found.Files[i]
		f := &files[i]
		*f = segment.File{Path: string(tapedir.AppendSegmentName([]byte(shown), n)), At: string(tapedir.AppendSegmentName([]byte(at), n)), Number: n, HasWAL: found.Wals[n]}
		name, entry := f.At[len(at):], t.manifest.Of(n)
		if known && !f.HasWAL && entry.Tells(&stats[i], name, device, found.Inodes[n]) || stats[i].StatIn(folder, name) == nil {
			f.Stat = &stats[i]
		}
	})
	newest := len(files) - 1
	if newest >= 0 && files[newest].Stat != nil && files[newest].Stat.Size() == 0 && !t.logKnows(files[newest].Number) {
		files = files[:newest] // just being made
	}
	if len(files) == 0 {
		return nil, &failure.Error{Op: "open tape", Path: path, Err: failure.ErrNoTape,
			Hint: "record one with: conntape record --dir " + path}
	}
	return files, nil
}

// deviceOf returns the device of the sealed segments by a look at one of them. known is false where the directory's inodes are not those of the
// files, as on an overlay of several file systems.
func (t *Tape) deviceOf(found tapedir.Names) (device uint64, known bool) {
	for _, n := range found.Files {
		var stat tapedir.Stat
		if entry := t.manifest.Of(n); uint64(entry.Mark.Inode) == found.Inodes[n] && stat.StatIn(int(t.folder.Fd()), tapedir.SegmentName(n)) == nil {
			return stat.Dev, stat.Ino == found.Inodes[n]
		}
	}
	return 0, false
}

// isListed reports whether the directory has the names that it had when its segments were listed.
func (t *Tape) isListed() bool {
	info, err := t.folder.Stat()
	return err == nil && t.listed != nil && info.ModTime().Equal(t.listed.ModTime())
}

// sideBySide calls work for each number from 0 to n-1, on all processors.
func sideBySide(n int, work func(i int)) {
	var workers sync.WaitGroup
	parts := min(n, runtime.GOMAXPROCS(0))
	for part := range parts {
		workers.Go(func() {
			for i := n * part / parts; i < n*(part+1)/parts; i++ {
				work(i)
			}
		})
	}
	workers.Wait()
}

// prepare describes the segments, and copies those that need it. In a directory a segment that cannot be read is left
// out; when none is left, its error is returned.
func (t *Tape) prepare(ctx context.Context, files []segment.File, copies string) error {
	described, wait := t.describeAhead(files)
	defer wait()
	var next *member
	vanished := -1 // the highest number of a segment that was removed meanwhile
	for i, f := range slices.Backward(files) {
		newest := i == len(files)-1 && i > 0
		begun := newest && unborn(f.At) && !t.logKnows(f.Number) // asked first: it may be born while it is read
		limit := int64(-1)
		if f.Number != 0 && next != nil && next.Previous == f.Number {
			limit = next.Counts
		}
		var seg *member
		err := segment.ErrNotClosed
		if f.IsClosed() {
			wait()
			seg, err = &described[i].member, described[i].err
		}
		if errors.Is(err, segment.ErrNotClosed) {
			seg, err = describeCopy(ctx, f, copies, limit)
		}
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, failure.ErrNotSegment) && (begun || newest && segment.Empty(ctx, f.At) && !t.logKnows(f.Number)):
		case err != nil && !tapedir.IsThere(f.At):
			vanished = max(vanished, f.Number)
		case err != nil:
			err = &failure.Error{Op: "open segment", Path: f.Path, Err: failure.Bare(err), Hint: failure.HintFor(err)}
			t.leftOut = append(t.leftOut, LeftOut{Path: f.Path, Err: err})
		default:
			t.segs = append(t.segs, seg)
			next = seg
		}
	}
	slices.Reverse(t.segs)
	t.forget(vanished)
	switch {
	case len(t.segs) > 0:
	case vanished >= 0:
		return errVanished
	default:
		return t.leftOut[len(t.leftOut)-1].Err
	}
	t.findMissing()
	return nil
}

// describeCopy describes a segment that may be written, by a private copy.
func describeCopy(ctx context.Context, f segment.File, copies string, limit int64) (*member, error) {
	seg, r, err := segment.DescribeCopy(ctx, f, copies, limit)
	m := &member{Segment: seg, reading: r}
	if err == nil {
		m.files, err = readFiles(r.Conn)
	}
	return m, err
}

// forget forgets the segments before one that retention removed while the tape was opened: it has removed them before. One
// that is still there stays, since then somebody else removed the later one.
func (t *Tape) forget(vanished int) {
	t.segs = slices.DeleteFunc(t.segs, func(m *member) bool {
		gone := m.Info.Number < vanished && !tapedir.IsThere(t.at(tapedir.SegmentName(m.Info.Number)))
		if gone && m.reading != nil {
			m.reading.Close()
		}
		return gone
	})
}

// leaveOut notes that an answer does not cover a segment.
func (t *Tape) leaveOut(number int, err error) {
	t.leftOut = append(t.leftOut, LeftOut{Path: filepath.Join(t.dir, tapedir.SegmentName(number)), Err: err})
}

// findMissing leaves out the segments that others say they follow, and that are not
// there: retention removes the oldest, and none from between.
func (t *Tape) findMissing() {
	for i := 1; i < len(t.segs); i++ {
		seg, before := t.segs[i], t.segs[i-1]
		path := filepath.Join(t.dir, tapedir.SegmentName(seg.Previous))
		if seg.Previous <= before.Info.Number || slices.ContainsFunc(t.leftOut, func(l LeftOut) bool { return l.Path == path }) {
			continue
		}
		t.leaveOut(seg.Previous, fmt.Errorf("it is not there, and %s follows it", tapedir.SegmentName(seg.Info.Number)))
	}
}

// described is a segment of a tape, and the error of its description.
type described struct {
	member
	segment segment.Segment
	err     error
}

// describeAhead describes the segments that need no copy, several at the same time, while others are copied. They are there
// when wait returns. The error is segment.ErrNotClosed for a segment that must be copied after all.
func (t *Tape) describeAhead(files []segment.File) (all []described, wait func()) {
	all = make([]described, len(files))
	var begun atomic.Int64
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for i := len(files) - int(begun.Add(1)); i >= 0; i = len(files) - int(begun.Add(1)) {
				if d := &all[i]; files[i].IsClosed() {
					d.Segment, d.err = segment.Describe(&d.segment, files[i], t.manifest.Of(files[i].Number))
				}
			}
		})
	}
	return all, workers.Wait
}

// logKnows reports whether the log has an entry for the begin of this segment or of a later one. A recorder writes it after the
// tables: an empty file whose begin is in the log was emptied by somebody. Without a log nothing is known.
func (t *Tape) logKnows(number int) (known bool) {
	tapelog.Scan(t.at(tapedir.LogDir), tapelog.KindSegment, func(l tapelog.Leaf) error {
		known = known || l.Segment >= number
		return nil
	})
	return known
}

// unborn reports whether a file has the mode with which a recorder begins one. A plain copy has another mode: [segment.Empty].
func unborn(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode().Perm() == tapedir.BirthMode
}
