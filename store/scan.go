package store

import (
	"context"
	"errors"
	"net/netip"

	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/segment"
)

// A segment that is not sealed has no postings, and who counts over it reads every connection; whoever counts over any
// segment reads its endpoints, and whoever looks for an address the index over the addresses of every segment of a window.
// So these are read by package sqlitefile, in a tenth to a hundredth of the time that SQLite takes. They are those of a file
// that nobody writes: a private copy, or a segment that is closed. SQLite has it open without locks, so that this descriptor
// can drop none.

// tablesOf returns the tables of a segment. It is not opened with SQLite if the manifest tells where they begin.
func (t *Tape) tablesOf(place int) (*segment.Tables, func(), error) {
	seg := t.segs[place]
	if roots := seg.TableRoots(); roots != nil {
		if tables, err := seg.OpenTold(roots); err == nil {
			return tables, func() { tables.Close() }, nil
		}
	}
	r, release, err := t.borrow(place) // which also says what is wrong
	if err != nil {
		return nil, nil, err
	}
	return r.Tables, release, nil
}

// scan has fn read tables of a segment, by its place among Segments.
func (t *Tape) scan(place int, fn func(*segment.Tables) error) error {
	seg := t.segs[place]
	tables, release, err := t.tablesOf(place)
	if err != nil {
		return err
	}
	defer release()
	if err := failure.Classify(fn(tables)); err != nil {
		if other := (*failure.Error)(nil); errors.Is(err, failure.ErrDamaged) && !errors.As(err, &other) { // else fn read another segment
			seg.Watch.Found(seg.File, err)
		}
		return &failure.Error{Op: "read segment", Path: seg.Info.Path, Err: err, Hint: failure.HintFor(err)}
	}
	return nil
}

// ScanConnections reads the connections of a segment, by its place among Segments, whose id is not below from and below
// to, in the order of their ids: those that are wanted, and maybe others. It ends with the first error of fn, which is
// given the ids of the row and of what it refers to.
func (t *Tape) ScanConnections(ctx context.Context, place int, from, to int64, wanted segment.Wanted, fn func(id, task, remote, shape int64) error) error {
	return t.scan(place, func(f *segment.Tables) error {
		return f.Connections(ctx, f.Roots["connection"], from, to, wanted, fn)
	})
}

// ReadOutcomes reads the latest outcomes, as they are stored, of connections of a segment, by its place among Segments, as far as this
// segment tells. The ids ascend; fn is called in their order for those that have an outcome, which is good until fn returns.
func (t *Tape) ReadOutcomes(ctx context.Context, place int, ids []int64, fn func(id int64, outcome []byte)) error {
	if len(ids) == 0 {
		return nil
	}
	return t.scan(place, func(f *segment.Tables) error { return f.Outcomes(ctx, ids, fn) })
}

// ScanEndpoints reads the endpoints of a segment, in the order of their ids. The address is good until fn returns.
func (t *Tape) ScanEndpoints(ctx context.Context, place int, fn func(id, family int64, address []byte, port int64) error) error {
	return t.scan(place, func(f *segment.Tables) error { return f.Endpoints(ctx, fn) })
}

// MayHave reports whether a segment, by its place among Segments, may have an endpoint with an IP address, as far as the manifest
// tells. If not, it has none.
func (t *Tape) MayHave(place int, a netip.Addr) bool { return t.segs[place].Addresses().MayHave(a) }

// FindEndpoints reads the endpoints of a segment, by its place among Segments, whose address lies in one of some ranges. It
// ends with the first error of fn. The address is good until fn returns.
func (t *Tape) FindEndpoints(ctx context.Context, place int, ranges []segment.TextRange, fn func(id, family int64, address []byte, port int64) error) error {
	return t.scan(place, func(f *segment.Tables) error {
		for _, r := range ranges {
			if err := f.Addresses(ctx, r, fn); err != nil {
				return err
			}
		}
		return nil
	})
}

// ScanRedirected reads which endpoints of a segment, by its place among Segments, connects were sent to that had asked for
// another. It ends with the first error of fn.
func (t *Tape) ScanRedirected(ctx context.Context, place int, fn func(id, requested int64) error) error {
	return t.scan(place, func(f *segment.Tables) error { return f.Redirected(ctx, fn) })
}

// ScanPostings reads the lists of a sealed segment, by its place among Segments, that touch ids from from, and below to: in
// the order of their endpoints and parts, those of the endpoints in remotes, which are ascending, or nil: of all. The list
// is good until fn returns.
func (t *Tape) ScanPostings(ctx context.Context, place int, remotes []int64, from, to int64, fn func(remote int64, list []byte) error) error {
	if from >= to {
		return nil
	}
	return t.scan(place, func(f *segment.Tables) error { return f.Postings(ctx, remotes, from, to, fn) })
}
