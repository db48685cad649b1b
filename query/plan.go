package query

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"
)

// Some canned queries count over a whole tape. What their SQL says is what they
// mean, and it is asked as it is where there is no plan; a plan gives the same
// answer, by ids and by the summaries of sealed segments, and segments at the same
// time. A test holds each plan to its SQL.

// Planned is a canned query that is ready to be asked.
type Planned struct {
	canned  *Canned
	request Request
	window  Window
	main    *sqlite.Conn
	sources []Source       // each segment once, over several connections where that helps
	own     map[int]string // name of each segment on main, by its number
}

// NewPlanned prepares a question. mine are all segments as they are attached to the
// tape's own connection; sources are the same ones, to be read at the same time.
func NewPlanned(c *Canned, r Request, w Window, mine, sources []Source) *Planned {
	p := &Planned{canned: c, request: r, window: w, sources: sources, own: make(map[int]string)}
	for _, s := range mine {
		p.main, p.own[s.Number] = s.Conn, s.Schema
	}
	return p
}

// Plans reports whether a canned query counts over the whole tape, so that more
// connections make it faster.
func (c *Canned) Plans() bool {
	return slices.Contains([]string{"top", "rare", "first-seen", "timeline", "beacons", "fanout"}, c.Name)
}

// Run asks the question and writes its answer.
func (p *Planned) Run(ctx context.Context, out RowWriter) (Result, error) {
	if p.canned.Plans() && p.main != nil && viewParts(ctx, p.main) != nil && p.applies() {
		return p.runPlan(ctx, out)
	}
	narrowed, err := p.canned.Narrow(ctx, p.main, p.request, p.window)
	if err != nil {
		return Result{}, err
	}
	return Run(ctx, p.main, narrowed, out)
}

// applies reports whether the plan knows this form of the question.
func (p *Planned) applies() bool {
	switch p.canned.Name {
	case "top":
		return p.text("by") != "port" // of a port, summaries do not tell the protocol
	case "timeline":
		return p.request.Params["seconds"].Int == 3600
	}
	return true
}

func (p *Planned) text(param string) string { return string(p.request.Params[param].Bytes) }

func (p *Planned) runPlan(ctx context.Context, out RowWriter) (Result, error) {
	limited := ctx
	if p.request.Timeout > 0 {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeoutCause(ctx, p.request.Timeout, errTimeLimit)
		defer cancel()
	}
	w := p.window
	if p.canned.OwnWindow {
		w.Since = time.Time{} // what was before tells what is new
	}
	if p.canned.Name == "timeline" {
		h, err := readHours(limited, p.sources, w, p.request.Params["all"].Int != 0)
		if err == nil {
			return p.writeTimeline(h, out)
		}
		return Result{}, p.explainLimit(limited, err)
	}
	if p.canned.Name == "beacons" {
		t, rhythms, err := readRhythms(limited, p.sources, w, p.request.Params["all"].Int != 0)
		if err == nil {
			return p.writeBeacons(limited, t.beacons(rhythms, p.request.Params["least"].Int, float64(p.request.Params["score"].Int)), out)
		}
		return Result{}, p.explainLimit(limited, err)
	}
	if p.canned.Name == "fanout" {
		f := &fanout{length: max(p.request.Params["seconds"].Int, 1) * 1_000_000_000, addresses: p.request.Params["addresses"].Int,
			ports: p.request.Params["ports"].Int, best: make(map[int64]scanFound)}
		if err := f.readAll(limited, p.sources, w, p.request.Params["all"].Int != 0); err != nil {
			return Result{}, p.explainLimit(limited, err)
		}
		return p.writeFanout(limited, f, out)
	}
	t, err := readTraffic(limited, p.sources, w, p.request.Params["all"].Int != 0)
	if err == nil {
		switch p.canned.Name {
		case "top":
			return p.writeTop(t, out)
		case "rare":
			return p.writeFirsts(limited, t.rare(p.request.Params["most"].Int), []string{"first_time", "n", "pid", "user", "exe", "remote", "outcome", "cmdline", "ancestry"}, out)
		default:
			return p.writeFirsts(limited, t.new(p.text("by") == "pair", p.window.Since.UnixNano()), []string{"first_time", "n", "pid", "user", "exe", "remote", "outcome", "cmdline", "ancestry"}, out)
		}
	}
	return Result{}, p.explainLimit(limited, err)
}

// explainLimit says that it was the time limit which ended a plan.
func (p *Planned) explainLimit(ctx context.Context, err error) error {
	if context.Cause(ctx) == errTimeLimit {
		return fmt.Errorf("time limit of %s: nothing was answered in that time", p.request.Timeout)
	}
	return err
}

// topRow is a row of the query top.
type topRow struct {
	name                string
	n, failed           int64
	programs, places    int64
	firstWall, lastWall int64
}

