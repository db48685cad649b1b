package query

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"zombiezen.com/go/sqlite"
)

// What is in a cell of the view connections is not worked out here: it is what the view
// says of a task, an endpoint or a shape.

// knownView is the view connections, when it is of the form that is known.
type knownView struct {
	columns, types []string
	parts          map[string]string            // by segment: the SELECT
	says           map[string]map[string]string // by segment and column: the expression
}

// newKnownView takes the view apart, nil: it is of another form.
func newKnownView(ctx context.Context, conn *sqlite.Conn) *knownView {
	v := &knownView{parts: viewParts(ctx, conn), says: make(map[string]map[string]string)}
	if len(v.parts) == 0 {
		return nil
	}
	err := each(ctx, conn, `SELECT name, type FROM pragma_table_info('connections')`, func(row []Value) {
		v.columns, v.types = append(v.columns, string(row[0].Bytes)), append(v.types, string(row[1].Bytes))
	})
	if err != nil || len(v.columns) == 0 || len(v.columns) > 63 {
		return nil
	}
	for segment, part := range v.parts {
		v.says[segment] = make(map[string]string)
		part = strings.TrimPrefix(part, "SELECT * FROM (\n")
		selected, _, found := strings.Cut(part, "\nFROM "+segment+".connection c\n")
		rest, begins := strings.CutPrefix(selected+",\n", "SELECT\n")
		if !found || !begins {
			return nil
		}
		for _, name := range v.columns {
			if _, known := originOf(name); !known {
				return nil
			}
			if v.says[segment][name], rest, found = strings.Cut(rest, " AS "+name+",\n"); !found {
				return nil
			}
		}
	}
	return v
}

// declare returns the declaration of a virtual table with the columns of the view.
func (v *knownView) declare(name string) string {
	var columns []string
	for i, column := range v.columns {
		columns = append(columns, column+" "+v.types[i])
	}
	return "CREATE TABLE " + name + " (" + strings.Join(columns, ", ") + ")"
}

// cells reads columns of the view for tasks, endpoints or shapes of these ids; shapes as they
// are towards an endpoint. A row is valid until the next.
func (v *knownView) cells(ctx context.Context, s *segmentSource, of origin, ids []int64, towards int64, columns []string, take func(id int64, cells []Value)) error {
	if len(ids) == 0 {
		return nil
	}
	var id, from string
	switch of {
	case ofTask:
		id, from = "t.id", fmt.Sprintf("%[1]s.task t JOIN %[1]s.process p ON p.id = t.process", s.Schema)
	case ofRemote:
		id, from = "e.id", s.Schema+".endpoint e"
	case ofOutcome:
		id, from = "s.id", fmt.Sprintf("%[1]s.shape s JOIN %[1]s.endpoint e ON e.id = %[2]d", s.Schema, towards)
	}
	says := []string{id}
	for _, column := range columns {
		says = append(says, v.says[s.Schema][column])
	}
	sql := "SELECT " + strings.Join(says, ",\n") + "\nFROM " + from
	if len(ids) <= mostListed {
		sql += " WHERE " + id + " IN (" + joinInts(ids) + ")"
	}
	slices.Sort(ids)
	row := newRowReader(1 + len(columns))
	return scan(ctx, s.Conn, sql, func(stmt *sqlite.Stmt) {
		values := row.read(stmt)
		if _, asked := slices.BinarySearch(ids, values[0].Int); asked {
			take(values[0].Int, values[1:])
		}
	})
}

// mostListed is how many rows of a table are looked up one by one. Beyond that all are read.
const mostListed = 4000

// endpoints reads those of these ids, and maybe others. The address is good until fn
// returns.
func (s *segmentSource) endpoints(ctx context.Context, ids []int64, fn func(id, family int64, address []byte, port int64)) error {
	if len(ids) > mostListed {
		return s.tape.ScanEndpoints(ctx, s.index, func(id, family int64, address []byte, port int64) error {
			fn(id, family, address, port)
			return nil
		})
	}
	return scan(ctx, s.Conn, `SELECT id, family, port, address FROM `+s.Schema+`.endpoint WHERE id IN (`+joinInts(ids)+`)`, func(row *sqlite.Stmt) {
		fn(row.ColumnInt64(0), row.ColumnInt64(1), []byte(row.ColumnText(3)), row.ColumnInt64(2))
	})
}
