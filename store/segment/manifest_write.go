package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/sqlitefile"
	"github.com/conntape/conntape/store/tapedir"
)

// Record is an entry for the manifest, before it has a place there.
type Record struct {
	entry   Entry
	details []byte
}

// NewRecord is RecordOf the file at path, which nobody has open.
func NewRecord(path string, number int) (*Record, error) {
	file, err := tapedir.OpenForCopy(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	record, _, err := RecordOf(file, number)
	return record, err
}

// RecordOf returns the record for a sealed segment, and the state of its file at that time.
func RecordOf(file *os.File, number int) (*Record, os.FileInfo, error) {
	seg := &Segment{}
	err := seg.lookInto(file)
	if err != nil {
		return nil, nil, err
	}
	details, err := seg.readSmall(file)
	if err != nil {
		return nil, nil, err
	}
	seg.Info.Path, seg.Info.Bytes = file.Name(), seg.Stat.Size()
	if details.End, err = endOf(file, seg.Stat.Size()); err != nil {
		return nil, nil, err
	}
	record := Describing(number, MarkOf(seg.Stat), seg, details)
	if len(record.entry.text) > mostRecord/2 || len(record.details) > mostRecord {
		return nil, nil, errors.New("what it says of itself is too long for the manifest")
	}
	return record, seg.Stat, nil
}

// Describing makes the record of a description.
func Describing(number int, mark Mark, seg *Segment, details *Details) *Record {
	c, d := &Codec{}, &Codec{}
	c.Segment(seg)
	d.details(details)
	place := detailsPlace{length: int64(len(d.Out)), sum: int64(crc32.ChecksumIEEE(d.Out))}
	return &Record{entry: Entry{Number: number, Mark: mark, place: place, text: string(c.Out), texts: c.texts, details: detailsOf(d.Out)}, details: d.Out}
}

// Entry returns the entry as it will be read.
func (r *Record) Entry() *Entry { return &r.entry }

// endOf returns the last bytes of a sealed segment of this size.
func endOf(f *os.File, size int64) (string, error) {
	end := make([]byte, sqlitefile.SumsEnd)
	_, err := f.ReadAt(end, size-int64(len(end)))
	return string(end), err
}

// readSmall reads the rows of the small views, the first pages of the tables, and the filter of addresses.
func (seg *Segment) readSmall(file *os.File) (*Details, error) {
	details := &Details{}
	return details, PeekInto(file, func(conn *sqlite.Conn) error {
		for view, small := range map[string]*PackedRows{"gaps": &seg.Gaps, "segments": &details.Segments} {
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
			*small = PackRows(rows)
		}
		roots, err := readRoots(conn)
		if err != nil {
			return err
		}
		details.Roots = PackRoots(roots)
		details.Addresses, err = filterAddresses(conn)
		return err
	})
}

// ManifestWriter appends to the manifest of a tape. The zero value has written nothing yet.
type ManifestWriter struct {
	texts int64 // sum of the texts that it wrote last
}

// Append appends records.
func (w *ManifestWriter) Append(dir string, records ...*Record) error {
	err := w.append(dir, records)
	if err != nil {
		w.texts = 0 // they may not be there
		return fmt.Errorf("append to manifest: %w", err)
	}
	return nil
}

func (w *ManifestWriter) append(dir string, records []*Record) (err error) {
	manifest, size, err := openToAppend(filepath.Join(dir, ManifestName), 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, manifest.Close()) }()
	truncate := 0
	if size == 0 {
		w.texts, truncate = 0, os.O_TRUNC
	}
	details, end, err := openToAppend(filepath.Join(dir, DetailsName), truncate)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, details.Close()) }()
	var lines, more []byte
	if size == 0 {
		lines = []byte(ManifestMagic)
	}
	for _, r := range records {
		r.entry.place.at = end + int64(len(more))
		more = append(more, r.details...)
		lines = w.encode(lines, &r.entry)
	}
	if err := appendAt(details, end, more); err != nil { // first: an entry without details is of less use
		return err
	}
	return appendAt(manifest, size, lines)
}

// encode appends the record of an entry, and before it that of the texts that it refers to, if the last ones are others.
func (w *ManifestWriter) encode(to []byte, e *Entry) []byte {
	number := numberOfTexts
	c := &Codec{}
	c.smallInt(&number)
	listOf(c, &e.texts, c.text)
	if sum := int64(crc32.ChecksumIEEE(c.Out)); sum != w.texts {
		to, w.texts = appendRecord(to, c.Out), sum
	}
	c = &Codec{}
	c.smallInt(&e.Number)
	c.head(e, &w.texts)
	return appendRecord(to, append(c.Out, e.text...))
}

func appendRecord(to, body []byte) []byte {
	to = binary.BigEndian.AppendUint32(to, uint32(len(body)))
	to = binary.BigEndian.AppendUint32(to, crc32.ChecksumIEEE(body))
	return append(to, body...)
}

// openToAppend opens a file, and makes it for the reading group if it is missing or empty.
func openToAppend(path string, flags int) (f *os.File, size int64, err error) {
	f, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|unix.O_NOFOLLOW|flags, tapedir.FileMode)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err == nil && info.Size() == 0 {
		err = tapedir.GiveToGroup(path, tapedir.FileMode)
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}

// manifestStep is the step of allocating the manifest and its details, in bytes: ten segments at least.
const manifestStep = 32 << 10

// appendAt writes at the end of a file.
func appendAt(f *os.File, size int64, text []byte) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if end := size + int64(len(text)); blocksOf(info) < end { // before others fill the disk
		unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, end+manifestStep)
	}
	_, err = f.WriteAt(text, size)
	return err
}

// blocksOf returns the size of a file's blocks, in bytes.
func blocksOf(info os.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * 512
	}
	return info.Size()
}
