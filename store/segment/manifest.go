package segment

import (
	"cmp"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"unsafe"

	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/tapedir"
)

// The manifest has the description of each sealed segment, so that a tape of thousands of segments is opened without
// opening each. The recorder appends an entry when it seals a segment. Opening a tape reads all of the manifest, so an
// entry has only what opening needs; the rest is in a second file, the details, and is read for one segment at a time.
// An entry counts only for the file that it was made from, which its inode tells and the file when it is opened; missing parts are read
// from the segment. It is not signed: verify compares each entry with its segment. docs/format.md describes it.

const (
	ManifestName  = "manifest"
	DetailsName   = "manifest-details"
	ManifestMagic = "conntape manifest 4\n"
	recordHead    = 8 // bytes of a record before its body: length and CRC
	leastRecord   = 100
	mostRecord    = 1 << 20 // bytes: of an entry, and of its details
)

// Mark identifies the file that an entry was made from. A changed file, or another one of this name, has another change
// time, which no program can set. A copied or hard-linked file has another one too; then its last bytes decide, which
// are a checksum over all page sums.
type Mark struct{ Size, modified, Changed, Inode int64 }

// MarkOf returns the mark of a file.
func MarkOf(info os.FileInfo) Mark {
	m := Mark{Size: info.Size(), modified: info.ModTime().UnixNano()}
	if id, ok := tapedir.IDOf(info); ok {
		m.Changed, m.Inode = id.Changed, int64(id.Inode)
	}
	return m
}

// Manifest is the manifest of a tape.
type Manifest struct {
	Whole   bool    // no entry is torn or altered
	entries []Entry // by number
	details *detailsFile
}

// Entry is the manifest's entry of a segment. The zero Entry is of none.
type Entry struct {
	Number  int
	Mark    Mark
	place   detailsPlace
	text    string   // the description, packed
	texts   []string // that it refers to
	details *detailsFile
}

// ReadManifest reads a manifest up to the first torn or altered record. It is to be closed.
func ReadManifest(dir string) *Manifest {
	m := &Manifest{details: &detailsFile{dir: dir}}
	f, err := tapedir.OpenForCopy(filepath.Join(dir, ManifestName))
	if err != nil {
		m.Whole = errors.Is(err, fs.ErrNotExist)
		return m
	}
	defer f.Close()
	read, err := readUpTo(f, mostManifest)
	if err != nil || len(read) < len(ManifestMagic) || string(read[:len(ManifestMagic)]) != ManifestMagic {
		return m
	}
	m.Whole = m.addAll(read[len(ManifestMagic):])
	m.sort()
	return m
}

// addAll adds the entries of records up to the first torn or altered one, and reports whether there is none.
func (m *Manifest) addAll(records []byte) bool {
	m.entries = make([]Entry, 0, len(records)/leastRecord)
	text := unsafe.String(unsafe.SliceData(records), len(records)) // nobody changes it: no copy
	var shared texts
	at := 0
	for len(records)-at > recordHead {
		from := at + recordHead
		to, sum := from+int(binary.BigEndian.Uint32(records[at:])), binary.BigEndian.Uint32(records[at+4:])
		if to > len(records) || to-from > mostRecord || crc32.ChecksumIEEE(records[from:to]) != sum {
			break
		}
		m.add(text[from:to], sum, &shared)
		at = to
	}
	return at == len(records)
}

// add adds the entry of a record. A record of texts replaces those that the entries after it refer to.
func (m *Manifest) add(body string, sum uint32, shared *texts) {
	c := Codec{In: body, Reading: true}
	e := Entry{details: m.details}
	if c.smallInt(&e.Number); e.Number == numberOfTexts {
		*shared = texts{sum: int64(sum)}
		listOf(&c, &shared.list, c.text)
		return
	}
	var sharedSum int64
	c.head(&e, &sharedSum)
	if e.text, e.texts = c.In, shared.list; !c.bad && sharedSum == shared.sum {
		m.entries = append(m.entries, e)
	}
}

// sort sorts the entries by number. Of several for one number the last counts. Those of a recorder are in order.
func (m *Manifest) sort() {
	byNumber := func(a, b Entry) int { return cmp.Compare(a.Number, b.Number) }
	if !slices.IsSortedFunc(m.entries, func(a, b Entry) int { return cmp.Or(byNumber(a, b), -1) }) {
		slices.Reverse(m.entries)
		slices.SortStableFunc(m.entries, byNumber)
		m.entries = slices.CompactFunc(m.entries, func(a, b Entry) bool { return a.Number == b.Number })
	}
}

// Len is the number of entries.
func (m *Manifest) Len() int { return len(m.entries) }