// writeTop writes what canned/top.sql says.
func (p *Planned) writeTop(t *traffic, out RowWriter) (Result, error) {
	names := newNames()
	ofActor, ofPlace := make([]int32, len(t.actors)), make([]int32, len(t.places))
	exes, programs := newNames(), make([]int32, len(t.actors))
	for i, a := range t.actors {
		programs[i] = exes.of(a.exe)
		switch p.text("by") {
		case "process":
			ofActor[i] = names.of(a.exe)
		case "user":
			ofActor[i] = names.of(string(a.user.appendPlain(nil, false)))
		case "container":
			name := "(none)"
			if a.container.Kind == Text {
				name = string(a.container.Bytes)
			}
			ofActor[i] = names.of(name)
		}
	}
	addresses, placeIDs := make(map[placeKey]int32), make([]int32, len(t.places)) // whatever family
	for i, to := range t.places {
		k := placeKey{to.address, to.port}
		if _, ok := addresses[k]; !ok {
			addresses[k] = int32(len(addresses))
		}
		placeIDs[i] = addresses[k]
		if p.text("by") == "destination" {
			ofPlace[i] = names.of(to.label())
		}
	}
	rows := make([]topRow, len(names.list))
	seenPrograms, seenPlaces := make(map[uint64]struct{}), make(map[uint64]struct{}, len(t.pairs.list))
	var total, most int64
	for i := range t.pairs.list {
		pair := &t.pairs.list[i]
		name := ofActor[pair.actor]
		if p.text("by") == "destination" {
			name = ofPlace[pair.place]
		}
		row := &rows[name]
		first, last := t.firstWall(pair), t.lastWall(pair)
		if row.n == 0 {
			row.name, row.firstWall, row.lastWall = names.list[name], first, last
		}
		row.n += pair.n
		row.failed += pair.failed
		row.firstWall, row.lastWall = min(row.firstWall, first), max(row.lastWall, last)
		row.programs += addTo(seenPrograms, pairIndex(name, int64(programs[pair.actor])))
		row.places += addTo(seenPlaces, pairIndex(name, int64(placeIDs[pair.place])))
		total += pair.n
	}
	rows = slices.DeleteFunc(rows, func(r topRow) bool { return r.n == 0 }) // left out as probes
	for _, row := range rows {
		most = max(most, row.n)
	}
	slices.SortFunc(rows, func(a, b topRow) int { return cmp.Or(-cmp.Compare(a.n, b.n), cmp.Compare(a.name, b.name)) })
	if limit := p.request.Params[LimitParam].Int; limit >= 0 && int64(len(rows)) > limit {
		rows = rows[:limit]
	}
	return writeRows(out, 0, []string{"name", "n", "percent", "programs", "destinations", "failed", "first_time", "last_time", "bar"}, len(rows), func(i int) []Value {
		row := rows[i]
		percent, _ := strconv.ParseFloat(strconv.FormatFloat(100*float64(row.n)/float64(total), 'f', 1, 64), 64)
		return []Value{
			textValue(row.name), intValue(row.n), {Kind: Real, Real: percent}, intValue(row.programs), intValue(row.places),
			intValue(row.failed), wallText(row.firstWall), wallText(row.lastWall), barText(row.n, most),
		}
	})
}

// barText returns n as a share of the most, in twenty steps, none of them for nothing.
func barText(n, most int64) Value {
	if n <= 0 || most <= 0 {
		return textValue("")
	}
	return textValue(strings.Repeat("█", min(20, int(math.Ceil(20*float64(n)/float64(most))))))
}

// placeKey is a place as top counts it: by address and port.
type placeKey struct {
	address string
	port    int64
}

// names numbers texts.
type names struct {
	index map[string]int32
	list  []string
}

func newNames() *names { return &names{index: make(map[string]int32)} }

// of returns the number of a text.
func (n *names) of(text string) int32 {
	i, ok := n.index[text]
	if !ok {
		i = int32(len(n.list))
		n.index[text] = i
		n.list = append(n.list, text)
	}
	return i
}

// addTo puts a member into a set and returns 1 when it is new, else 0.
func addTo(set map[uint64]struct{}, member uint64) int64 {
	before := len(set)
	set[member] = struct{}{}
	return int64(len(set) - before)
}

// firstRow is a row of rare and of first-seen: where it was met first, and how often.
type firstRow struct {
	first   int64
	firstIn int
	n       int64
	label   string
}

// met is what is known of a destination, or of a program and a destination.
type met struct {
	first   int64
	firstIn int
	n       int64
	program int32 // the one that was met first
	many    bool  // there are others
}

// rare returns the destinations that one program connected to, at most so often.
func (t *traffic) rare(most int64) []firstRow {
	rows := t.gather(false, func(m *met) bool { return !m.many && m.n <= most })
	slices.SortFunc(rows, func(a, b firstRow) int {
		return cmp.Or(cmp.Compare(a.n, b.n), cmp.Compare(a.first, b.first), cmp.Compare(a.label, b.label))
	})
	return rows
}

