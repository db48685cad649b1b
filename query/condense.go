package query

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/conntape/conntape/store/posting"
	"zombiezen.com/go/sqlite"
)

// A canned query that groups connections by what their tasks, endpoints and shapes tell,
// and asks of the rest only for the first time, the last time and the sum of count,
// answers the same of contacts: there are far fewer of them, and no row of connection is
// read. So it is asked over a view with a row for each contact; which ones it can be
// about is judged before.

// contactRow is a contact as the view has it.
type contactRow struct {
	task, remote, shape int64
	first, n            int64
	firstWall, lastWall int64
}

// contactRows are those of each segment, by the name under which it is attached.
type contactRows map[string][]contactRow

// selection is what a question can be about in one segment.
type selection struct {
	remotes, tasks []int64 // nil: any
	shapes         string  // condition on table shape, "": any
}

// condense returns the parts of the view with contacts for connections, nil where they
// are not of the form that is known.
func condense(parts map[string]string, module string) map[string]string {
	all := make(map[string]string, len(parts))
	for name, part := range parts {
		var ok [6]bool
		part, ok[0] = replaceOnce(part, "\nFROM "+name+".connection c\nJOIN ", "\nFROM "+module+"("+name[1:]+") c\nCROSS JOIN ")
		part, ok[1] = replaceOnce(part, "\n"+lastJoin(name), "")
		part, ok[2] = replaceOnce(part, "coalesce(r.count, 1) AS count", "c.count AS count")
		part, ok[3] = replaceColumn(part, "c.id AS id,\n", " AS time,\n", "c.time")
		part, ok[4] = replaceColumn(part, "c.id AS time_ns,\n", " AS last_time,\n", "c.last_time")
		ok[5] = !ofRepeat.MatchString(part)
		if ok != [6]bool{true, true, true, true, true, true} {
			return nil
		}
		all[name] = part
	}
	return all
}

// ofRepeat finds a column of table repeat.
var ofRepeat = regexp.MustCompile(`\br\.`)

// replaceOnce replaces a text that is there once.
func replaceOnce(s, before, after string) (string, bool) {
	return strings.Replace(s, before, after, 1), strings.Count(s, before) == 1
}

// replaceColumn replaces what is between two texts, the first of which is there once.
func replaceColumn(s, after, before, by string) (string, bool) {
	head, rest, found := strings.Cut(s, after)
	_, tail, ended := strings.Cut(rest, before)
	return head + after + "  " + by + before + tail, found && ended && !strings.Contains(tail, after)
}

// contactsOf reads what a question can be about; choose is asked of each segment, and
// returns nil for one that has nothing. own is the name of each segment, by its number.
func contactsOf(ctx context.Context, sources []Source, own map[int]string, w Window, choose func(context.Context, *segmentSource) (*selection, error)) (contactRows, error) {
	from, to := w.bounds()
	var segments []*segmentSource
	for _, source := range sources {
		segments = append(segments, &segmentSource{Source: source})
	}
	var listers collected[*contactLister]
	err := inParallel(ctx, segments, func(ctx context.Context, _ int, s *segmentSource) error {
		chosen, err := choose(ctx, s)
		if err != nil || chosen == nil {
			return err
		}
		if err := s.describe(ctx); err != nil {
			return err
		}
		return s.chosen(ctx, chosen, max(from, s.first), min(to, s.last+1), listers.add(&contactLister{number: s.Number}))
	})
	rows := make(contactRows)
	for _, l := range listers.list {
		rows[own[l.number]] = l.rows
	}
	return rows, err
}

// contactLister lists contacts.
type contactLister struct {
	number int // of the segment
	rows   []contactRow
}

func (l *contactLister) begin(*segmentSource, int64, int64) {}

func (l *contactLister) end(*segmentSource) error { return nil }

func (l *contactLister) take(s *segmentSource, c *contact) error {
	first, last := s.walls(c)
	l.rows = append(l.rows, contactRow{c.taskID, c.remoteID, c.shapeID, c.ids[0], c.n, first, last})
	return nil
}

// mostListed is how many endpoints are looked up one by one. Beyond that all postings
// are read.
const mostListed = 4000

// chosen reads the contacts of a selection.
func (s *segmentSource) chosen(ctx context.Context, sel *selection, from, to int64, reader contactReader) error {
	remotes := sel.remotes
	if remotes == nil && sel.tasks != nil && s.sealed {
		var err error
		if remotes, err = s.reached(ctx, sel.tasks); err != nil {
			return err
		}
	}
	shapes := `SELECT id FROM ` + s.Schema + `.shape`
	if sel.shapes != "" {
		shapes += ` WHERE ` + sel.shapes
	}
	for _, of := range []struct {
		numbers *numbering
		ids     []int64
		all     string
	}{{&s.tasks, sel.tasks, `SELECT id FROM ` + s.Schema + `.task`}, {&s.remotes, remotes, `SELECT id FROM ` + s.Schema + `.endpoint`}, {&s.shapes, nil, shapes}} {
		for _, id := range of.ids {
			of.numbers.add(id)
		}
		if of.ids == nil {
			if err := scan(ctx, s.Conn, of.all, func(row *sqlite.Stmt) { of.numbers.add(row.ColumnInt64(0)) }); err != nil {
				return err
			}
		}
	}
	if !s.sealed {
		spans, err := s.spans(ctx, sel, from, to)
		if err != nil {
			return err
		}
		return s.sorted(ctx, spans, reader)
	}
	where := ""
	if remotes != nil && len(remotes) <= mostListed {
		where = ` AND remote IN (` + joinInts(remotes) + `)`
	}
	return s.postings(ctx, where, from, to, func(remote int64, list func() []byte) error { return s.unpack(remote, list, from, to, reader) })
}

