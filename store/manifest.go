package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/sqlitefile"
	"github.com/conntape/conntape/store/tapedir"
)

// The manifest tells of each sealed segment what it says of itself, so that a tape of thousands of them is opened without
// looking into one. The recorder appends an entry when a segment is sealed. Nothing depends on it: an entry counts only
// for the very file that it was made of, and what it does not tell is read from the segment. It is not signed: verify compares
// each entry with its segment. docs/format.md describes it.

const (
	manifestName  = "manifest"
	manifestMagic = "conntape manifest 1\n"
	recordHead    = 8 // bytes of a record before its entry: length and CRC
)

// fileMark tells whether a file is the one that an entry was made of. A file whose content was changed, or that is
// another one of this name, has another change time, which no program can set. A file that was copied, or linked by a
// hold, has another too: then its end tells, which is a checksum over those of all its pages.
type fileMark struct {
	size, modified, changed, inode int64
	end                            string
}

// markOf returns the mark of a file.
func markOf(info os.FileInfo) fileMark {
	m := fileMark{size: info.Size(), modified: info.ModTime().UnixNano()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		m.changed, m.inode = st.Ctim.Nano(), int64(st.Ino)
	}
	return m
}

// isOf reports whether the mark is that of the segment's file.
func (m fileMark) isOf(seg *openSegment) bool {
	is := markOf(seg.stat)
	is.end = m.end
	if is == m || is.size != m.size {
		return is == m
	}
	end, err := endOf(seg.file, is.size)
	return err == nil && end == m.end
}

