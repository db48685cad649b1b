package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/sqlitefile"
	"github.com/conntape/conntape/store/tapedir"
)

// A segment that is not sealed has no postings, and who counts over it reads every connection; whoever counts over any
// segment reads its endpoints, and whoever looks for an address the index over the addresses of every segment of a window.
// So these are read by package sqlitefile, in a tenth to a hundredth of the time that SQLite takes. They are those of a file
// that nobody writes: a private copy, or a segment that is closed. SQLite has it open without locks, so that this descriptor
// can drop none.

// addressIndex is the index that keeps endpoints unique: over address, port, family, raw.
const addressIndex = "sqlite_autoindex_endpoint_1"

// tableFile reads tables of a segment.
type tableFile struct {
	*sqlitefile.Trees
	roots map[string]uint32 // first pages of tables and indexes
}

// openTables opens a segment, which SQLite need not have open yet.
func openTables(path string) (*tableFile, error) {
	file, err := tapedir.OpenForCopy(path)
	if err != nil {
		return nil, err
	}
	trees, err := sqlitefile.OpenTrees(file)
	if err != nil {
		return nil, failure.Classify(err)
	}
	if !trees.HasSums() && trees.Info().Mode().Perm()&0o222 == 0 {
		trees.Close()
		return nil, fmt.Errorf("%w: it is sealed, and %w", failure.ErrDamaged, sqlitefile.ErrNoSums)
	}
	return &tableFile{trees, nil}, nil
}

// find finds the tables and indexes of the segment, which the connection is to.
func (t *tableFile) find(conn *sqlite.Conn) error {
	var err error
	t.roots, err = readRoots(conn)
	return err
}

// readRoots returns the first page of each table and index.
func readRoots(conn *sqlite.Conn) (map[string]uint32, error) {
	roots := map[string]uint32{}
	err := execOn(conn, func(q *sqlite.Stmt) error { roots[q.ColumnText(0)] = uint32(q.ColumnInt64(1)); return nil },
		`SELECT name, rootpage FROM sqlite_schema WHERE rootpage > 0`)
	return roots, err
}

// isAt reports whether the file is the one that a path leads to: a segment that is sealed is another file then.
func (t *tableFile) isAt(path string) bool {
	there, err := os.Stat(path)
	return err == nil && os.SameFile(t.Info(), there)
}

// tablesOf returns the tables of a segment. It is not opened with SQLite if the manifest tells where they begin.
func (t *Tape) tablesOf(segment int) (*tableFile, func(), error) {
	seg := t.segs[segment]
	if roots := seg.tableRoots(); roots != nil {
		tables, err := openTables(seg.file)
		if err == nil && os.SameFile(tables.Info(), seg.stat) {
			tables.roots = roots
			return tables, func() { tables.Close() }, nil
		}
		if err == nil {
			tables.Close()
		}
	}
	r, release, err := t.borrow(segment) // which also says what is wrong
	if err != nil {
		return nil, nil, err
	}
	return r.tables, release, nil
}

// scan has fn read tables of a segment, by its place among Segments.
func (t *Tape) scan(segment int, fn func(*tableFile) error) error {
	seg := t.segs[segment]
	tables, release, err := t.tablesOf(segment)
	if err != nil {
		return err
	}
	defer release()
	if err := failure.Classify(fn(tables)); err != nil {
		if other := (*failure.Error)(nil); errors.Is(err, failure.ErrDamaged) && !errors.As(err, &other) { // else fn read another segment
			seg.watch.Found(seg.file, err)
		}
		return &failure.Error{Op: "read segment", Path: seg.info.Path, Err: err, Hint: failure.HintFor(err)}
	}
	return nil
}

// Wanted says by their ids which tasks and endpoints connections are wanted of; nil: of any.
type Wanted struct{ Tasks, Remotes []bool }

// ScanConnections reads the connections of a segment, by its place among Segments, whose id is not below from and below
// to, in the order of their ids: those that are wanted, and maybe others. It ends with the first error of fn, which is
// given the ids of the row and of what it refers to.
func (t *Tape) ScanConnections(ctx context.Context, segment int, from, to int64, wanted Wanted, fn func(id, task, remote, shape int64) error) error {
	return t.scan(segment, func(f *tableFile) error {
		return f.connections(ctx, f.roots["connection"], from, to, wanted, fn)
	})
}

// connections is ScanConnections of the table whose first page is root.
func (t *tableFile) connections(ctx context.Context, root uint32, from, to int64, wanted Wanted, fn func(id, task, remote, shape int64) error) error {
	next := from // the least id that the next row may have
	return t.Leaves(ctx, root, from, to, func(l *sqlitefile.Leaf) error {
		page := l.Page
		for i := range l.Len() {
			id, task, remote, shape, isWanted, ok := connectionAt(page, l.Offset(i), &wanted)
			if ok && !isWanted {
				continue
			}
			if !ok {
				var row []byte
				var err error
				if id, row, err = l.Row(i); err != nil {
					return err
				}
				task, remote, shape, ok = references(row)
			}
			switch {
			case ok && next <= id && id < to: // as nearly all
			case id < from:
				continue
			case id >= to:
				return nil
			case id < next:
				return l.Misplaced(i)
			default:
				return fmt.Errorf("%w: connection %d", failure.ErrDamaged, id)
			}
			next = id + 1
			if err := fn(id, task, remote, shape); err != nil {
				return err
			}
		}
		return nil
	})
}

