package table

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/store/segment"
)

// StreamSegment reads the connections of one segment, oldest first or newest first.
type StreamSegment struct {
	stream   *stream
	Source   Source
	conn     *sqlite.Conn                                // once begun
	from, to int64                                       // ids; to is not included
	prepare  func(*StreamSegment) (some bool, err error) // chooses the rows before reading; nil: all
	ids      []int64                                     // ids to read, in order; nil: the whole span
	listed   []repeat                                    // rows to read, in order, instead; nil: others
	single   bool                                        // leave out rows that do not stand for one connect
	wanted   func(task, remote, shape int64) bool        // nil: all
	wallText timeText
	row      streamRow
	begun    bool
	ended    bool

	release       func() // of conn
	clock         []clockRow
	clockAt       int // of the previous row
	rows, repeats *sqlite.Stmt
	repeat        streamRow // next row of several connects
	asked         [origins]*sqlite.Stmt
	kept          [origins]map[int64]*kept
	kinds         map[string]int
	sources       map[sourceKey]format.Value
	later         map[int64]store.Later // by connection: final outcome in later segments
	eras          eras
}

// sourceKey determines the source of an outcome.
type sourceKey struct {
	shape int64
	ended bool
	era   era
}

// unbound is the endpoint id of an unbound socket.
const unbound = -1 << 63

// next goes to the next connection in the view.
func (s *StreamSegment) next() error {
	if !s.begun {
		s.begun = true
		if some, err := s.begin(); err != nil || !some {
			s.finish()
			if errors.Is(err, segment.ErrGone) {
				err = nil
			}
			return err
		}
	}
	for {
		more, err := s.step()
		if err != nil || !more {
			s.finish()
			return err
		}
		if s.wanted != nil && !s.wanted(s.rows.ColumnInt64(1), s.rows.ColumnInt64(2), s.rows.ColumnInt64(3)) {
			continue
		}
		if inView, err := s.read(); err != nil || inView && !(s.single && s.row.count != 1) {
			return err
		}
	}
}

// step goes to the next row of the table.
func (s *StreamSegment) step() (bool, error) {
	if s.ids == nil && s.listed == nil {
		return s.rows.Step()
	}
	for len(s.ids)+len(s.listed) > 0 {
		if err := s.rows.Reset(); err != nil {
			return false, err
		}
		if len(s.listed) > 0 {
			at := s.listed[0]
			s.repeat, s.listed = streamRow{id: at.id, count: at.Count, last: at.last}, s.listed[1:]
			s.rows.BindInt64(1, at.id)
		} else {
			s.rows.BindInt64(1, s.ids[0])
			s.ids = s.ids[1:]
		}
		if more, err := s.rows.Step(); err != nil || more {
			return more, err
		}
	}
	return false, nil
}

// begin prepares the statements: connections and repeats.
func (s *StreamSegment) begin() (some bool, err error) {
	if s.conn, s.release, err = s.Source.Tape.Borrow(s.Source.Index); err != nil {
		return false, err
	}
	if s.asksOutcome() {
		if s.later, err = s.Source.Tape.Endings(s.Source.Index); err != nil {
			return false, err
		}
		s.eras = erasOf(s.Source.Tape.Recording(s.Source.Index))
	}
	if s.prepare != nil {
		if some, err := s.prepare(s); err != nil || !some {
			return false, err
		}
	}
	needed := func(column string) string {
		if slices.Contains(s.stream.columns, column) || column == "local" && len(s.stream.byOrigin[ofLocal]) > 0 {
			return column
		}
		return "NULL"
	}
	which, order := fmt.Sprintf("id >= %d AND id < %d", s.from, s.to), " ORDER BY id"
	if s.stream.order == newestFirst {
		order += " DESC"
	}
	if s.repeats, _, err = s.conn.PrepareTransient(`SELECT id, count, last_ns FROM repeat WHERE ` + which + order); err != nil {
		return false, err
	}
	if s.ids != nil || s.listed != nil {
		which = "id = ?"
	}
	if s.rows, _, err = s.conn.PrepareTransient(`SELECT id, task, remote, shape, ` + needed("local") + `, ` + needed("fd") + `, ` + needed("cookie") +
		`, ` + s.fateColumns() + ` FROM connection WHERE ` + which + order); err != nil {
		return false, err
	}
	clock, _, err := s.conn.PrepareTransient(`SELECT id, offset_ns FROM clock ORDER BY id`)
	if err != nil {
		return false, err
	}
	defer clock.Finalize()
	for {
		more, err := clock.Step()
		if err != nil {
			return false, err
		}
		if !more {
			return true, s.nextRepeat()
		}
		s.clock = append(s.clock, clockRow{clock.ColumnInt64(0), clock.ColumnInt64(1)})
	}
}

