package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/conntape/conntape/store/proof"
	"github.com/conntape/conntape/store/tapedir"
)

// A stored segment that turns out to be damaged is kept as it is, under another
// name, and what can be read of it takes its place: so that whoever asks the tape
// gets that, and is told by a gap what is missing.

// replaceDamaged salvages s, which nobody has open. It returns cause when nothing
// can be read.
func (w *Writer) replaceDamaged(s *stored, cause error) error {
	damaged, to := s.path+tapedir.DamagedSuffix, s.path+tapedir.SealingSuffix
	from := s.path
	if tapedir.IsThere(damaged) {
		from = damaged // it was begun before
	}
	for _, name := range []string{to, to + "-journal"} {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove unfinished copy: %w", err)
		}
	}
	result, err := proof.Salvage(from, to)
	if err != nil {
		w.log.Warn("segment not salvaged", "path", from, "error", err)
		return cause
	}
	w.tell(SegmentSetAside{Segment: s.number, File: tapedir.SegmentName(s.number), Batches: -1, Cause: cause.Error()})
	if err := tapedir.GiveToGroup(to, tapedir.FileMode); err != nil { // until it was told that it is sealed
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
