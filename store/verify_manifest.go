package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/tapedir"
)

// Readers go by the manifest: a false entry hides rows of a segment that is as it was sealed. So each entry that a reader
// would take is compared with one that is made anew. An entry that no reader takes is no harm.

// checkManifest compares the manifest's entry of a segment with the segment. If that is as the log has its hash, the entry is
// held to the log too.
func (s *segmentVerifier) checkManifest() {
	stat, err := os.Lstat(s.path)
	f := segmentFile{path: s.path, number: s.number, stat: stat, hasWAL: tapedir.IsThere(s.path + "-wal")}
	if err != nil || !f.isClosed() {
		return
	}
	claimed := &openSegment{file: f.path, stat: stat}
	if !s.tape.manifest[s.number].fill(claimed) {
		return
	}
	is, err := describeAnew(f)
	switch {
	case errors.Is(err, fs.ErrNotExist): // it has expired
	case err != nil:
		s.fail(s.rightUntil(), "the manifest tells of it as of a sealed segment, and it cannot be read as one: %v", failure.Bare(err))
	default:
		if wrong := differences(claimed, is); len(wrong) > 0 {
			s.fail(s.rightUntil(), "%v: remove the file %s. False: %s", failure.ErrManifest, manifestName, strings.Join(wrong, ", "))
		}
	}
}

// describeAnew describes a segment as a manifest that was made now would.
func describeAnew(f segmentFile) (*openSegment, error) {
	record, err := newEntry(f.path, f.number)
	if err != nil {
		return nil, err
	}
	c, number, mark := &codec{in: string(record[recordHead:]), reading: true}, int64(0), fileMark{}
	c.head(&number, &mark)
	seg := &openSegment{file: f.path, stat: f.stat}
	if !(manifestEntry{mark, c.in}).fill(seg) {
		return nil, errors.New("it was changed meanwhile")
	}
	return seg, nil
}

// differences names what two descriptions of a segment have different.
func differences(a, b *openSegment) []string {
	var names []string
	for _, part := range []struct {
		name string
		of   func(*openSegment) any
	}{
		{"number", func(s *openSegment) any { return s.info.Number }},
		{"first and last connection", func(s *openSegment) any { return [2]int64{s.info.First, s.info.Last} }},
		{"gaps and counts", func(s *openSegment) any { return [2]string{s.gaps.text, s.segments.text} }},
		{"places of the tables", func(s *openSegment) any { return s.tableRoots() }},
		{"boots", func(s *openSegment) any { return s.boots }},
		{"runs and counters", func(s *openSegment) any { return s.runs }},
		{"segment before", func(s *openSegment) any { return [2]int64{int64(s.previous), s.counts} }},
		{"header", func(s *openSegment) any {
			info := s.info
			info.Number, info.First, info.Last = 0, 0, 0
			return []any{info, s.created, s.batches}
		}},
	} {
		if !reflect.DeepEqual(part.of(a), part.of(b)) {
			names = append(names, part.name)
		}
	}
	return names
}

// heldManifest reports a manifest in the directory of a hold: a reader goes by it, and no recorder makes one there.
func (v *tapeVerifier) heldManifest(id string) {
	name := filepath.Join(tapedir.HeldDir, id, manifestName)
	if _, err := os.Lstat(filepath.Join(v.dir, name)); err == nil {
		v.problem(Problem{File: name, What: fmt.Sprintf("a hold has no %s: somebody put it here to have rows left out of answers", manifestName)})
	}
}
