package sqlitefile

import (
	"encoding/binary"
	"slices"
)

// Kind is what a page of a b-tree is, as its first byte says.
type Kind byte

// The kinds of pages of b-trees.
const (
	IndexBranch Kind = 0x02 // of an index or a table without rowid: rows, and pages below it
	TableBranch Kind = 0x05 // of a table: pages below it
	IndexLeaf   Kind = 0x0a
	TableLeaf   Kind = 0x0d // rows, each with a rowid
)

// MostRowBytes bounds the bytes that a row is believed to take.
const MostRowBytes = 1 << 20

// Cell is one row of a page that is read without the pages that lead to it.
type Cell struct {
	Kind  Kind  // TableLeaf or IndexLeaf
	Rowid int64 // of a table
	Row   []Value
}

// local returns how many bytes of a row are on its page. The rest is on pages of its own. ("B-tree Cell Format")
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

// Cells calls fn for each row on page n, which has these bytes, that can be read. It returns how many could not.
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

// rest reads a page of the rest of a row.
func (p *Pages) rest(n uint32) ([]byte, error) {
	if n == 0 || n > p.Count {
		return nil, errRow
	}
	page := make([]byte, p.Size)
	p.Read(n, page)
	return page, nil
}
