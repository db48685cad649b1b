package table

import (
	"cmp"
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/input"
	"zombiezen.com/go/sqlite"
)

// An export reads columns of every connection, but most of its cells belong to a task, an endpoint or a shape, which are
// few. So only connections are read, in advance of writing, and those cells are kept, formatted for the answer. The
// cells are not computed here: the view returns them for the first connection with the task, endpoint or shape.

// origin is the table row that determines a cell.
type origin int

const (
	ofRow origin = iota // of the connection itself
	ofTask
	ofRemote
	ofShape
	ofLocal
	ofOutcome // of shape, kind of endpoint and era
	ofSegment
	ofSource // of the outcome's source; no column depends on it alone
	origins
)

// originOf returns the origin of a column of the view, false for an unknown column.
func originOf(column string) (origin, bool) {
	for o, columns := range [origins]string{
		ofRow: "id time time_ns last_time count fd cookie " + outcomeColumns,
		ofTask: "pid tid ppid comm exe cmdline cwd uid user gid euid loginuid session_id container cgroup netns process_id parent_id ancestry " +
			"exe_sha256 exe_sha1 exe_md5 hash_source script_sha256 script_sha1 script_md5 script_hash_source",
		ofRemote:  "family remote_address remote_port remote_ip remote_raw requested_address requested_port remote peer_pid peer_exe peer_unit remote_name name_source",
		ofShape:   "type protocol via address_source hook_errno errno backend socket_family addrlen outcome_errno failed",
		ofLocal:   "local_address",
		ofOutcome: "outcome probe",
		ofSegment: "segment",
	} {
		if slices.Contains(strings.Fields(columns), column) {
			return origin(o), true
		}
	}
	return 0, false
}

// kept are the cells of one task, endpoint or shape.
type kept struct {
	values   []format.Value // by columns of the origin, until texts are made
	texts    [][]byte       // by runs of the origin
	kind     int            // of an endpoint: number of its kind, see kindSQL
	outcomes [][3]*kept     // of a shape: by kind and era
	given    []sqlite.Value
}

// run is consecutive columns with the same origin.
type run struct {
	origin               origin
	first, count         int // columns of the answer
	firstValue, textOfIt int // places in kept
}

// stream answers a question for columns of all connections.
type stream struct {
	columns  []string
	order    timeOrder
	limits   Limits
	byOrigin [origins][]int
	runs     []run
	Segments []*StreamSegment // in the order of beginning
}

// timeOrder is the order of a stream's rows.
type timeOrder int

const (
	bySegment timeOrder = iota // one segment after the other
	OldestFirst
	newestFirst
	byCount // the highest count first
)

// NewStream returns the stream for SELECT columns FROM connections, nil if SQLite must answer it.
func NewStream(tape *Tape, columns []string, order timeOrder) *stream {
	s := &stream{columns: columns, order: order, limits: tape.Limits}
	runs := [origins]int{}
	for i, name := range columns {
		o, known := originOf(name)
		if !known || slices.Contains(columns[:i], name) {
			return nil
		}
		if last := len(s.runs) - 1; o != ofRow && last >= 0 && s.runs[last].origin == o {
			s.runs[last].count++
		} else {
			s.runs = append(s.runs, run{o, i, 1, len(s.byOrigin[o]), runs[o]})
			runs[o]++
		}
		s.byOrigin[o] = append(s.byOrigin[o], i)
	}
	w := windowOf(tape)
	from, to := w.Bounds()
	for _, segment := range inWindow(tape.Sources(), w) {
		s.Segments = append(s.Segments, &StreamSegment{stream: s, Source: segment.Source, from: from, to: to, kinds: make(map[string]int)})
	}
	switch order {
	case OldestFirst:
		slices.SortStableFunc(s.Segments, func(a, b *StreamSegment) int { return cmp.Compare(a.Source.span.First, b.Source.span.First) })
	case newestFirst:
		slices.SortStableFunc(s.Segments, func(a, b *StreamSegment) int { return cmp.Compare(b.Source.span.Last, a.Source.span.Last) })
	}
	return s
}

// columnsOf returns the columns of an origin.
func (s *stream) columnsOf(o origin) []string {
	var columns []string
	for _, i := range s.byOrigin[o] {
		columns = append(columns, s.columns[i])
	}
	return columns
}

// windowOf returns the window pushed down to a tape's views.
func windowOf(tape *Tape) input.Window {
	since, until := tape.Bounds()
	return input.Window{Since: since, Until: until}
}

// streamRow is a connection: its own cells and the kept ones.
type streamRow struct {
	id, count, last int64
	wall, lastWall  int64
	fd, cookie      format.Nullable
	fate            fate
	source          format.Value // column outcome_source
	from            [origins]*kept
	whole           []format.Value // the whole row from the view, if the fast way cannot read it
}

// streamAhead is the number of chunks read ahead.
const streamAhead = 3

