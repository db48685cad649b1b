package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/sqlitefile"
	"github.com/conntape/conntape/store/tapedir"
)

// The manifest has the description of each sealed segment, so that a tape of thousands of segments is opened without
// opening each. The recorder appends an entry when it seals a segment. Nothing depends on the manifest: an entry counts
// only for the file that it was made from, and missing parts are read from the segment. It is not signed: verify
// compares each entry with its segment. docs/format.md describes it.

const (
	ManifestName  = "manifest"
	ManifestMagic = "conntape manifest 3\n"
	RecordHead    = 8 // bytes of a record before its entry: length and CRC
)

// Mark identifies the file that an entry was made from. A changed file, or another one of this name, has another change
// time, which no program can set. A copied or hard-linked file has another one too; then its last bytes decide, which
// are a checksum over all page sums.
type Mark struct {
	Size, modified, Changed, Inode int64
	end                            string
}

// MarkOf returns the mark of a file.
func MarkOf(info os.FileInfo) Mark {
	m := Mark{Size: info.Size(), modified: info.ModTime().UnixNano()}
	if id, ok := tapedir.IDOf(info); ok {
		m.Changed, m.Inode = id.Changed, int64(id.Inode)
	}
	return m
}

// IsOf reports whether this is the mark of the segment's file.
func (m Mark) IsOf(seg *Segment) bool {
	is := MarkOf(seg.Stat)
	is.end = m.end
	if is == m || is.Size != m.Size {
		return is == m
	}
	f, err := tapedir.OpenForCopy(seg.File)
	if err != nil {
		return false
	}
	defer f.Close()
	end, err := endOf(f, is.Size)
	return err == nil && end == m.end
}

// endOf returns the last bytes of a sealed segment of this size.
func endOf(f *os.File, size int64) (string, error) {
	end := make([]byte, sqlitefile.SumsEnd)
	_, err := f.ReadAt(end, size-int64(len(end)))
	return string(end), err
}

// Entry is the manifest's entry of a segment, without its file name.
type Entry struct {
	Mark    Mark
	Segment string // packed
}

// ReadManifest returns the entries of a manifest by segment number. It stops at the first torn or altered entry; whole
// reports that there is none.
func ReadManifest(dir string) (entries map[int]Entry, whole bool) {
	f, err := tapedir.OpenForCopy(filepath.Join(dir, ManifestName))
	if err != nil {
		return map[int]Entry{}, errors.Is(err, fs.ErrNotExist)
	}
	defer f.Close()
	read, err := readUpTo(f, mostManifest)
	if err != nil || len(read) < len(ManifestMagic) || string(read[:len(ManifestMagic)]) != ManifestMagic {
		return map[int]Entry{}, false
	}
	entries = make(map[int]Entry, len(read)/usualEntry)
	text := unsafe.String(&read[0], len(read)) // of megabytes, which nobody changes: no copy
	at := len(ManifestMagic)
	for len(read)-at > RecordHead {
		from := at + RecordHead
		to := from + int(binary.BigEndian.Uint32(read[at:]))
		if to > len(read) || crc32.ChecksumIEEE(read[from:to]) != binary.BigEndian.Uint32(read[at+4:]) {
			break
		}
		c, number, mark := Codec{In: text[from:to], Reading: true}, int64(0), Mark{}
		c.Head(&number, &mark)
		if !c.bad {
			entries[int(number)] = Entry{mark, c.In}
		}
		at = to
	}
	return entries, at == len(read)
}

// usualEntry is about the length of an entry, in bytes.
const usualEntry = 1 << 10

// mostManifest limits the length of a manifest: 64 MiB is enough for some 100,000 segments.
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

// Fill describes a segment by the entry, if the entry is of this file. If it returns false, the segment may be half
// filled.
func (e Entry) Fill(seg *Segment) bool {
	if e.Segment == "" || !e.Mark.IsOf(seg) {
		return false
	}
	c := &Codec{In: e.Segment, Reading: true}
	c.Segment(seg)
	return !c.bad && c.In == ""
}

// checkTold compares the manifest's entry with the opened segment, as far as that is cheap. verify checks the rest.
func (seg *Segment) checkTold(r *Reader) error {
	is := &Segment{}
	if err := is.readEnds(r.Conn); err != nil {
		return err
	}
	if is.Info.First != seg.Info.First || is.Info.Last != seg.Info.Last || !maps.Equal(seg.TableRoots(), r.Tables.Roots) {
		return failure.ErrManifest
	}
	return nil
}

