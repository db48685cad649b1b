package segment

import (
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"unsafe"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/tapedir"
)

// Details are what an entry of the manifest tells of a segment beyond what opening a tape needs.
type Details struct {
	End       string        // last bytes of the file
	Addresses AddressFilter // of its endpoints
	Segments  PackedRows    // of the view segments
	Roots     PackedRoots

	unpacking sync.Once
	roots     map[string]uint32
}

// detailsPlace is where the details of an entry are in their file.
type detailsPlace struct{ at, length, sum int64 }

// detailsFile is the file with the details of a manifest's entries. It is opened when they are first asked for.
type detailsFile struct {
	dir     string
	opening sync.Once
	file    io.ReaderAt // nil: there is none

	reading sync.Mutex
	block   []byte // read last
	at      int64  // of block
}

// detailsOf returns details that are not in a file.
func detailsOf(text []byte) *detailsFile {
	d := &detailsFile{}
	d.opening.Do(func() { d.file = strings.NewReader(string(text)) })
	return d
}

func (f *detailsFile) open() {
	if file, err := tapedir.OpenForCopy(filepath.Join(f.dir, DetailsName)); err == nil {
		f.file = file
	}
}

// Close closes the file. No others may be reading.
func (f *detailsFile) Close() error {
	f.opening.Do(func() {})
	file, isOpen := f.file.(*os.File)
	if f.file = nil; !isOpen {
		return nil
	}
	return file.Close()
}

// read reads details. known is false if they are not there, or are altered.
func (f *detailsFile) read(place detailsPlace) (d *Details, known bool) {
	if f.opening.Do(f.open); f.file == nil || place.at < 0 || place.length <= 0 || place.length > mostRecord {
		return nil, false
	}
	b := f.bytes(place.at, place.length)
	if int64(len(b)) < place.length || int64(crc32.ChecksumIEEE(b)) != place.sum {
		return nil, false
	}
	d = &Details{}
	c := &Codec{In: unsafe.String(&b[0], len(b)), Reading: true} // nobody changes it
	c.details(d)
	return d, !c.bad && c.In == ""
}

// detailsBlock is how much is read at once: the details of segments that follow each other are near each other.
const detailsBlock = 64 << 10

// bytes reads bytes of the file, fewer at its end.
func (f *detailsFile) bytes(at, length int64) []byte {
	f.reading.Lock()
	defer f.reading.Unlock()
	if at < f.at || at+length > f.at+int64(len(f.block)) {
		f.at = at / detailsBlock * detailsBlock
		f.block = make([]byte, max(detailsBlock, at-f.at+length)) // a new one: others refer to the last
		n, _ := f.file.ReadAt(f.block, f.at)
		f.block = f.block[:n]
	}
	from := min(at-f.at, int64(len(f.block)))
	return f.block[from:min(from+length, int64(len(f.block)))]
}

// toldDetails reads the details of a segment once, when they are asked for.
type toldDetails struct {
	from  *detailsFile // nil: the segment is not described by a manifest
	place detailsPlace
	once  sync.Once
	read  *Details
}

// Details returns the details; nil: the manifest does not tell them. Any goroutine may ask.
func (seg *Segment) Details() *Details {
	t := &seg.details
	if t.from == nil {
		return nil
	}
	t.once.Do(func() {
		if d, known := t.from.read(t.place); known {
			t.read = d
		}
	})
	return t.read
}

// Addresses returns the filter of addresses; one that tells nothing if the manifest lacks it.
func (seg *Segment) Addresses() AddressFilter {
	if d := seg.Details(); d != nil {
		return d.Addresses
	}
	return ""
}

// TableRoots returns the first page of each table and index, nil if the manifest lacks them.
func (seg *Segment) TableRoots() map[string]uint32 {
	d := seg.Details()
	if d == nil {
		return nil
	}
	d.unpacking.Do(func() { d.roots = d.Roots.unpack() })
	return d.roots
}

// SmallRows returns the rows of a small view. known is false if the manifest lacks them or the view is not small.
func (seg *Segment) SmallRows(view string) (rows [][]Cell, known bool) {
	switch view {
	case "gaps":
		return seg.Gaps.unpack()
	case "segments":
		if d := seg.Details(); d != nil {
			return d.Segments.unpack()
		}
	}
	return nil, false
}

// PackedRows are rows of a small view, to be unpacked on demand. "": they are not known.
type PackedRows string

// noRows is PackRows of none.
const noRows PackedRows = "\x00"

// PackRows packs rows.
func PackRows(rows [][]Cell) PackedRows {
	c := &Codec{}
	c.rows(&rows)
	return PackedRows(c.Out)
}

func (p PackedRows) unpack() (rows [][]Cell, known bool) {
	if p == noRows {
		return nil, true
	}
	c := &Codec{In: string(p), Reading: true}
	c.rows(&rows)
	return rows, !c.bad && c.In == ""
}

// PackedRoots are the first pages of tables and indexes, to be unpacked on demand.
type PackedRoots string

// PackRoots packs them.
func PackRoots(roots map[string]uint32) PackedRoots {
	c := &Codec{}
	c.roots(&roots)
	return PackedRoots(c.Out)
}

// unpack returns nil if they are not known.
func (p PackedRoots) unpack() (roots map[string]uint32) {
	c := &Codec{In: string(p), Reading: true}
	if c.roots(&roots); c.bad || c.In != "" {
		return nil
	}
	return roots
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