// nextRepeat goes to the next row of several connects.
func (s *StreamSegment) nextRepeat() error {
	more, err := s.repeats.Step()
	s.repeat = streamRow{id: Never, count: 1, last: Never}
	if s.stream.order == newestFirst {
		s.repeat.id = -Never
	}
	if more {
		s.repeat = streamRow{id: s.repeats.ColumnInt64(0), count: s.repeats.ColumnInt64(1), last: s.repeats.ColumnInt64(2)}
	}
	return err
}

// finish releases everything.
func (s *StreamSegment) finish() {
	for _, stmt := range append(s.asked[:], s.rows, s.repeats) {
		if stmt != nil {
			stmt.Finalize()
		}
	}
	if s.release != nil {
		s.release()
	}
	*s = StreamSegment{begun: true, ended: true}
}

// read fills the row from the current connection. It is in the view if all rows that it refers to exist.
func (s *StreamSegment) read() (inView bool, err error) {
	row := &s.row
	*row = streamRow{id: s.rows.ColumnInt64(0), count: 1}
	row.last = row.id
	for s.stream.order.before(s.repeat.id, row.id) {
		if err := s.nextRepeat(); err != nil {
			return false, err
		}
	}
	if s.repeat.id == row.id {
		row.count, row.last = s.repeat.count, s.repeat.last
	}
	told := row.fate.read(s.rows, 7) && s.integer(8, &row.fate.bound) && s.integer(5, &row.fd) && s.integer(6, &row.cookie) && s.wall(row.last, &row.lastWall) && s.wall(row.id, &row.wall)
	if !told {
		whole, err := s.ask(ofRow, s.stream.columns)
		if whole != nil {
			row.whole = whole.values
		}
		return whole != nil, err
	}
	for o := ofTask; o <= ofShape; o++ { // in the order of the columns that are read
		if inView, err := s.keep(o, s.rows.ColumnInt64(int(o))); !inView {
			return false, err
		}
	}
	if len(s.stream.byOrigin[ofLocal]) > 0 {
		local := int64(unbound)
		if row.fate.LocalID != 0 {
			local = row.fate.LocalID
		} else if s.rows.ColumnType(4) != sqlite.TypeNull {
			local = s.rows.ColumnInt64(4)
		}
		if inView, err := s.keep(ofLocal, local); !inView {
			return false, err
		}
	}
	if len(s.stream.byOrigin[ofSegment]) > 0 {
		if inView, err := s.keep(ofSegment, 0); !inView {
			return false, err
		}
	}
	if len(s.stream.byOrigin[ofOutcome]) > 0 {
		if inView, err := s.keepOutcome(); !inView {
			return false, err
		}
	}
	if later, ok := s.later[row.id]; ok {
		return true, s.override(&later)
	}
	return true, s.readSource()
}

// asksOutcome reports whether a column of the outcome is used.
func (s *StreamSegment) asksOutcome() bool {
	return slices.ContainsFunc(s.stream.columns, func(column string) bool {
		return column == "outcome" || column == "outcome_errno" || column == "failed" || column == "local_address" || slices.Contains(strings.Fields(outcomeColumns), column)
	})
}

// override applies a later segment's outcome to the row.
func (s *StreamSegment) override(later *store.Later) error {
	row := &s.row
	row.fate.known, row.fate.StoredOutcome = true, later.StoredOutcome
	row.source = format.TextValue("kernel")
	if later.Final == store.FinalEstablished && later.Duration < 0 {
		row.source = openSource(s.Source.Tape, later)
	}
	if row.from[ofLocal] != nil && later.LocalAddress != "" {
		row.from[ofLocal] = &kept{values: []format.Value{format.TextValue(later.LocalAddress)}}
	}
	for _, o := range []origin{ofOutcome, ofShape} {
		if row.from[o] == nil || len(s.stream.byOrigin[o]) == 0 {
			continue
		}
		values, err := s.Source.laterShape(s.conn, s.rows.ColumnInt64(3), s.rows.ColumnInt64(2), later.Final, s.stream.columnsOf(o))
		if err != nil {
			return err
		}
		row.from[o] = &kept{values: values, kind: row.from[o].kind}
	}
	return nil
}

// fateColumns returns the columns of the stored outcome and local port, if used.
func (s *StreamSegment) fateColumns() string {
	outcome, port := len(s.stream.byOrigin[ofLocal]) > 0, slices.Contains(s.stream.columns, "local_port")
	for _, i := range s.stream.byOrigin[ofRow] {
		outcome = outcome || slices.Contains(strings.Fields(outcomeColumns), s.stream.columns[i])
	}
	columns := [2]string{"NULL", "NULL"}
	if outcome {
		columns[0] = outcomeSQL
	}
	if port {
		columns[1] = localPortSQL
	}
	return columns[0] + ", " + columns[1]
}