// NewEntry is EntryOf the file at path, which nobody has open.
func NewEntry(path string, number int) ([]byte, error) {
	file, err := tapedir.OpenForCopy(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	record, _, err := EntryOf(file, number)
	return record, err
}

// EntryOf returns the record for a sealed segment, and the state of its file at that time.
func EntryOf(file *os.File, number int) (record []byte, stat os.FileInfo, err error) {
	seg := &Segment{}
	if err = seg.lookInto(file); err == nil {
		err = seg.readSmall(file)
	}
	if err != nil {
		return nil, nil, err
	}
	seg.Info.Path, seg.Info.Bytes = file.Name(), seg.Stat.Size()
	c, n, mark := &Codec{}, int64(number), MarkOf(seg.Stat)
	if mark.end, err = endOf(file, mark.Size); err != nil {
		return nil, nil, err
	}
	c.Head(&n, &mark)
	c.Segment(seg)
	record = binary.BigEndian.AppendUint32(nil, uint32(len(c.Out)))
	record = binary.BigEndian.AppendUint32(record, crc32.ChecksumIEEE(c.Out))
	return append(record, c.Out...), seg.Stat, nil
}

// readSmall reads the rows of the small views, the first pages of the tables, and the filter of addresses.
func (seg *Segment) readSmall(file *os.File) error {
	return PeekInto(file, func(conn *sqlite.Conn) error {
		for view, small := range map[string]*packed[[][]Cell]{"gaps": &seg.Gaps, "segments": &seg.Segments} {
			rows := [][]Cell{}
			err := Exec(conn, func(q *sqlite.Stmt) error {
				row := make([]Cell, q.ColumnCount())
				for i := range row {
					row[i] = cellOf(q, i)
				}
				rows = append(rows, row)
				return nil
			}, "SELECT * FROM "+view)
			if err != nil {
				return fmt.Errorf("read %s: %w", view, err)
			}
			small.Pack(rows, (*Codec).Rows)
		}
		roots, err := readRoots(conn)
		if err != nil {
			return err
		}
		seg.Roots.Pack(roots, (*Codec).Roots)
		seg.Addresses, err = filterAddresses(conn)
		return err
	})
}

// Cell is a value in the manifest: NULL, an integer or a text.
type Cell struct {
	Kind   int64 // sqlite.ColumnType
	Number int64
	Text   string
}

func cellOf(q *sqlite.Stmt, i int) Cell {
	switch kind := q.ColumnType(i); kind {
	case sqlite.TypeInteger:
		return Cell{Kind: int64(kind), Number: q.ColumnInt64(i)}
	case sqlite.TypeNull:
		return Cell{Kind: int64(kind)}
	default:
		return Cell{Kind: int64(sqlite.TypeText), Text: q.ColumnText(i)}
	}
}

// Value returns the cell as a virtual table does.
func (c Cell) Value() sqlite.Value {
	switch sqlite.ColumnType(c.Kind) {
	case sqlite.TypeInteger:
		return sqlite.IntegerValue(c.Number)
	case sqlite.TypeText:
		return sqlite.TextValue(c.Text)
	}
	return sqlite.Value{}
}

// manifestStep is the step of allocating the manifest, in bytes: ten segments at least.
const manifestStep = 32 << 10

// blocksOf returns the size of a file's blocks, in bytes.
func blocksOf(info os.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * 512
	}
	return info.Size()
}

// AppendManifest appends records. It rewrites a manifest if most of its segments are gone.
func AppendManifest(dir string, records []byte) error {
	path := filepath.Join(dir, ManifestName)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|unix.O_NOFOLLOW, tapedir.FileMode)
	if err != nil {
		return fmt.Errorf("append to manifest: %w", err)
	}
	info, err := f.Stat()
	if err == nil && info.Size() == 0 {
		if err = tapedir.GiveToGroup(path, tapedir.FileMode); err == nil {
			records = slices.Concat([]byte(ManifestMagic), records)
		}
	}
	if err == nil {
		if end := info.Size() + int64(len(records)); blocksOf(info) < end { // before others fill the disk
			unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, end+manifestStep)
		}
		_, err = f.WriteAt(records, info.Size())
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("append to manifest: %w", err)
	}
	return nil
}
