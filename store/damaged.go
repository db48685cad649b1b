package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/conntape/conntape/store/proof"
	"github.com/conntape/conntape/store/tapedir"
)

// A damaged stored segment is kept unchanged under another name. The salvaged rows take its place, with a gap that
// reports the loss.

// replaceDamaged salvages s, which must not be open. If nothing can be read it returns cause.
func (w *Writer) replaceDamaged(s *stored, cause error) error {
	damaged, to := s.path+tapedir.DamagedSuffix, s.path+tapedir.SealingSuffix
	from := s.path
	if tapedir.IsThere(damaged) {
		from = damaged // an earlier try renamed it
	}
	for _, name := range []string{to, to + "-journal"} {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove unfinished copy: %w", err)
		}
	}
	ctx, end := s.context()
	defer end()
	result, err := proof.Salvage(ctx, from, to)
	if ctx.Err() != nil {
		return context.Cause(ctx) // the next recorder begins again
	}
	if err != nil {
		w.log.Warn("segment not salvaged", "path", from, "error", err)
		return cause
	}
	w.tell(SegmentSetAside{Segment: s.number, File: tapedir.SegmentName(s.number), Batches: -1, Cause: cause.Error()})
	if err := tapedir.GiveToGroup(to, tapedir.FileMode); err != nil { // until its sealing is reported
		return err
	}
	if from == s.path {
		if err := os.Link(s.path, damaged); err != nil {
			return fmt.Errorf("keep damaged segment: %w", err)
		}
	}
	if err := os.Rename(s.path+"-wal", damaged+"-wal"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("keep damaged segment: %w", err)
	}
	if err := os.Rename(to, s.path); err != nil {
		return fmt.Errorf("put salvaged segment in place: %w", err)
	}
	w.log.Error("segment salvaged", "path", s.path, "damage", cause, "connections", result.Rows["connection"], "missing", result.Missing)
	return tapedir.SyncDir(w.dir)
}
