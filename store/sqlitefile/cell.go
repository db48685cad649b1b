package sqlitefile

import (
	"encoding/binary"
	"slices"
)

// Kind is the kind of a b-tree page: its first byte.
type Kind byte

// Kinds of b-tree pages.
const (
	IndexBranch Kind = 0x02 // index or table without rowid: rows, and child pages
	TableBranch Kind = 0x05 // table: child pages
	IndexLeaf   Kind = 0x0a
	TableLeaf   Kind = 0x0d // rows, each with a rowid
)

// MostRowBytes limits the length of a row; a longer one is taken for damage.
const MostRowBytes = 1 << 20

// Cell is one row of a page read without its parent pages.
type Cell struct {
	Kind  Kind  // TableLeaf or IndexLeaf
	Rowid int64 // in a table
	Row   []Value
}

// local returns the number of a row's bytes on its page. The rest is on overflow pages. ("B-tree Cell Format")
func local(kind Kind, pageSize, length int) int {
	most := pageSize - 35
	if kind == IndexLeaf || kind == IndexBranch {
		most = (pageSize-12)*64/255 - 23
	}
	if length <= most {
		return length
	}
	least := (pageSize-12)*32/255 - 23
	if n := least + (length-least)%(pageSize-4); n <= most {
		return n
	}
	return least
}

// Cells calls fn for each readable row of page n, whose bytes are page. It returns the number of unreadable rows.
func (p *Pages) Cells(n uint32, page []byte, fn func(Cell)) (bad int) {
	start := 0
	if n == 1 {
		start = 100
	}
	kind := Kind(page[start])
	if kind != TableLeaf && kind != IndexLeaf {
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
func (p *Pages) cell(kind Kind, page []byte, at int) (c Cell, err error) {
	c.Kind = kind
	length, at, ok := Varint(page, at)
	if ok && kind == TableLeaf {
		c.Rowid, at, ok = Varint(page, at)
	}
	if !ok || length < 1 || length > MostRowBytes {
		return c, errRow
	}
	here := local(kind, len(page), int(length))
	if at+here > len(page) {
		return c, errRow
	}
	payload := page[at : at+here]
	if here < int(length) {
		if at+here+4 > len(page) {
			return c, errRow
		}
		payload, err = overflow(slices.Clone(payload), int(length), binary.BigEndian.Uint32(page[at+here:]), p.rest)
		if err != nil {
			return c, err
		}
	}
	c.Row, err = decodeRecord(payload)
	return c, err
}

// rest reads an overflow page.
func (p *Pages) rest(n uint32) ([]byte, error) {
	if n == 0 || n > p.Count {
		return nil, errRow
	}
	page := make([]byte, p.Size)
	p.Read(n, page)
	return page, nil
}
