package segment

import (
	"bytes"
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

// addressIndex is the unique index of endpoints: address, port, family, raw, requested, peer, names, name_source.
const addressIndex = "sqlite_autoindex_endpoint_1"

// requestedIndex is the index over requested of the endpoints that connects to others were sent to.
const requestedIndex = "endpoint_requested"

// Tables reads tables of a segment.
type Tables struct {
	*sqlitefile.Trees
	Roots map[string]uint32 // first pages of tables and indexes
}

// OpenTables is tablesOf the file at path.
func OpenTables(path string) (*Tables, error) {
	file, err := tapedir.OpenForCopy(path)
	if err != nil {
		return nil, err
	}
	return tablesOf(file)
}

// errChanged means that a segment is to be opened with SQLite, which tells more.
var errChanged = errors.New("the file is another one")

// OpenTold opens the tables of the file that was described, where the manifest tells that they begin.
func (seg *Segment) OpenTold(roots map[string]uint32) (*Tables, error) {
	file, err := tapedir.OpenForCopy(seg.File)
	if err != nil {
		return nil, err
	}
	is, err := file.Stat()
	if err == nil && !seg.isFile(file, is) {
		err = errChanged
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	tables, err := tablesOf(file)
	if err == nil {
		tables.Roots = roots
	}
	return tables, err
}

// tablesOf reads the tables of a segment; SQLite need not have it open. It owns the file, also if it returns an error.
func tablesOf(file *os.File) (*Tables, error) {
	trees, err := sqlitefile.OpenTrees(file)
	if err != nil {
		return nil, failure.Classify(err)
	}
	if !trees.HasSums() && isClosed(trees.Info()) {
		trees.Close()
		return nil, fmt.Errorf("%w: it is sealed, and %w", failure.ErrDamaged, sqlitefile.ErrNoSums)
	}
	return &Tables{trees, nil}, nil
}

// Find reads the first pages of tables and indexes through a connection to the segment.
func (t *Tables) Find(conn *sqlite.Conn) error {
	var err error
	t.Roots, err = readRoots(conn)
	return err
}

// Wanted selects connections by the ids of tasks and endpoints; nil: all.
type Wanted struct{ Tasks, Remotes []bool }

// Connections reads the connections with from <= id < to of the table with first page root.
func (t *Tables) Connections(ctx context.Context, root uint32, from, to int64, wanted Wanted, fn func(id, task, remote, shape int64) error) error {
	next := from // least id allowed next
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
			case ok && next <= id && id < to: // nearly all
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

// Outcomes is ReadOutcomes.
func (t *Tables) Outcomes(ctx context.Context, ids []int64, fn func(id int64, outcome []byte)) error {
	later, err := t.endings(ctx, ids)
	if err != nil {
		return err
	}
	return t.RowsOf(ctx, t.Roots["connection"], ids, func(id int64, row []byte) error {
		outcome, ok := later[id]
		if !ok {
			r := sqlitefile.ReadRecord(row)
			r.Null()
			for range 6 { // task to cookie
				r.Skip()
			}
			if outcome = r.BlobOrNull(); !r.OK() {
				return fmt.Errorf("%w: connection %d", failure.ErrDamaged, id)
			}
		}
		if outcome != nil {
			fn(id, outcome)
		}
		return nil
	})
}

// endings reads the latest outcomes of connections of this segment that were told after their rows were written.
func (t *Tables) endings(ctx context.Context, ids []int64) (map[int64][]byte, error) {
	var later map[int64][]byte
	next := ids // those not looked up yet
	err := t.Search(ctx, t.Roots["ending"], sqlitefile.Search{
		Before: func(row []byte) bool {
			r := sqlitefile.ReadRecord(row)
			id := r.Int()
			return r.OK() && len(next) > 0 && id < next[0]
		},
		Row: func(row []byte) (done bool, err error) {
			r := sqlitefile.ReadRecord(row)
			id, cookie, _, _, outcome := r.Int(), r.Int(), r.Int(), r.Int(), r.Blob()
			if !r.OK() {
				return false, fmt.Errorf("%w: an ending of connection %d", failure.ErrDamaged, id)
			}
			for len(next) > 0 && next[0] < id {
				next = next[1:]
			}
			if len(next) == 0 || next[0] != id || cookie != 0 {
				return len(next) == 0, nil
			}
			if later == nil {
				later = make(map[int64][]byte)
			}
			later[id] = bytes.Clone(outcome) // by batch: the last one counts
			return false, nil
		},
	})
	return later, err
}

// Endpoints is ScanEndpoints.
func (t *Tables) Endpoints(ctx context.Context, fn func(id, family int64, address []byte, port int64) error) error {
	return t.Rows(ctx, t.Roots["endpoint"], -1<<63, 1<<63-1, func(id int64, row []byte) error {
		r := sqlitefile.ReadRecord(row)
		r.Null()
		family, address, port := r.Int(), r.Text(), r.Int()
		if !r.OK() {
			return fmt.Errorf("%w: endpoint %d", failure.ErrDamaged, id)
		}
		return fn(id, family, address, port)
	})
}

// TextRange is the range of texts From to To, compared bytewise, both included.
type TextRange struct{ From, To string }

// Addresses is FindEndpoints of one range.
func (t *Tables) Addresses(ctx context.Context, within TextRange, fn func(id, family int64, address []byte, port int64) error) error {
	return t.Search(ctx, t.Roots[addressIndex], sqlitefile.Search{
		Before: func(row []byte) bool {
			r := sqlitefile.ReadRecord(row)
			address := r.Text()
			return r.OK() && string(address) < within.From
		},
		Row: func(row []byte) (done bool, err error) {
			r := sqlitefile.ReadRecord(row)
			address, port, family, _, _, _, _, _, id := r.Text(), r.Int(), r.Int(), r.Blob(), r.Int(), r.Int(), r.Text(), r.Text(), r.Int()
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

// Redirected is ScanRedirected.
func (t *Tables) Redirected(ctx context.Context, fn func(id, requested int64) error) error {
	return t.Search(ctx, t.Roots[requestedIndex], sqlitefile.Search{
		Before: func([]byte) bool { return false },
		Row: func(row []byte) (done bool, err error) {
			r := sqlitefile.ReadRecord(row)
			requested, id := r.Int(), r.Int()
			if !r.OK() {
				return false, fmt.Errorf("%w: a row of the index over requested addresses", failure.ErrDamaged)
			}
			return false, fn(id, requested)
		},
	})
}

// Postings is ScanPostings.
func (t *Tables) Postings(ctx context.Context, remotes []int64, from, to int64, fn func(remote int64, list []byte) error) error {
	all, begun := remotes == nil, false
	var before [2]int64 // endpoint and part
	return t.Search(ctx, t.Roots["posting"], sqlitefile.Search{
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

// readRoots returns the first page of each table and index.
func readRoots(conn *sqlite.Conn) (map[string]uint32, error) {
	roots := map[string]uint32{}
	err := Exec(conn, func(q *sqlite.Stmt) error { roots[q.ColumnText(0)] = uint32(q.ColumnInt64(1)); return nil },
		`SELECT name, rootpage FROM sqlite_schema WHERE rootpage > 0`)
	return roots, err
}
