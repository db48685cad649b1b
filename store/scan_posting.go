package store

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/conntape/conntape/store/sqlitefile"
)

// The postings of a sealed segment are read here too: a table without rowid is a b-tree whose branches have rows as its
// leaves do, in the order of its key. No row is longer than what a page keeps of it (posting.MostBytes).

// branchOfIndex is the kind of a page of such a b-tree that leads to others.
const branchOfIndex = 0x02

// mostOnIndexPage is how many bytes of a row a page of such a b-tree has at the most. ("B-tree Cell Format")
const mostOnIndexPage = (pageSize-12)*64/255 - 23

// ScanPostings reads the lists of a sealed segment, by its place among Segments, that touch ids from from, and below to: in
// the order of their endpoints and parts, those of the endpoints in remotes, which are ascending, or nil: of all. The list
// is good until fn returns.
func (t *Tape) ScanPostings(ctx context.Context, segment int, remotes []int64, from, to int64, fn func(remote int64, list []byte) error) error {
	s := &postingScan{scanning: scanning{from: from, to: to}, remotes: remotes, all: remotes == nil, fn: fn}
	return t.scan(ctx, segment, "posting", &s.scanning, s.page)
}

// postingScan is one run over postings.
type postingScan struct {
	scanning
	remotes []int64 // that are still to come
	all     bool
	fn      func(remote int64, list []byte) error
	was     [2]int64 // endpoint and part of the row before

	branches []*[pageSize]byte // from the root to where it is
}

// page reads the rows below a page.
func (s *postingScan) page(n uint32, depth int) error {
	page, err := s.enter(n)
	if err != nil {
		return err
	}
	begin := 8
	switch {
	case page[0] == branchOfIndex && depth < deepest:
		if len(s.branches) < depth {
			s.branches = append(s.branches, new([pageSize]byte))
		}
		copy(s.branches[depth-1][:], page)
		page = s.branches[depth-1][:] // its children are read into the room of what was read
		begin = 12
	case page[0] != byte(sqlitefile.IndexLeaf):
		return fmt.Errorf("%w: page %d is of no table without rowid", ErrDamaged, n)
	}
	count := int(binary.BigEndian.Uint16(page[3:]))
	if begin+2*count > pageSize {
		return fmt.Errorf("%w: page %d is too small", ErrDamaged, n)
	}
	for i := range count {
		at := int(binary.BigEndian.Uint16(page[begin+2*i:]))
		child := at
		if begin == 12 {
			at += 4
		}
		length, at, ok := sqlitefile.Varint(page, at)
		if !ok || length < 2 || length > mostOnIndexPage || int(length) > len(page)-at {
			return fmt.Errorf("%w: row %d of page %d", ErrDamaged, i, n)
		}
		row, ok := postingOf(page[at : at+int(length)])
		if !ok {
			return fmt.Errorf("%w: row %d of page %d", ErrDamaged, i, n)
		}
		if begin == 12 && (s.all || len(s.remotes) > 0 && s.remotes[0] <= row.remote) {
			if err := s.page(binary.BigEndian.Uint32(page[child:]), depth+1); err != nil {
				return err
			}
		}
		if !s.wants(row.remote) {
			if !s.all && len(s.remotes) == 0 {
				return nil
			}
			continue
		}
		// A table that leads back to what was read would have no end.
		key := [2]int64{row.remote, row.part}
		if s.begun && slices.Compare(key[:], s.was[:]) <= 0 {
			return fmt.Errorf("%w: row %d of page %d is out of order", ErrDamaged, i, n)
		}
		s.begun, s.was = true, key
		if row.first >= s.to || row.last < s.from {
			continue
		}
		if err := s.fn(row.remote, row.list); err != nil {
			return err
		}
	}
	if begin == 12 && (s.all || len(s.remotes) > 0) {
		return s.page(binary.BigEndian.Uint32(page[8:]), depth+1)
	}
	return nil
}

// wants reports whether an endpoint is one of remotes, and passes over those before it.
func (s *postingScan) wants(remote int64) bool {
	if s.all {
		return true
	}
	for len(s.remotes) > 0 && s.remotes[0] < remote {
		s.remotes = s.remotes[1:]
	}
	return len(s.remotes) > 0 && s.remotes[0] == remote
}

// postingRow is a row of table posting.
type postingRow struct {
	remote, part, first, last int64
	list                      []byte
}

// postingOf reads a row.
func postingOf(row []byte) (p postingRow, ok bool) {
	size, at, ok := sqlitefile.Varint(row, 0)
	if !ok || size < int64(at)+7 || size > int64(len(row)) {
		return p, false
	}
	header, body := row[at:size], row[size:]
	var n [6]int64
	for i := range n {
		if n[i], body, ok = integer(header[i], body); !ok {
			return p, false
		}
	}
	kind, _, ok := sqlitefile.Varint(header, len(n))
	if !ok || kind < 12 || kind%2 != 0 || (kind-12)/2 > int64(len(body)) {
		return p, false
	}
	return postingRow{n[0], n[1], n[4], n[5], body[:(kind-12)/2]}, true
}
