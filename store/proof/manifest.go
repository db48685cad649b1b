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

// Readers rely on the manifest, so a false entry hides rows of an intact segment. Each entry that a reader would use, if only for the inode of
// its file, is therefore compared with a new description of its segment. Other entries are harmless.

// checkManifest compares the manifest's entry with the segment. If the segment's hash is as in the log, it compares the
// entry with the log too.
func (s *segmentVerifier) checkManifest() {
	stat, err := s.file.Stat()
	f := segment.File{Stat: stat, HasWAL: tapedir.IsThere(s.path + "-wal")}
	if err != nil || !f.IsClosed() {
		return
	}
	claimed := &segment.Segment{File: s.path, Stat: stat}
	entry := s.tape.manifest.Of(s.number)
	if !entry.Claim(claimed) {
		return
	}
	is, err := describeAnew(s.file, s.number)
	switch {
	case errors.Is(err, fs.ErrNotExist): // it has expired
	case err != nil:
		s.fail(s.rightUntil(), "the manifest tells of it as of a sealed segment, and it cannot be read as one: %v", failure.Bare(err))
	default:
		wrong := differences(claimed, is)
		if entry.Mark.Size != stat.Size() {
			wrong = append(wrong, "size")
		}
		if len(wrong) > 0 {
			s.fail(s.rightUntil(), "%v: remove the file %s. False: %s", failure.ErrManifest, segment.ManifestName, strings.Join(wrong, ", "))
		}
	}
}

// describeAnew describes a segment as a new manifest would.
func describeAnew(file *os.File, n int) (*segment.Segment, error) {
	record, stat, err := segment.RecordOf(file, n)
	if err != nil {
		return nil, err
	}
	seg := &segment.Segment{Stat: stat}
	if !record.Entry().Fill(seg) {
		return nil, errors.New("it was changed meanwhile")
	}
	return seg, nil
}

// differences names the differences between two descriptions of a segment. Readers do without details that they cannot read.
func differences(claimed, is *segment.Segment) (names []string) {
	compare := func(name string, a, b any) {
		if !reflect.DeepEqual(a, b) {
			names = append(names, name)
		}
	}
	compare("number", claimed.Info.Number, is.Info.Number)
	compare("first and last connection", [2]int64{claimed.Info.First, claimed.Info.Last}, [2]int64{is.Info.First, is.Info.Last})
	compare("gaps", claimed.Gaps, is.Gaps)
	if told, read := claimed.Details(), is.Details(); told != nil && read == nil {
		names = append(names, "details")
	} else if told != nil {
		compare("last bytes", told.End, read.End)
		compare("counts", told.Segments, read.Segments)
		compare("addresses", told.Addresses, read.Addresses)
		compare("places of the tables", claimed.TableRoots(), is.TableRoots())
	}
	compare("boots", claimed.Boots, is.Boots)
	compare("runs and counters", accounts(claimed), accounts(is))
	compare("endings of earlier connections", claimed.Endings, is.Endings)
	compare("segment before", [2]int64{int64(claimed.Previous), claimed.Counts}, [2]int64{int64(is.Previous), is.Counts})
	compare("header", header(claimed), header(is))
	return names
}

func accounts(seg *segment.Segment) []segment.Recorder {
	var plain []segment.Recorder
	for i := range seg.Runs {
		plain = append(plain, seg.Runs[i].Unpacked())
	}
	return plain
}

func header(seg *segment.Segment) []any {
	info := seg.Info
	info.Number, info.First, info.Last = 0, 0, 0
	return []any{info, seg.Created, seg.Batches}
}

// heldManifest reports a manifest in the directory of a hold: readers would use it, and a recorder makes none there.
func (v *tapeVerifier) heldManifest(id string) {
	for _, name := range []string{segment.ManifestName, segment.DetailsName} {
		path := filepath.Join(tapedir.HeldDir, id, name)
		if _, err := os.Lstat(filepath.Join(v.at, path)); err == nil {
			v.problem(Problem{File: path, What: fmt.Sprintf("a hold has no %s: somebody put it here to have rows left out of answers", name)})
		}
	}
}