// Run writes the answer.
func (s *stream) Run(ctx context.Context, r ask.Request, out format.RowWriter) (ask.Result, error) {
	ctx, cancel := ask.WithTimeLimit(ctx, r.Timeout)
	defer cancel()
	if cells := format.CellsOf(out); cells != nil {
		out = cells
	}
	reading, stop := context.WithCancel(ctx)
	defer stop()
	full, free := make(chan []streamRow), make(chan []streamRow, streamAhead)
	for range streamAhead {
		free <- make([]streamRow, 0, s.limits.Chunk)
	}
	var more bool
	var readErr error
	go func() {
		defer close(full)
		more, readErr = s.read(reading, r.Limit, func(rows []streamRow) []streamRow {
			full <- rows
			return (<-free)[:0]
		}, <-free)
	}()
	var result ask.Result
	writer := newStreamWriter(s, out)
	var writeErr error
	for rows := range full {
		if writeErr == nil {
			if writeErr = writer.write(rows); writeErr != nil {
				stop()
			}
			result.Rows += int64(len(rows))
		}
		free <- rows
	}
	if writeErr != nil {
		return result, writeErr
	}
	if readErr == nil || errors.Is(context.Cause(ctx), ask.ErrTimeLimit) {
		if err := writer.begin(); err != nil {
			return result, err
		}
	}
	if readErr != nil {
		return ask.Stopped(ctx, r, result, out, s.columns, readErr)
	}
	if more {
		result.Cut = ask.RowLimitText(r.Limit)
	}
	return result, out.End(result.Cut)
}

// read reads the connections and passes them on. more: there are some beyond the limit.
func (s *stream) read(ctx context.Context, limit int64, hand func([]streamRow) []streamRow, rows []streamRow) (more bool, err error) {
	m := &merger{left: s.Segments}
	defer m.close()
	for n := int64(0); ; n++ {
		segment, err := m.next(s.order)
		if err != nil {
			return false, err
		}
		if segment == nil || limit > 0 && n == limit {
			if len(rows) > 0 {
				hand(rows)
			}
			return segment != nil, nil
		}
		if n%256 == 0 && ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		rows = append(rows, segment.row)
		if len(rows) == cap(rows) {
			rows = hand(rows)
		}
	}
}

// merger merges the rows of segments in order. It begins a segment only when its rows may come next.
type merger struct {
	open []*StreamSegment // begun, each at a row
	left []*StreamSegment // not begun, in order
	at   *StreamSegment   // with the last row
}

// next returns the segment with the next row, nil if there is none.
func (m *merger) next(order timeOrder) (*StreamSegment, error) {
	if m.at != nil {
		if err := m.step(m.at); err != nil {
			return nil, err
		}
	}
	for {
		m.at = nil
		for _, segment := range m.open {
			if m.at == nil || order.before(segment.row.id, m.at.row.id) || segment.row.id == m.at.row.id && segment.Source.Index < m.at.Source.Index {
				m.at = segment
			}
		}
		if len(m.left) == 0 || m.at != nil && (order == bySegment || order.before(m.at.row.id, m.left[0].foremost(order))) {
			return m.at, nil
		}
		segment := m.left[0]
		m.left = m.left[1:]
		m.open = append(m.open, segment)
		if err := m.step(segment); err != nil {
			return nil, err
		}
	}
}

// step goes to a segment's next row, and drops the segment at its end.
func (m *merger) step(segment *StreamSegment) error {
	err := segment.next()
	if segment.ended {
		m.open = slices.DeleteFunc(m.open, func(s *StreamSegment) bool { return s == segment })
	}
	return err
}

// close releases all segments.
func (m *merger) close() {
	for _, segment := range m.open {
		segment.finish()
	}
	*m = merger{}
}

// before reports whether one time comes before another.
func (o timeOrder) before(a, b int64) bool {
	if o == newestFirst {
		return a > b
	}
	return a < b
}

// foremost returns a bound: no row of the segment comes before it.
func (s *StreamSegment) foremost(order timeOrder) int64 {
	if order == newestFirst {
		return min(s.Source.span.Last, s.to)
	}
	return max(s.Source.span.First, s.from)
}

// plainSelect matches SQL that a stream can answer.
var plainSelect = regexp.MustCompile(`(?i)^select\s+([a-z_0-9]+(?:\s*,\s*[a-z_0-9]+)*|\*)\s+from\s+connections(\s+order\s+by\s+time_ns)?\s*;?\s*$`)

// streamOf returns the stream for such SQL, else nil.
func streamOf(tape *Tape, r ask.Request) *stream {
	m := plainSelect.FindStringSubmatch(strings.TrimSpace(r.SQL))
	if m == nil || len(r.Params) > 0 {
		return nil
	}
	columns := strings.FieldsFunc(m[1], func(r rune) bool { return unicode.IsSpace(r) || r == ',' })
	if m[1] == "*" {
		columns = NewKnownView().Columns
	}
	order := bySegment
	if m[2] != "" {
		order = OldestFirst
	}
	return NewStream(tape, columns, order)
}