// new returns the destinations, or pairs of program and destination, that were not
// met before since.
func (t *traffic) new(pairs bool, since int64) []firstRow {
	rows := t.gather(pairs, func(m *met) bool { return m.first >= since })
	slices.SortFunc(rows, func(a, b firstRow) int {
		return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(a.label, b.label))
	})
	return rows
}

// gather puts the pairs together by destination, or by program and destination, and
// returns those that are wanted, in no order.
func (t *traffic) gather(pairs bool, wanted func(*met) bool) []firstRow {
	exes, labels := newNames(), newNames()
	programs, ofPlace := make([]int32, len(t.actors)), make([]int32, len(t.places))
	for i, a := range t.actors {
		programs[i] = exes.of(a.exe)
	}
	for i, p := range t.places {
		ofPlace[i] = labels.of(p.label())
	}
	all := make(map[uint64]*met)
	for i := range t.pairs.list {
		pair := &t.pairs.list[i]
		program := programs[pair.actor]
		key := uint64(uint32(ofPlace[pair.place]))
		if pairs {
			key = pairIndex(program, int64(ofPlace[pair.place]))
		}
		m := all[key]
		if m == nil {
			all[key] = &met{pair.first, int(pair.firstIn), pair.n, program, false}
			continue
		}
		m.many = m.many || m.program != program
		m.n += pair.n
		if pair.first < m.first {
			m.first, m.firstIn = pair.first, int(pair.firstIn)
		}
	}
	var rows []firstRow
	for key, m := range all {
		if m.n > 0 && wanted(m) {
			rows = append(rows, firstRow{m.first, m.firstIn, m.n, labels.list[uint32(key)]})
		}
	}
	return rows
}

// firstSQL reads the connections that others were met first in.
const firstSQL = `SELECT segment, id, time, pid, user, exe,
` + remoteAndOutcome + `,
  coalesce(nullif(cmdline, ''), '[' || comm || ']') AS cmdline, ancestry, container
FROM connections`

// mostFirsts is how many connections are read by their ids at a time.
const mostFirsts = 20_000

// writeFirsts writes rows with what the first connection of each tells.
func (p *Planned) writeFirsts(ctx context.Context, rows []firstRow, columns []string, out RowWriter) (Result, error) {
	limit := p.request.Limit
	if limit > 0 && int64(len(rows)) > limit {
		rows = rows[:limit+1] // one more tells that it is cut
	}
	var result Result
	if err := out.Begin(columns); err != nil {
		return result, err
	}
	for len(rows) > 0 {
		part := rows[:min(len(rows), mostFirsts)]
		rows = rows[len(part):]
		details, err := p.firsts(ctx, part)
		if err != nil {
			return result, err
		}
		for _, row := range part {
			if limit > 0 && result.Rows == limit {
				result.Cut = rowLimitText(limit)
				return result, out.End(result.Cut)
			}
			d, ok := details[[2]int64{int64(row.firstIn), row.first}]
			if !ok {
				return result, fmt.Errorf("read first connections: %d of segment %d is not there", row.first, row.firstIn)
			}
			if err := out.Row(append([]Value{d[0], intValue(row.n)}, d[1:8]...)); err != nil {
				return result, err
			}
			result.Rows++
		}
	}
	return result, out.End("")
}

// firsts reads connections by segment and id: time, pid, user and so on.
func (p *Planned) firsts(ctx context.Context, rows []firstRow) (map[[2]int64][]Value, error) {
	ids := make(map[string][]int64)
	for _, row := range rows {
		ids[p.own[row.firstIn]] = append(ids[p.own[row.firstIn]], row.first)
	}
	n := make(narrowing)
	for segment, list := range ids {
		n[segment] = "c.id IN (" + joinInts(list) + ")"
	}
	details := make(map[[2]int64][]Value)
	err := each(ctx, p.main, n.apply(viewParts(ctx, p.main), firstSQL), func(row []Value) {
		kept := make([]Value, 0, len(row)-2)
		for _, v := range row[2:] {
			kept = append(kept, keep(v))
		}
		details[[2]int64{row[0].Int, row[1].Int}] = kept
	})
	return details, err
}

// writeRows writes n rows, at most limit of them (0: all).
func writeRows(out RowWriter, limit int64, columns []string, n int, row func(i int) []Value) (Result, error) {
	var result Result
	if err := out.Begin(columns); err != nil {
		return result, err
	}
	for i := range n {
		if limit > 0 && result.Rows == limit {
			result.Cut = rowLimitText(limit)
			break
		}
		if err := out.Row(row(i)); err != nil {
			return result, err
		}
		result.Rows++
	}
	return result, out.End(result.Cut)
}

func textValue(s string) Value { return Value{Kind: Text, Bytes: []byte(s)} }

func intValue(n int64) Value { return Value{Kind: Integer, Int: n} }

// wallText returns a time on the wall clock as the views have it.
func wallText(ns int64) Value {
	return textValue(time.Unix(0, ns).UTC().Format(tapeTime))
}