// readSource reads the source of the outcome, if used.
func (s *StreamSegment) readSource() error {
	if !slices.Contains(s.stream.columns, "outcome_source") {
		return nil
	}
	ended := s.row.fate.known && s.row.fate.Duration >= 0
	key := sourceKey{s.rows.ColumnInt64(3), ended, s.eras.of(s.row.id + s.row.fate.SeenOpen)}
	source, known := s.sources[key]
	if !known {
		k, err := s.ask(ofSource, []string{"outcome_source"})
		if k == nil {
			return err
		}
		if source = keep(k.values[0]); s.sources == nil {
			s.sources = make(map[sourceKey]format.Value)
		}
		s.sources[key] = source
	}
	s.row.source = source
	return nil
}

// integer reads a column, and reports whether it holds an integer or NULL.
func (s *StreamSegment) integer(column int, to *format.Nullable) bool {
	switch s.rows.ColumnType(column) {
	case sqlite.TypeNull:
		to.Known = false
		return true
	case sqlite.TypeInteger:
		to.Number, to.Known = s.rows.ColumnInt64(column), true
		return true
	}
	return false
}

// wall computes the wall clock time. It returns false for a time that the view has to compute: an altered tape may have
// any value.
func (s *StreamSegment) wall(ns int64, to *int64) bool {
	at := s.clockAt
	if at >= len(s.clock) || s.clock[at].from > ns || at+1 < len(s.clock) && s.clock[at+1].from <= ns {
		at = sort.Search(len(s.clock), func(i int) bool { return s.clock[i].from > ns }) - 1
		if at < 0 {
			return false
		}
		s.clockAt = at
	}
	*to = ns + s.clock[at].offset
	return (ns^*to)&(s.clock[at].offset^*to) >= 0 && *to >= 0
}

// keep sets the row's kept cells of an origin, reading them from the view the first time.
func (s *StreamSegment) keep(o origin, id int64) (inView bool, err error) {
	k := s.kept[o][id]
	if k == nil {
		if k, err = s.ask(o, s.stream.columnsOf(o)); k == nil {
			return false, err
		}
		if s.kept[o] == nil || len(s.kept[o]) >= s.stream.limits.Kept {
			s.kept[o] = make(map[int64]*kept)
		}
		s.kept[o][id] = k
	}
	s.row.from[o] = k
	return true, nil
}

// keepOutcome sets the outcome cells for the row's shape, era and kind of endpoint.
func (s *StreamSegment) keepOutcome() (inView bool, err error) {
	shape, kind := s.row.from[ofShape], s.row.from[ofRemote].kind
	for len(shape.outcomes) <= kind {
		shape.outcomes = append(shape.outcomes, [3]*kept{})
	}
	known := &shape.outcomes[kind][s.eras.of(s.row.id)]
	if *known == nil {
		if *known, err = s.ask(ofOutcome, s.stream.columnsOf(ofOutcome)); err != nil {
			return false, err
		}
	}
	s.row.from[ofOutcome] = *known
	return s.row.from[ofOutcome] != nil, nil
}

// kindSQL is the kind of an endpoint, which outcome and probe depend on.
const kindSQL = `coalesce(family, '') || ' ' || (remote_port IS 0)`

// ask reads columns of the current connection from the view, nil if it is not there.
func (s *StreamSegment) ask(o origin, columns []string) (_ *kept, err error) {
	if s.asked[o] == nil {
		view := s.Source.Tape.Recording(s.Source.Index).In(segment.ViewQuery("connections"))
		s.asked[o], _, err = s.conn.PrepareTransient(`SELECT ` + strings.Join(append([]string{kindSQL}, columns...), ", ") + ` FROM (` + view + `) WHERE id = ?1`)
		if err != nil {
			return nil, err
		}
	}
	stmt := s.asked[o]
	stmt.BindInt64(1, s.row.id)
	if more, err := stmt.Step(); err != nil {
		return nil, err // Step has reset it
	} else if !more {
		return nil, stmt.Reset()
	}
	values := ask.NewRowReader(1 + len(columns)).Read(stmt)
	kind := string(values[0].AppendPlain(nil, false))
	if _, known := s.kinds[kind]; !known {
		s.kinds[kind] = len(s.kinds)
	}
	return &kept{values: values[1:], kind: s.kinds[kind]}, stmt.Reset()
}
