package proof

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
)

// Readers rely on the manifest, so a false entry hides rows of an intact segment. Each entry that a reader would use is
// therefore compared with a new description of its segment. Other entries are harmless.

// checkManifest compares the manifest's entry with the segment. If the segment's hash is as in the log, it compares the
// entry with the log too.
func (s *segmentVerifier) checkManifest() {
	stat, err := s.file.Stat()
	f := segment.File{Stat: stat, HasWAL: tapedir.IsThere(s.path + "-wal")}
	if err != nil || !f.IsClosed() {
		return
	}
	claimed := &segment.Segment{File: s.path, Stat: stat}
	if !s.tape.manifest[s.number].Fill(claimed) {
		return
	}
	is, err := describeAnew(s.file, s.number)
	switch {
	case errors.Is(err, fs.ErrNotExist): // it has expired
	case err != nil:
		s.fail(s.rightUntil(), "the manifest tells of it as of a sealed segment, and it cannot be read as one: %v", failure.Bare(err))
	default:
		if wrong := differences(claimed, is); len(wrong) > 0 {
			s.fail(s.rightUntil(), "%v: remove the file %s. False: %s", failure.ErrManifest, segment.ManifestName, strings.Join(wrong, ", "))
		}
	}
}

// describeAnew describes a segment as a new manifest would.
func describeAnew(file *os.File, n int) (*segment.Segment, error) {
	record, stat, err := segment.EntryOf(file, n)
	if err != nil {
		return nil, err
	}
	c, number, mark := &segment.Codec{In: string(record[segment.RecordHead:]), Reading: true}, int64(0), segment.Mark{}
	c.Head(&number, &mark)
	seg := &segment.Segment{Stat: stat}
	if !(segment.Entry{Mark: mark, Segment: c.In}).Fill(seg) {
		return nil, errors.New("it was changed meanwhile")
	}
	return seg, nil
}

// differences names the differences between two descriptions of a segment.
func differences(a, b *segment.Segment) []string {
	var names []string
	for _, part := range []struct {
		name string
		of   func(*segment.Segment) any
	}{
		{"number", func(s *segment.Segment) any { return s.Info.Number }},
		{"first and last connection", func(s *segment.Segment) any { return [2]int64{s.Info.First, s.Info.Last} }},
		{"gaps and counts", func(s *segment.Segment) any { return [2]string{s.Gaps.Text, s.Segments.Text} }},
		{"addresses", func(s *segment.Segment) any { return s.Addresses }},
		{"places of the tables", func(s *segment.Segment) any { return s.TableRoots() }},
		{"boots", func(s *segment.Segment) any { return s.Boots }},
		{"runs and counters", func(s *segment.Segment) any { return s.Runs }},
		{"segment before", func(s *segment.Segment) any { return [2]int64{int64(s.Previous), s.Counts} }},
		{"header", func(s *segment.Segment) any {
			info := s.Info
			info.Number, info.First, info.Last = 0, 0, 0
			return []any{info, s.Created, s.Batches}
		}},
	} {
		if !reflect.DeepEqual(part.of(a), part.of(b)) {
			names = append(names, part.name)
		}
	}
	return names
}

// heldManifest reports a manifest in the directory of a hold: readers would use it, and a recorder makes none there.
func (v *tapeVerifier) heldManifest(id string) {
	name := filepath.Join(tapedir.HeldDir, id, segment.ManifestName)
	if _, err := os.Lstat(filepath.Join(v.at, name)); err == nil {
		v.problem(Problem{File: name, What: fmt.Sprintf("a hold has no %s: somebody put it here to have rows left out of answers", segment.ManifestName)})
	}
}