// endOf returns the last bytes of a sealed segment of that size.
func endOf(path string, size int64) (string, error) {
	f, err := tapedir.OpenForCopy(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	end := make([]byte, sqlitefile.SumsEnd)
	_, err = f.ReadAt(end, size-int64(len(end)))
	return string(end), err
}

// manifestEntry is what the manifest has of a segment, but for its file.
type manifestEntry struct {
	mark    fileMark
	segment string // packed
}

// readManifest returns the entries of a manifest by the number of the segment. What is torn or altered has none, and what
// follows it; whole: nothing is.
func readManifest(dir string) (entries map[int]manifestEntry, whole bool) {
	entries = map[int]manifestEntry{}
	f, err := tapedir.OpenForCopy(filepath.Join(dir, manifestName))
	if err != nil {
		return entries, errors.Is(err, fs.ErrNotExist)
	}
	defer f.Close()
	text, err := readUpTo(f, mostManifest)
	if err != nil || len(text) < len(manifestMagic) || text[:len(manifestMagic)] != manifestMagic {
		return entries, false
	}
	rest := text[len(manifestMagic):]
	for len(rest) > recordHead {
		length := int(binary.BigEndian.Uint32([]byte(rest[:4])))
		if length > len(rest)-recordHead || crc32.ChecksumIEEE([]byte(rest[recordHead:recordHead+length])) != binary.BigEndian.Uint32([]byte(rest[4:recordHead])) {
			break
		}
		c, number, mark := &codec{in: rest[recordHead : recordHead+length], reading: true}, int64(0), fileMark{}
		c.head(&number, &mark)
		if !c.bad {
			entries[int(number)] = manifestEntry{mark, c.in}
		}
		rest = rest[recordHead+length:]
	}
	return entries, rest == ""
}

// mostManifest is how long a manifest may be: some 100,000 segments have 64 MiB.
const mostManifest = 64 << 20

// readUpTo reads a file that is no longer than most.
func readUpTo(f *os.File, most int64) (string, error) {
	info, err := f.Stat()
	if err != nil || info.Size() > most {
		return "", errors.Join(err, errors.New("too long"))
	}
	text := make([]byte, info.Size())
	n, err := f.ReadAt(text, 0)
	if n < len(text) {
		return "", err
	}
	return string(text), nil
}

// fill describes a segment by the entry, if that is of this very file. If it returns false the segment may be half filled.
func (e manifestEntry) fill(seg *openSegment) bool {
	if e.segment == "" || !e.mark.isOf(seg) {
		return false
	}
	c := &codec{in: e.segment, reading: true}
	c.segment(seg)
	return !c.bad && c.in == ""
}

// checkTold compares what the manifest told of a segment with what opening it shows: that costs next to nothing. The rest
// is for verify.
func (seg *openSegment) checkTold(r *reading) error {
	is := &openSegment{}
	if err := is.readEnds(r.conn); err != nil {
		return err
	}
	if is.info.First != seg.info.First || is.info.Last != seg.info.Last || !maps.Equal(seg.tableRoots(), r.tables.roots) {
		return failure.ErrManifest
	}
	return nil
}

// newEntry returns the record of a sealed segment that nobody has open.
func newEntry(path string, number int) ([]byte, error) {
	stat, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	seg, err := describeFile(segmentFile{path: path, stat: stat}, manifestEntry{})
	if err == nil {
		err = seg.readSmall()
	}
	if err != nil {
		return nil, err
	}
	c, n, mark := &codec{}, int64(number), markOf(stat)
	if mark.end, err = endOf(path, mark.size); err != nil {
		return nil, err
	}
	c.head(&n, &mark)
	c.segment(seg)
	record := binary.BigEndian.AppendUint32(nil, uint32(len(c.out)))
	record = binary.BigEndian.AppendUint32(record, crc32.ChecksumIEEE(c.out))
	return append(record, c.out...), nil
}

// readSmall reads the rows of the small views, and where the tables begin.
func (seg *openSegment) readSmall() error {
	return peekAt(seg.file, func(conn *sqlite.Conn) error {
		for view, small := range map[string]*packed[[][]smallCell]{"gaps": &seg.gaps, "segments": &seg.segments} {
			rows := [][]smallCell{}
			err := execOn(conn, func(q *sqlite.Stmt) error {
				row := make([]smallCell, q.ColumnCount())
				for i := range row {
					row[i] = cellOf(q, i)
				}
				rows = append(rows, row)
				return nil
			}, "SELECT * FROM "+view)
			if err != nil {
				return fmt.Errorf("read %s: %w", view, err)
			}
			small.pack(rows, (*codec).rows)
		}
		roots, err := readRoots(conn)
		seg.roots.pack(roots, (*codec).roots)
		return err
	})
}

// smallCell is a value of a row that the manifest has: NULL, an integer or a text.
type smallCell struct {
	kind   int64 // sqlite.ColumnType
	number int64
	text   string
}

func cellOf(q *sqlite.Stmt, i int) smallCell {
	switch kind := q.ColumnType(i); kind {
	case sqlite.TypeInteger:
		return smallCell{kind: int64(kind), number: q.ColumnInt64(i)}
	case sqlite.TypeNull:
		return smallCell{kind: int64(kind)}
	default:
		return smallCell{kind: int64(sqlite.TypeText), text: q.ColumnText(i)}
	}
}

// value returns the cell as a virtual table gives it.
func (c smallCell) value() sqlite.Value {
	switch sqlite.ColumnType(c.kind) {
	case sqlite.TypeInteger:
		return sqlite.IntegerValue(c.number)
	case sqlite.TypeText:
		return sqlite.TextValue(c.text)
	}
	return sqlite.Value{}
}

// noteSealed appends an entry to the manifest. That it cannot is no harm: readers look into the segment then.
func (w *Writer) noteSealed(path string, number int) {
	record, err := newEntry(path, number)
	if err == nil {
		err = appendManifest(w.dir, record)
	}
	if err != nil {
		w.log.Warn("segment not noted in the manifest", "path", path, "error", err)
	}
}

// appendManifest appends records. A manifest of which most is of segments that are gone is written anew.
func appendManifest(dir string, records []byte) error {
	path := filepath.Join(dir, manifestName)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|unix.O_NOFOLLOW, tapedir.FileMode)
	if err != nil {
		return fmt.Errorf("append to manifest: %w", err)
	}
	info, err := f.Stat()
	if err == nil && info.Size() == 0 {
		if err = tapedir.GiveToGroup(path, tapedir.FileMode); err == nil {
			records = slices.Concat([]byte(manifestMagic), records)
		}
	}
	if err == nil {
		_, err = f.WriteAt(records, info.Size())
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("append to manifest: %w", err)
	}
	return nil
}

// mendManifest makes entries for the sealed segments that have none that counts, and leaves those out that are gone.
func (w *Writer) mendManifest() {
	entries, isWhole := readManifest(w.dir)
	var records []byte
	w.mu.Lock()
	var list []stored
	for _, s := range w.catalog.list {
		if s.state == sealed {
			list = append(list, stored{number: s.number, path: s.path})
		}
	}
	w.mu.Unlock()
	isWhole = isWhole && len(entries) <= 2*len(list)+100
	for _, s := range list {
		info, err := os.Lstat(s.path)
		if errors.Is(err, fs.ErrNotExist) || err == nil && isWhole && entries[s.number].mark.isOf(&openSegment{file: s.path, stat: info}) {
			continue
		}
		record, err := newEntry(s.path, s.number)
		if err != nil {
			w.log.Warn("segment not noted in the manifest", "path", s.path, "error", err)
			continue
		}
		records = append(records, record...)
	}
	if !isWhole {
		if err := os.Remove(filepath.Join(w.dir, manifestName)); err != nil {
			w.log.Warn("manifest not written anew", "error", err)
			return
		}
	}
	if len(records) > 0 {
		if err := appendManifest(w.dir, records); err != nil {
			w.log.Warn("manifest not mended", "error", err)
		}
	}
}
