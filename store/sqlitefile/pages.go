package sqlitefile

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// Pages reads the pages of a database that SQLite refuses, from the file and the commits of its WAL. It trusts no byte.
type Pages struct {
	Size  int    // of a page, bytes
	Count uint32 // of pages

	Unread  int // pages with an I/O error, or beyond the end of the file
	Altered int // pages that differ from their sums; they are left out
	Frames  int // damaged frames of the WAL; they are left out

	db, wal *os.File // wal nil: none
	sums    *Sums    // nil: none
	frames  map[uint32]int64
	left    map[uint32]bool // pages that are left out
}

// OpenPages opens a database with its WAL, which may be nil, and reads the WAL until ctx is done. It takes ownership of the
// files, even if it fails.
func OpenPages(ctx context.Context, db, wal *os.File) (_ *Pages, err error) {
	p := &Pages{Size: PageSize, db: db, wal: wal, frames: map[uint32]int64{}, left: map[uint32]bool{}}
	defer func() {
		if err != nil {
			p.Close()
		}
	}()
	info, err := db.Stat()
	if err != nil {
		return nil, fmt.Errorf("read database: %w", err)
	}
	size := info.Size()
	var header [100]byte
	if _, err := db.ReadAt(header[:], 0); err == nil {
		if n := int(binary.BigEndian.Uint16(header[16:])); n >= 512 && n <= 32768 && n&(n-1) == 0 {
			p.Size = n
		}
	}
	if sums, err := ReadSums(db, size); err == nil {
		p.Size, p.sums, size = PageSize, sums, int64(sums.Pages())*PageSize
	}
	p.Count = uint32(min((size+int64(p.Size)-1)/int64(p.Size), 1<<31))
	if whole := size / int64(p.Size); cutInSums(header[:], whole) {
		p.Count = uint32(whole)
	}
	if wal != nil {
		err = p.readWAL(ctx)
	}
	return p, err
}

// cutInSums reports whether a database has all its pages, so that a part of a page after them is none. In WAL mode the
// header may be older than the last pages: then it does not tell.
func cutInSums(header []byte, whole int64) bool {
	pages, inWALMode := int64(binary.BigEndian.Uint32(header[28:])), header[18] == 2
	return !inWALMode && pages > 0 && pages <= whole && string(header[24:28]) == string(header[92:96])
}

// Close closes the files.
func (p *Pages) Close() error {
	err := p.db.Close()
	if p.wal != nil {
		err = errors.Join(err, p.wal.Close())
	}
	return err
}

// readWAL finds the newest frame of each page, up to the last commit. It skips damaged frames and keeps the others of
// the same commit.
func (p *Pages) readWAL(ctx context.Context) error {
	w, err := OpenWAL(p.wal, p.Size)
	if errors.Is(err, ErrNoWAL) {
		return nil
	}
	if err != nil {
		return err
	}
	if w.PageSize() != p.Size {
		return nil // it belongs to another database
	}
	open := map[uint32]int64{} // since the last commit
	bad := 0
	for f := range w.Frames() {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if f.Whole {
			open[f.Page] = f.At
		} else {
			bad++
		}
		if f.Commit == 0 {
			continue
		}
		for n, at := range open {
			p.frames[n] = at
			p.Count = max(p.Count, min(n, f.Commit))
		}
		p.Frames += bad
		bad = 0
		clear(open)
	}
	return nil
}

// Read fills page, of length Size, with page n, from 1 on. An unreadable or altered page is zero. So is a page that the
// file cuts short, because a row without its end would be read as if it ended in zeros.
func (p *Pages) Read(n uint32, page []byte) {
	from, at := p.db, int64(n-1)*int64(p.Size)
	frame, inWAL := p.frames[n]
	if inWAL {
		from, at = p.wal, frame
	}
	got, err := from.ReadAt(page, at)
	clear(page[got:])
	switch {
	case err != nil && (got > 0 || !errors.Is(err, io.EOF)):
		clear(page)
		p.leave(n, &p.Unread)
	case !inWAL && p.sums != nil && p.sums.Check(n, page) != nil:
		clear(page)
		p.leave(n, &p.Altered)
	}
}

// leave counts a page that is left out, once.
func (p *Pages) leave(n uint32, count *int) {
	if !p.left[n] {
		p.left[n] = true
		*count++
	}
}
