package table

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/store/segment"
)

// The cells of view connections are not computed here: the view computes them for a task, an endpoint or a shape.

// KnownView is the view connections.
type KnownView struct {
	Columns []string
	says    map[string]string // by column: the expression, over the tables of a segment as the view names them
}

// NewKnownView parses the view.
func NewKnownView() *KnownView {
	v := &KnownView{says: make(map[string]string)}
	for _, c := range segment.ViewColumns("connections") {
		v.Columns = append(v.Columns, c.Name)
		v.says[c.Name] = c.SQL
	}
	return v
}

// cells reads columns of the view for tasks, endpoints or shapes with these ids; for shapes, as of a connection like the
// given one. A row is valid until the next.
func (v *KnownView) cells(ctx context.Context, s *SegmentSource, of origin, ids []int64, like connectionLike, columns []string, take func(id int64, cells []format.Value)) error {
	if len(ids) == 0 {
		return nil
	}
	var id, from string
	switch of {
	case ofTask:
		id, from = "t.id", "task t JOIN process p ON p.id = t.process"
	case ofRemote:
		id, from = "e.id", "endpoint e"
	case ofOutcome:
		id, from = "s.id", fmt.Sprintf("shape s JOIN endpoint e ON e.id = %d JOIN %s", like.remote, oneConnection(like.id))
	}
	says := []string{id}
	for _, column := range columns {
		says = append(says, v.says[column])
	}
	sql := "SELECT " + s.Tape.Recording(s.Index).In(strings.Join(says, ",\n")) + "\nFROM " + from
	if len(ids) <= s.Tape.Limits.Listed {
		sql += " WHERE " + id + " IN (" + JoinInts(ids) + ")"
	}
	slices.Sort(ids)
	row := ask.NewRowReader(1 + len(columns))
	return s.scan(ctx, sql, func(stmt *sqlite.Stmt) {
		values := row.Read(stmt)
		if _, asked := slices.BinarySearch(ids, values[0].Int); asked {
			take(values[0].Int, values[1:])
		}
	})
}

// connectionLike is a connection with the same endpoint family and era as the connections in question.
type connectionLike struct{ remote, id int64 }

// endpoints reads the endpoints with these ids, and maybe others. The address is valid until fn returns.
func (s *SegmentSource) endpoints(ctx context.Context, ids []int64, fn func(id, family int64, address []byte, port int64)) error {
	if len(ids) > s.Tape.Limits.Listed {
		return s.Tape.ScanEndpoints(ctx, s.Index, func(id, family int64, address []byte, port int64) error {
			fn(id, family, address, port)
			return nil
		})
	}
	return s.scan(ctx, `SELECT id, family, port, address FROM endpoint WHERE id IN (`+JoinInts(ids)+`)`, func(row *sqlite.Stmt) {
		fn(row.ColumnInt64(0), row.ColumnInt64(1), []byte(row.ColumnText(3)), row.ColumnInt64(2))
	})
}

// redirected returns which endpoints connects were sent to that had asked for another, and for which.
func (s *Source) redirected(ctx context.Context) (map[int64]int64, error) {
	all := make(map[int64]int64)
	err := s.Tape.ScanRedirected(ctx, s.Index, func(id, requested int64) error {
		all[id] = requested
		return nil
	})
	return all, err
}

// AskedFor returns endpoints, and those that connects to them were sent to.
func (s *Source) AskedFor(ctx context.Context, remotes []int64) ([]int64, error) {
	if len(remotes) == 0 {
		return remotes, nil
	}
	requested, err := s.redirected(ctx)
	if len(requested) == 0 {
		return remotes, err
	}
	asked := make(map[int64]bool)
	for _, id := range remotes {
		asked[id] = true
	}
	for id, by := range requested {
		if asked[by] && !asked[id] {
			remotes = append(remotes, id)
		}
	}
	return remotes, nil
}
