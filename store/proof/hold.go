package proof

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/conntape/conntape/store/escape"
	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
	"github.com/conntape/conntape/store/tapelog"
)

// loggedHold is the log's account of one legal hold.
type loggedHold struct {
	id       string
	segments []tapelog.Leaf
	released bool
}

// hold records that a segment was held or that a hold was released.
func (b *logBook) hold(l tapelog.Leaf) {
	h := b.holds[l.Cause]
	if h == nil {
		h = &loggedHold{id: l.Cause}
		b.holds[l.Cause] = h
		b.holdOrder = append(b.holdOrder, l.Cause)
	}
	if l.Kind == tapelog.KindRelease {
		h.released = true
		return
	}
	for _, told := range h.segments {
		if told.Segment == l.Segment && told.SHA256 == l.SHA256 {
			return // repeated by the next recorder
		}
	}
	if s := b.segments[l.Segment]; s != nil && len(s.seals) > 0 && s.seals[0].SHA256 != l.SHA256 {
		b.problem(l, fmt.Sprintf("its held copy is not the sealed segment (leaf %d): the hashes differ", s.seals[0].Seq))
	}
	h.segments = append(h.segments, l)
}

// holds checks that the held segments are still there and unchanged.
func (v *tapeVerifier) holds(ctx context.Context) error {
	onDisk, err := tapedir.Holds(v.at)
	if e := (*failure.Error)(nil); errors.As(err, &e) {
		err = e.Err // without the path beneath v.at
	}
	if err != nil {
		v.problem(Problem{File: tapedir.HeldDir, What: fmt.Sprintf("the holds cannot be read: %v", failure.Bare(err))})
	}
	for _, h := range onDisk {
		v.heldManifest(h.ID)
		switch known := v.book.holds[h.ID]; {
		case v.log == nil:
		case known == nil && len(h.Segments) > 0 && v.book.unfinished(h.Created):
			v.note(fmt.Sprintf("hold %s was made when the log ended, which does not have it yet", escape.Bytes([]byte(h.ID))))
		case known == nil && len(h.Segments) > 0:
			v.problem(Problem{File: filepath.Join(tapedir.HeldDir, h.ID), What: "the log does not know this hold"})
		case known != nil && known.released:
			v.note(fmt.Sprintf("hold %s is still there although the log says that it was released", escape.Bytes([]byte(h.ID))))
		}
	}
	for _, id := range v.book.holdOrder {
		h := v.book.holds[id]
		if h.released {
			continue
		}
		for _, l := range h.segments {
			if err := v.held(ctx, h, l); err != nil {
				return err
			}
		}
	}
	return nil
}

// held checks one segment under a hold.
func (v *tapeVerifier) held(ctx context.Context, h *loggedHold, l tapelog.Leaf) error {
	name := filepath.Join(tapedir.HeldDir, filepath.Base(h.id), tapedir.SegmentName(l.Segment))
	path := filepath.Join(v.at, name)
	p := Problem{Segment: l.Segment, File: name, Since: segment.WallTime(l.Real)}
	held, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		p.What = "it is under a legal hold that was not released, and it was removed"
		v.problem(p)
		return nil
	}
	if err != nil {
		return err
	}
	if first, err := os.Lstat(filepath.Join(v.at, tapedir.SegmentName(l.Segment))); err == nil && os.SameFile(first, held) {
		return nil // the same file, already checked
	}
	file, err := tapedir.OpenForCopy(path)
	var f *sealedFile
	if err == nil {
		defer file.Close()
		f, err = readSealed(ctx, file, v.progress)
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		p.What = fmt.Sprintf("it cannot be read: %v", failure.Bare(err))
	case tapelog.Hash(f.hash.Sum(nil)) != l.SHA256:
		p.What = "its hash is not the one that the log has: it was altered since it was held"
	default:
		return nil
	}
	v.problem(p)
	return nil
}
