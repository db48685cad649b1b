package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// Reading a database that SQLite will not: page by page, from the file and from
// the commits of its WAL, without trusting a byte of it.
// Formats: https://sqlite.org/fileformat2.html

// pageFile gives the pages of a database.
type pageFile struct {
	db, wal *os.File // wal nil: none
	size    int      // of a page, bytes
	count   uint32   // of pages
	frames  map[uint32]int64
	unread  int // pages that gave an I/O error
}

// openPages opens a database and its WAL, if it has one.
func openPages(path string) (_ *pageFile, err error) {
	p := &pageFile{size: pageSize, frames: map[uint32]int64{}}
	if p.db, err = openForCopy(path); err != nil {
		return nil, err
	}
	info, err := p.db.Stat()
	if err != nil {
		p.close()
		return nil, err
	}
	var header [100]byte
	if _, err := p.db.ReadAt(header[:], 0); err == nil {
		if n := int(binary.BigEndian.Uint16(header[16:])); n >= 512 && n <= 32768 && n&(n-1) == 0 {
			p.size = n
		}
	}
	p.count = uint32(min((info.Size()+int64(p.size)-1)/int64(p.size), 1<<31))
	p.wal, err = openForCopy(path + "-wal")
	switch {
	case errors.Is(err, os.ErrNotExist):
		p.wal = nil
	case err != nil:
		p.close()
		return nil, err
	default:
		p.readWAL()
	}
	return p, nil
}

func (p *pageFile) close() {
	p.db.Close()
	if p.wal != nil {
		p.wal.Close()
	}
}

// readWAL finds the newest frame of each page, up to the last whole commit.
func (p *pageFile) readWAL() {
	var header [walHeaderSize]byte
	if _, err := p.wal.ReadAt(header[:], 0); err != nil {
		return
	}
	magic := binary.BigEndian.Uint32(header[:])
	var order binary.ByteOrder = binary.LittleEndian
	switch magic {
	case 0x377f0682:
	case 0x377f0683:
		order = binary.BigEndian
	default:
		return
	}
	if size := int(binary.BigEndian.Uint32(header[8:])); size != p.size {
		return
	}
	sum := walSum{}
	sum.add(order, header[:24])
	if !sum.is(header[24:]) {
		return
	}
	frame := make([]byte, 24+p.size)
	open := map[uint32]int64{} // since the last commit
	for at := int64(walHeaderSize); ; at += int64(len(frame)) {
		if _, err := p.wal.ReadAt(frame, at); err != nil || string(frame[8:16]) != string(header[16:24]) {
			return
		}
		sum.add(order, frame[:8])
		sum.add(order, frame[24:])
		if !sum.is(frame[16:]) {
			return
		}
		open[binary.BigEndian.Uint32(frame)] = at + 24
		if pages := binary.BigEndian.Uint32(frame[4:]); pages != 0 {
			for n, at := range open {
				p.frames[n] = at
				p.count = max(p.count, min(n, pages))
			}
			clear(open)
		}
	}
}

// walSum is the running checksum of a WAL.
type walSum struct{ a, b uint32 }

func (s *walSum) add(order binary.ByteOrder, data []byte) {
	for ; len(data) >= 8; data = data[8:] {
		s.a += order.Uint32(data) + s.b
		s.b += order.Uint32(data[4:]) + s.a
	}
}

func (s *walSum) is(stored []byte) bool {
	return binary.BigEndian.Uint32(stored) == s.a && binary.BigEndian.Uint32(stored[4:]) == s.b
}

// read fills page, whose length is size, with page n, from 1 on. What cannot be
// read is zero.
func (p *pageFile) read(n uint32, page []byte) {
	from, at := p.db, int64(n-1)*int64(p.size)
	if frame, ok := p.frames[n]; ok {
		from, at = p.wal, frame
	}
	got, err := from.ReadAt(page, at)
	clear(page[got:])
	if err != nil && !errors.Is(err, io.EOF) {
		p.unread++
	}
}

// Kinds of b-tree pages that hold rows.
const (
	leafOfTable = 0x0d // with a rowid
	leafOfIndex = 0x0a // of an index, or of a table without rowid
)

// cell is one row on a page.
type cell struct {
	kind  byte // leafOfTable, leafOfIndex
	rowid int64
	row   []value
}

var errCell = errors.New("not a row")

// cells calls fn for every row on page n that can be read. It returns how many
// could not.
func (p *pageFile) cells(n uint32, page []byte, fn func(cell)) (bad int) {
	start := 0
	if n == 1 {
		start = 100
	}
	kind := page[start]
	if kind != leafOfTable && kind != leafOfIndex {
		return 0
	}
	count := int(binary.BigEndian.Uint16(page[start+3:]))
	for i := range count {
		at := start + 8 + 2*i
		if at+2 > len(page) {
			return bad + count - i
		}
		c, err := p.cell(kind, page, int(binary.BigEndian.Uint16(page[at:])))
		if err != nil {
			bad++
			continue
		}
		fn(c)
	}
	return bad
}

// cell reads the row that begins at an offset of a page.
func (p *pageFile) cell(kind byte, page []byte, at int) (c cell, err error) {
	c.kind = kind
	length, at, ok := varint(page, at)
	if ok && kind == leafOfTable {
		c.rowid, at, ok = varint(page, at)
	}
	if !ok || length < 1 || length > mostRowBytes {
		return c, errCell
	}
	// How much of it is on this page: "B-tree Cell Format".
	most := len(page) - 35
	if kind == leafOfIndex {
		most = (len(page)-12)*64/255 - 23
	}
	local := int(length)
	if local > most {
		least := (len(page)-12)*32/255 - 23
		local = least + (int(length)-least)%(len(page)-4)
		if local > most {
			local = least
		}
	}
	if at+local > len(page) {
		return c, errCell
	}
	payload := page[at : at+local]
	if local < int(length) {
		if at+local+4 > len(page) {
			return c, errCell
		}
		payload, err = p.overflow(append([]byte(nil), payload...), int(length), binary.BigEndian.Uint32(page[at+local:]))
		if err != nil {
			return c, err
		}
	}
	c.row, err = decodeRecord(payload)
	return c, err
}

// mostRowBytes bounds what a row is believed to take.
const mostRowBytes = 1 << 20

// overflow appends the rest of a row, which is on a chain of pages.
func (p *pageFile) overflow(payload []byte, length int, next uint32) ([]byte, error) {
	page := make([]byte, p.size)
	for len(payload) < length {
		if next == 0 || next > p.count {
			return nil, fmt.Errorf("%w: its pages end too early", errCell)
		}
		p.read(next, page)
		next = binary.BigEndian.Uint32(page)
		payload = append(payload, page[4:4+min(len(page)-4, length-len(payload))]...) // so a ring ends too
	}
	return payload, nil
}