// ScanEndpoints reads the endpoints of a segment, in the order of their ids. The address is good until fn returns.
func (t *Tape) ScanEndpoints(ctx context.Context, segment int, fn func(id, family int64, address []byte, port int64) error) error {
	return t.scan(segment, func(f *tableFile) error { return f.endpoints(ctx, fn) })
}

// endpoints is ScanEndpoints.
func (t *tableFile) endpoints(ctx context.Context, fn func(id, family int64, address []byte, port int64) error) error {
	return t.Rows(ctx, t.roots["endpoint"], -1<<63, 1<<63-1, func(id int64, row []byte) error {
		r := sqlitefile.ReadRecord(row)
		r.Null()
		family, address, port := r.Int(), r.Text(), r.Int()
		if !r.OK() {
			return fmt.Errorf("%w: endpoint %d", failure.ErrDamaged, id)
		}
		return fn(id, family, address, port)
	})
}

// TextRange is the texts from one to another, byte by byte, both included.
type TextRange struct{ From, To string }

// FindEndpoints reads the endpoints of a segment, by its place among Segments, whose address lies in one of some ranges. It
// ends with the first error of fn. The address is good until fn returns.
func (t *Tape) FindEndpoints(ctx context.Context, segment int, ranges []TextRange, fn func(id, family int64, address []byte, port int64) error) error {
	return t.scan(segment, func(f *tableFile) error {
		for _, r := range ranges {
			if err := f.addresses(ctx, r, fn); err != nil {
				return err
			}
		}
		return nil
	})
}

// addresses is FindEndpoints of one range.
func (t *tableFile) addresses(ctx context.Context, within TextRange, fn func(id, family int64, address []byte, port int64) error) error {
	return t.Search(ctx, t.roots[addressIndex], sqlitefile.Search{
		Before: func(row []byte) bool {
			r := sqlitefile.ReadRecord(row)
			address := r.Text()
			return r.OK() && string(address) < within.From
		},
		Row: func(row []byte) (done bool, err error) {
			r := sqlitefile.ReadRecord(row)
			address, port, family, _, id := r.Text(), r.Int(), r.Int(), r.Blob(), r.Int()
			switch {
			case !r.OK():
				return false, fmt.Errorf("%w: a row of the index over addresses", failure.ErrDamaged)
			case string(address) < within.From:
				return false, nil
			case string(address) > within.To:
				return true, nil
			}
			return false, fn(id, family, address, port)
		},
	})
}

// ScanPostings reads the lists of a sealed segment, by its place among Segments, that touch ids from from, and below to: in
// the order of their endpoints and parts, those of the endpoints in remotes, which are ascending, or nil: of all. The list
// is good until fn returns.
func (t *Tape) ScanPostings(ctx context.Context, segment int, remotes []int64, from, to int64, fn func(remote int64, list []byte) error) error {
	if from >= to {
		return nil
	}
	return t.scan(segment, func(f *tableFile) error { return f.postings(ctx, remotes, from, to, fn) })
}

// postings is ScanPostings.
func (t *tableFile) postings(ctx context.Context, remotes []int64, from, to int64, fn func(remote int64, list []byte) error) error {
	all, begun := remotes == nil, false
	var before [2]int64 // endpoint and part
	return t.Search(ctx, t.roots["posting"], sqlitefile.Search{
		Before: func(row []byte) bool {
			r := sqlitefile.ReadRecord(row)
			remote := r.Int()
			return r.OK() && !all && (len(remotes) == 0 || remote < remotes[0])
		},
		Row: func(row []byte) (done bool, err error) {
			r := sqlitefile.ReadRecord(row)
			key := [2]int64{r.Int(), r.Int()}
			_, _, first, last, list := r.Int(), r.Int(), r.Int(), r.Int(), r.Blob()
			if !r.OK() || begun && slices.Compare(key[:], before[:]) <= 0 {
				return false, fmt.Errorf("%w: a posting of endpoint %d", failure.ErrDamaged, key[0])
			}
			begun, before = true, key
			if !all {
				for len(remotes) > 0 && remotes[0] < key[0] {
					remotes = remotes[1:]
				}
				if len(remotes) == 0 || remotes[0] != key[0] {
					return len(remotes) == 0, nil
				}
			}
			if first >= to || last < from {
				return false, nil
			}
			return false, fn(key[0], list)
		},
	})
}
