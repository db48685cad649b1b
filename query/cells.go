package query

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"zombiezen.com/go/sqlite"
)

// What is in a cell of the view connections is not worked out here: the view is asked,
// with a task, an endpoint or a shape in the place of a connection.

// knownView is the view connections, when it is of the form that is known.
type knownView struct {
	columns, types []string
	selects        map[string]string // by segment: what stands before FROM
}

// newKnownView takes the view apart, nil: it is of another form.
func newKnownView(ctx context.Context, conn *sqlite.Conn) *knownView {
	v := &knownView{selects: make(map[string]string)}
	for segment, part := range viewParts(ctx, conn) {
		part = strings.TrimPrefix(part, "SELECT * FROM (\n")
		v.selects[segment], _, _ = strings.Cut(part, "\nFROM "+segment+".connection c\n")
	}
	err := each(ctx, conn, `SELECT name, type FROM pragma_table_info('connections')`, func(row []Value) {
		v.columns, v.types = append(v.columns, string(row[0].Bytes)), append(v.types, string(row[1].Bytes))
	})
	if err != nil || len(v.selects) == 0 || len(v.columns) > 63 {
		return nil
	}
	for _, name := range v.columns {
		if _, known := originOf(name); !known {
			return nil
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

// placed is what stands in the place of a connection. LEFT JOIN ON N.id = NULL gives NULL for all
// columns of a table.
var placed = map[origin]string{
	ofTask: `task) c
JOIN %[1]s.task t ON t.id = c.id JOIN %[1]s.process p ON p.id = t.process
LEFT JOIN %[1]s.endpoint e ON e.id = NULL LEFT JOIN %[1]s.shape s ON s.id = NULL`,
	ofRemote: `endpoint) c
JOIN %[1]s.endpoint e ON e.id = c.id
LEFT JOIN %[1]s.task t ON t.id = NULL LEFT JOIN %[1]s.process p ON p.id = NULL LEFT JOIN %[1]s.shape s ON s.id = NULL`,
	ofOutcome: `shape) c
JOIN %[1]s.shape s ON s.id = c.id JOIN %[1]s.endpoint e ON e.id = %[2]d
LEFT JOIN %[1]s.task t ON t.id = NULL LEFT JOIN %[1]s.process p ON p.id = NULL`,
}

// cells reads columns of the view for tasks or endpoints of these ids, or for all shapes
// as they are towards an endpoint of that id. A row is valid until the next.
func (v *knownView) cells(ctx context.Context, s *segmentSource, of origin, ids []int64, columns []string, take func(id int64, cells []Value)) error {
	if len(ids) == 0 {
		return nil
	}
	from := `
FROM (SELECT id, NULL AS fd, NULL AS cookie FROM %[1]s.` + placed[of] + `
LEFT JOIN %[1]s.endpoint l ON l.id = NULL LEFT JOIN %[1]s.repeat r ON r.id = NULL`
	if of == ofOutcome {
		from = fmt.Sprintf(from, s.Schema, ids[0])
	} else {
		from = fmt.Sprintf(from, s.Schema)
		if len(ids) <= mostListed {
			from += ` WHERE c.id IN (` + joinInts(ids) + `)`
		}
		slices.Sort(ids)
	}
	row := newRowReader(1 + len(columns))
	return scan(ctx, s.Conn, `SELECT `+strings.Join(append([]string{"id"}, columns...), ", ")+` FROM (`+v.selects[s.Schema]+from+`)`, func(stmt *sqlite.Stmt) {
		values := row.read(stmt)
		id := values[0].Int
		if _, asked := slices.BinarySearch(ids, id); asked || of == ofOutcome {
			take(id, values[1:])
		}
	})
}

// mostPlaced is how many endpoints are looked up one by one before all are read.
const mostPlaced = 3000

// endpoints reads those of these ids, and maybe others. The address is good until fn
// returns.
func (s *segmentSource) endpoints(ctx context.Context, ids []int64, fn func(id, family int64, address []byte, port int64)) error {
	if len(ids) > mostPlaced {
		return s.tape.ScanEndpoints(ctx, s.index, func(id, family int64, address []byte, port int64) error {
			fn(id, family, address, port)
			return nil
		})
	}
	return scan(ctx, s.Conn, `SELECT id, family, port, address FROM `+s.Schema+`.endpoint WHERE id IN (`+joinInts(ids)+`)`, func(row *sqlite.Stmt) {
		fn(row.ColumnInt64(0), row.ColumnInt64(1), []byte(row.ColumnText(3)), row.ColumnInt64(2))
	})
}