// Of returns the entry of a segment.
func (m *Manifest) Of(number int) Entry {
	i, found := slices.BinarySearchFunc(m.entries, number, func(e Entry, n int) int { return cmp.Compare(e.Number, n) })
	if !found {
		return Entry{}
	}
	return m.entries[i]
}

// Close closes the details. Segments that have not read theirs do without.
func (m *Manifest) Close() error { return m.details.Close() }

// mostManifest limits the length of a manifest: 64 MiB is enough for some 300,000 segments.
const mostManifest = 64 << 20

// readUpTo reads a file that is no longer than most.
func readUpTo(f *os.File, most int64) ([]byte, error) {
	info, err := f.Stat()
	if err != nil || info.Size() > most {
		return nil, errors.Join(err, errors.New("too long"))
	}
	b := make([]byte, info.Size())
	_, err = io.ReadFull(f, b)
	return b, err
}

// IsOf reports whether the entry was made from this file.
func (e *Entry) IsOf(path string, stat os.FileInfo) bool {
	is := MarkOf(stat)
	if e.text == "" || is.Size != e.Mark.Size {
		return false
	}
	if is == e.Mark {
		return true
	}
	told, known := e.readDetails()
	if !known {
		return false
	}
	f, err := tapedir.OpenForCopy(path)
	if err != nil {
		return false
	}
	defer f.Close()
	end, err := endOf(f, is.Size)
	return err == nil && end == told.End
}

// Tells sets stat to that of the file that the entry was made from, if the directory has its inode under the segment's name: thousands of files
// are not touched then. Another size or other content is noticed when the file is opened ([Segment.Open]), and by verify ([Entry.Claim]).
func (e *Entry) Tells(stat *tapedir.Stat, name string, device, inode uint64) bool {
	if e.text == "" || uint64(e.Mark.Inode) != inode {
		return false
	}
	stat.SetSealed(name, tapedir.FileID{Device: device, Inode: inode, Changed: e.Mark.Changed}, e.Mark.Size, e.Mark.modified)
	return true
}

// IsUnchanged reports whether a file is the one that was described; of one that a manifest described, whether it has the same times, too.
func (seg *Segment) IsUnchanged(is os.FileInfo) bool {
	if later := seg.later.Load(); later != nil {
		return tapedir.SameFile(is, *later)
	}
	return tapedir.SameFile(is, seg.Stat) && (!seg.told || MarkOf(is) == MarkOf(seg.Stat))
}

// isFile reports whether a file that is open is the one that was described: unchanged, or with the last bytes that the manifest tells, since another
// name for it, as in a hold, changes a time.
func (seg *Segment) isFile(file *os.File, is os.FileInfo) bool {
	if seg.IsUnchanged(is) {
		return true
	}
	if seg.later.Load() != nil || !tapedir.SameFile(is, seg.Stat) || is.Size() != seg.Stat.Size() {
		return false
	}
	details := seg.Details()
	if details == nil {
		return false
	}
	end, err := endOf(file, is.Size())
	return err == nil && end == details.End
}

// readDetails reads the details of an entry. known is false if they are not there, or are altered.
func (e *Entry) readDetails() (d *Details, known bool) {
	if e.details == nil {
		return nil, false
	}
	return e.details.read(e.place)
}

// HasDetails reports whether the details can be read.
func (e *Entry) HasDetails() bool {
	_, known := e.readDetails()
	return known
}

// Fill describes a segment by the entry, if the entry is of this file. If it returns false, the segment may be half
// filled.
func (e *Entry) Fill(seg *Segment) bool {
	return e.IsOf(seg.File, seg.Stat) && e.decode(seg)
}

// Claim is Fill for verify: it fills the segment also if readers take the entry for its file by the inode alone.
func (e *Entry) Claim(seg *Segment) bool {
	return (e.IsOf(seg.File, seg.Stat) || e.text != "" && MarkOf(seg.Stat).Inode == e.Mark.Inode) && e.decode(seg)
}

func (e *Entry) decode(seg *Segment) bool {
	c := &Codec{In: e.text, Reading: true, texts: e.texts}
	c.Segment(seg)
	seg.told, seg.details.from, seg.details.place = true, e.details, e.place
	return !c.bad && c.In == ""
}

// checkTold compares the manifest's entry with the opened segment, as far as that is cheap. verify checks the rest.
func (seg *Segment) checkTold(r *Reader) error {
	is := &Segment{}
	if err := is.readEnds(r.Conn); err != nil {
		return err
	}
	roots := seg.TableRoots()
	if is.Info.First != seg.Info.First || is.Info.Last != seg.Info.Last || roots != nil && !maps.Equal(roots, r.Tables.Roots) {
		return failure.ErrManifest
	}
	return nil
}