// reached returns the endpoints that tasks connected to.
func (s *segmentSource) reached(ctx context.Context, tasks []int64) ([]int64, error) {
	remotes := []int64{}
	var failed error
	err := scan(ctx, s.Conn, `SELECT remotes FROM `+s.Schema+`.reach WHERE task IN (`+joinInts(tasks)+`)`, func(row *sqlite.Stmt) {
		list := make([]byte, row.ColumnLen(0))
		row.ColumnBytes(0, list)
		for remote, err := range posting.IDs(list) {
			if err != nil {
				failed = fmt.Errorf("read reach of segment %d: %w", s.Number, err)
				return
			}
			remotes = append(remotes, remote)
		}
	})
	slices.Sort(remotes)
	return slices.Compact(remotes), errors.Join(err, failed)
}

// narrowing says which segments have any.
func (rows contactRows) narrowing() narrowing {
	n := make(narrowing)
	for name, list := range rows {
		if len(list) > 0 {
			n[name] = ""
		}
	}
	return n
}

// install makes contacts readable as a table-valued function of that name.
func (rows contactRows) install(conn *sqlite.Conn, name string) error {
	return conn.SetModule(name, &sqlite.Module{Connect: func(*sqlite.Conn, *sqlite.VTableConnectOptions) (sqlite.VTable, *sqlite.VTableConfig, error) {
		return &contactTable{rows}, &sqlite.VTableConfig{Declaration: contactColumns}, nil
	}})
}

// contactColumns are those of table connection, and what the view makes of them and of
// table repeat.
const contactColumns = `CREATE TABLE contact (id INTEGER, task INTEGER, remote INTEGER, shape INTEGER, local INTEGER, fd INTEGER, cookie INTEGER,
	count INTEGER, time TEXT, last_time TEXT, segment INTEGER HIDDEN)`

// segmentColumn is the argument of the function.
const segmentColumn = 10

// contactTable is a virtual table of contacts.
type contactTable struct{ rows contactRows }

// BestIndex wants to know the segment.
func (t *contactTable) BestIndex(in *sqlite.IndexInputs) (*sqlite.IndexOutputs, error) {
	out := &sqlite.IndexOutputs{ConstraintUsage: make([]sqlite.IndexConstraintUsage, len(in.Constraints)), EstimatedCost: 1e12}
	for i, c := range in.Constraints {
		if c.Column == segmentColumn && c.Op == sqlite.IndexConstraintEq && c.Usable {
			out.ConstraintUsage[i] = sqlite.IndexConstraintUsage{ArgvIndex: 1, Omit: true}
			out.EstimatedCost, out.EstimatedRows = 1000, 1000
			break
		}
	}
	return out, nil
}

// Open opens a cursor.
func (t *contactTable) Open() (sqlite.VTableCursor, error) { return &contactCursor{table: t}, nil }

// Disconnect has nothing to release.
func (t *contactTable) Disconnect() error { return nil }

// Destroy has nothing to remove.
func (t *contactTable) Destroy() error { return nil }

// contactCursor walks the contacts of a segment.
type contactCursor struct {
	table *contactTable
	rows  []contactRow
	at    int
}

// Filter begins with the segment.
func (c *contactCursor) Filter(_ sqlite.IndexID, args []sqlite.Value) error {
	c.rows, c.at = nil, 0
	if len(args) == 1 {
		c.rows = c.table.rows["s"+strconv.FormatInt(args[0].Int64(), 10)]
	}
	return nil
}

// Next goes to the next row.
func (c *contactCursor) Next() error { c.at++; return nil }

// EOF reports whether there is no row any more.
func (c *contactCursor) EOF() bool { return c.at >= len(c.rows) }

// RowID returns the number of the row.
func (c *contactCursor) RowID() (int64, error) { return int64(c.at), nil }

// Close has nothing to release.
func (c *contactCursor) Close() error { return nil }

// Column returns a column of [contactColumns].
func (c *contactCursor) Column(i int, _ bool) (sqlite.Value, error) {
	row := &c.rows[c.at]
	switch i {
	case 0:
		return sqlite.IntegerValue(row.first), nil
	case 1:
		return sqlite.IntegerValue(row.task), nil
	case 2:
		return sqlite.IntegerValue(row.remote), nil
	case 3:
		return sqlite.IntegerValue(row.shape), nil
	case 7:
		return sqlite.IntegerValue(row.n), nil
	case 8:
		return sqlite.TextValue(wallString(row.firstWall)), nil
	case 9:
		return sqlite.TextValue(wallString(row.lastWall)), nil
	}
	return sqlite.Value{}, nil // of a connection alone
}
