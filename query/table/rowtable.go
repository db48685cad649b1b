package table

import (
	"context"
	"slices"
	"strings"

	"github.com/conntape/conntape/query/format"
	"zombiezen.com/go/sqlite"
)

// RowTable is a virtual table over rows in memory. SQL that uses a view repeatedly spends most of its time preparing it,
// each time over all segments; a few rows in memory avoid that.
type RowTable struct {
	nothingHeld
	Rows [][]sqlite.Value
}

// NewRowTable attaches rows as a table with this name.
func NewRowTable(conn *sqlite.Conn, name string, columns []string, rows [][]sqlite.Value) error {
	return readable(conn, name, "CREATE TABLE "+name+" ("+strings.Join(columns, ", ")+")", &RowTable{Rows: rows})
}

// RowsOf reads rows of each segment, oldest first, by SQL over its views; "": none.
func RowsOf(ctx context.Context, sources []Source, sql func(*Source) string) ([][]sqlite.Value, error) {
	parts := make([][][]sqlite.Value, len(sources))
	asks := make([]string, len(sources))
	var asked []Source // of thousands often few
	for i := range sources {
		if asks[sources[i].Index] = sql(&sources[i]); asks[sources[i].Index] != "" {
			asked = append(asked, sources[i])
		}
	}
	err := inParallel(ctx, describable(asked), func(ctx context.Context, _ int, s *SegmentSource) error {
		return s.each(ctx, asks[s.Index], func(row []format.Value) {
			cells := make([]sqlite.Value, len(row))
			for i, v := range row {
				cells[i] = forSQLite(keep(v))
			}
			parts[s.Index] = append(parts[s.Index], cells)
		})
	})
	return slices.Concat(parts...), err
}

// BestIndex has no index.
func (t *RowTable) BestIndex(in *sqlite.IndexInputs) (*sqlite.IndexOutputs, error) {
	return &sqlite.IndexOutputs{ConstraintUsage: make([]sqlite.IndexConstraintUsage, len(in.Constraints)), EstimatedCost: float64(len(t.Rows)), EstimatedRows: int64(len(t.Rows))}, nil
}

// Open opens a cursor.
func (t *RowTable) Open() (sqlite.VTableCursor, error) { return &rowCursor{table: t}, nil }

// rowCursor walks the rows.
type rowCursor struct {
	table *RowTable
	at    int
}

// Filter begins anew.
func (c *rowCursor) Filter(sqlite.IndexID, []sqlite.Value) error { c.at = 0; return nil }

// Next goes to the next row.
func (c *rowCursor) Next() error { c.at++; return nil }

// EOF reports whether there is no row any more.
func (c *rowCursor) EOF() bool { return c.at >= len(c.table.Rows) }

// Column returns a cell.
func (c *rowCursor) Column(i int, _ bool) (sqlite.Value, error) {
	if i == len(c.table.Rows[c.at]) {
		return sqlite.IntegerValue(int64(c.at)), nil // the key of a table like a view
	}
	return c.table.Rows[c.at][i], nil
}

// RowID returns the number of the row.
func (c *rowCursor) RowID() (int64, error) { return int64(c.at), nil }

// Close has nothing to release.
func (c *rowCursor) Close() error { return nil }
