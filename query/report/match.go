package report

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/indicator"
	"github.com/conntape/conntape/query/input"
	"github.com/conntape/conntape/query/table"
	"github.com/conntape/conntape/store"
	"golang.org/x/sys/unix"
)

// A tape has few endpoints and processes compared with connections. So match looks up each of those in the set, at the
// same cost for any number of indicators, and then reads only the connections of the hits.

// MatchRequest selects the connections to match, and the end of the answer.
type MatchRequest struct {
	ask.Request              // Limit, Timeout and Clock of it
	Window      input.Window // for processes without connections
	Filter      Filter       // connections to match; if not empty, processes without connections do not match
	All         bool         // port-0 UDP probes and AF_UNSPEC disconnects too
}

// MatchColumns are the columns of a match.
func MatchColumns() []ColumnDoc {
	return []ColumnDoc{
		{"first_time", "when the first of them was issued; of a process that connected to nothing, when it started"},
		{"last_time", "when the last one was"},
		{"n", "connects; 0: the process itself matches, and connected to nothing, or to nothing that is shown without --all"},
		{"indicator", "what of the list matches"},
		{"kind", "what it is of: address, range, port, name, path or hash"},
		{"label", "what the list says of it"},
		{"where", "where it was met: remote, requested, name (that led to remote), lookup (of a name), program, script or arguments"},
		{"pid", "process"},
		{"user", "its user"},
		{"container", "its container; NULL: none that is known"},
		{"remote", "address and port, or path"},
		{"name", "names that were looked up and led there, or the name that was looked up; NULL: none that is known"},
		{"outcome", "what became of them"},
		{"requested", "address and port that were asked for, where a program of a cgroup sent it to remote; NULL: remote"},
		{"exe", "its program"},
		{"cmdline", "its arguments, or its name in brackets when there are none"},
		{"ancestry", "its ancestors, and itself last"},
	}
}

// matchedSQL are the tables of matchSQL where the view is of no known form.
const matchedSQL = `WITH remote_rows AS NOT MATERIALIZED (SELECT * FROM connections WHERE remote_address IN (SELECT value FROM json_each(:addresses))
  OR requested_address IN (SELECT value FROM json_each(:addresses))),
process_rows AS NOT MATERIALIZED (SELECT * FROM connections WHERE process_id IN (SELECT CAST(value AS INTEGER) FROM json_each(:processes)))`

// passingSQL are the connections of these tables that pass a filter.
const passingSQL = `,
by_remote AS NOT MATERIALIZED (SELECT * FROM remote_rows WHERE %[1]s),
by_process AS NOT MATERIALIZED (SELECT * FROM process_rows WHERE %[1]s)`

// matchSQL has the columns of a match except those of the indicator, preceded by the columns for looking up the
// indicator.
const matchSQL = `
SELECT process_id, remote_address, remote_port, CASE family WHEN 'unix' THEN 2 ELSE 1 END AS by_remote, requested_address, requested_port,
  min(time) AS first_time, max(last_time) AS last_time, sum(count) AS n, pid, user, container,
  remote, remote_name AS name,
` + shownOutcome + `,
` + requestedSQL + ` AS requested, exe, coalesce(nullif(cmdline, ''), '[' || comm || ']') AS cmdline, ancestry
FROM by_remote
WHERE (:all OR NOT probe AND family IS NOT 'unspec')
GROUP BY process_id, user, container, remote, name, requested, 15
UNION ALL
SELECT process_id, remote_address, remote_port, 0, NULL, NULL,
  min(time), max(last_time), sum(count), pid, user, container,
  remote, remote_name AS name,
` + shownOutcome + `,
` + requestedSQL + ` AS requested, exe, coalesce(nullif(cmdline, ''), '[' || comm || ']'), ancestry
FROM by_process
WHERE (:all OR NOT probe AND family IS NOT 'unspec')
GROUP BY process_id, user, container, remote, name, requested, 15
UNION ALL
SELECT process_id, NULL, NULL, 3, NULL, NULL, min(time), max(last_time), sum(count), pid, user, container,
  NULL, name, NULL, NULL, exe, coalesce(nullif(cmdline, ''), '[' || comm || ']'), ancestry
FROM lookups
WHERE NOT :filtered AND name IN (SELECT value FROM json_each(:names))
GROUP BY process_id, user, container, name
UNION ALL
SELECT process_id, NULL, NULL, 0, NULL, NULL, min(coalesce(exec_time, start_time)), NULL, 0, pid, user, container,
  NULL, NULL, NULL, NULL, exe, coalesce(nullif(cmdline, ''), '[' || comm || ']'), ancestry
FROM processes
WHERE NOT :filtered AND process_id IN (SELECT CAST(value AS INTEGER) FROM json_each(:processes))
  AND process_id NOT IN (SELECT process_id FROM by_process WHERE :all OR NOT probe AND family IS NOT 'unspec')
  AND coalesce(coalesce(exec_time, start_time) >= :since, 1) AND coalesce(coalesce(exec_time, start_time) < :until, 1)
GROUP BY process_id
ORDER BY 7, 1, 13, 14, 4`

// Match writes a row for each matching indicator, process, destination and outcome.
func Match(ctx context.Context, tape *store.Tape, set *indicator.Set, r MatchRequest, out format.RowWriter) (ask.Result, error) {
	return match(ctx, table.Of(tape), table.NewKnownView(), set, r, out)
}

// match does it over contacts, or over the view as it is when it is of no known form.
func match(ctx context.Context, tape *table.Tape, view *table.KnownView, set *indicator.Set, r MatchRequest, out format.RowWriter) (ask.Result, error) {
	conn := tape.Conn()
	passing, params, err := r.Filter.where()
	if err != nil {
		return ask.Result{}, err
	}
	ctx, cancel := ask.WithTimeLimit(ctx, r.Timeout)
	defer cancel()
	m := &matcher{set: set, view: view, remotes: make(map[int][]int64), addresses: make(map[string]bool), processes: make(map[int64][]processHit), out: &ask.ManyWriter{RowWriter: out, Ctx: ctx, Limit: r.Limit}}
	if err := m.find(ctx, tape); err != nil {
		return ask.Result{}, ask.ExplainLimit(ctx, r.Timeout, err)
	}
	tables := matchedSQL
	request := ask.Request{Timeout: r.Timeout, Clock: r.Clock, Params: map[string]format.Value{
		"all": {Kind: format.Integer, Int: int64(format.ZeroOrOne(r.All))}, "since": tapeTimeValue(r.Window.Since), "until": tapeTimeValue(r.Window.Until),
		"addresses": jsonValue(sortedKeys(m.addresses)), "processes": jsonValue(m.processIDs()), "names": jsonValue(m.names), "filtered": format.IntValue(int64(format.ZeroOrOne(!r.Filter.IsEmpty()))),
	}}
	if m.view != nil {
		if tables, err = m.tables(ctx, tape, r.Window); err != nil {
			return ask.Result{}, ask.ExplainLimit(ctx, r.Timeout, err)
		}
		delete(request.Params, "addresses")
	}
	request.SQL = tables + fmt.Sprintf(passingSQL, passing) + matchSQL
	maps.Copy(request.Params, params)
	result, err := ask.Run(ctx, conn, request, m)
	for _, contacts := range m.contacts {
		err = contacts.Explain(err)
	}
	return m.out.Ended(request, result, err)
}

// tables returns the tables of matchSQL, over the contacts of what matches.
func (m *matcher) tables(ctx context.Context, tape *table.Tape, w input.Window) (string, error) {
	processes := make(map[int64]bool)
	for id := range m.processes {
		processes[id] = true
	}
	var tables []string
	for name, choose := range map[string]table.Chooser{
		"remote": func(_ context.Context, s *table.SegmentSource) (*table.Selection, error) {
			return table.OfRemotes(m.remotes[s.Number]), nil
		},
		"process": table.ChooseProcesses(processes),
	} {
		contacts, err := table.NewContactTable(ctx, tape, "contact_"+name, w, choose)
		if err != nil {
			return "", err
		}
		m.contacts = append(m.contacts, contacts)
		tables = append(tables, name+"_rows AS NOT MATERIALIZED (SELECT * FROM contact_"+name+")")
	}
	return "WITH " + strings.Join(tables, ",\n"), nil
}

// matcher finds matches. It is the RowWriter of matchSQL.
type matcher struct {
	set       *indicator.Set
	view      *table.KnownView       // nil: it is of no known form
	remotes   map[int][]int64        // ids of matching endpoints, by segment number
	addresses map[string]bool        // addresses of matching endpoints, as on the tape
	processes map[int64][]processHit // by process_id
	names     []string               // matching names that were looked up
	contacts  []*table.ContactTable  // that it is asked over
	out       *ask.ManyWriter
	row       []format.Value
}

// processHit is an indicator matched by a process's program, script or arguments.
type processHit struct {
	*indicator.Indicator
	where string // program, script or arguments
}

// find looks up every endpoint and every process.
func (m *matcher) find(ctx context.Context, tape *table.Tape) error {
	if err := m.findRemotes(ctx, tape); err != nil {
		return err
	}
	if m.set.Count(indicator.Name)+m.set.Count(indicator.Path)+m.set.Count(indicator.Hash) == 0 {
		return nil
	}
	err := ask.Each(ctx, tape.Conn(), `SELECT DISTINCT name FROM lookups WHERE name IS NOT NULL`, func(row []format.Value) {
		if name := string(row[0].Bytes); len(m.set.ByHost(name)) > 0 {
			m.names = append(m.names, name)
		}
	})
	if err != nil {
		return err
	}
	digests := ""
	if m.set.Count(indicator.Hash) > 0 { // of a process in several segments, one may have them
		digests = `, max(exe_sha256), max(exe_sha1), max(exe_md5), max(script_sha256), max(script_sha1), max(script_md5)`
	}
	_, err = ask.Run(ctx, tape.Conn(), ask.Request{SQL: `SELECT process_id, exe, script, cmdline` + digests + ` FROM processes GROUP BY process_id`}, ask.EachRow(func(row []format.Value) error {
		if hits := append(m.byProcess(string(row[1].Bytes), string(row[2].Bytes), string(row[3].Bytes)), m.byDigests(row[4:])...); len(hits) > 0 {
			m.processes[row[0].Int] = hits
		}
		return nil
	}))
	return err
}

// findRemotes looks up every endpoint.
func (m *matcher) findRemotes(ctx context.Context, tape *table.Tape) error {
	if m.view == nil {
		return ask.Each(ctx, tape.Conn(), `SELECT DISTINCT address, port, family = 'unix', name FROM endpoints`, func(row []format.Value) {
			if address := string(row[0].Bytes); len(m.byRemote(row[2].Int == 1, address, row[1]))+len(m.byNames(string(row[3].Bytes), row[1])) > 0 {
				m.addresses[address] = true
			}
		})
	}
	for _, s := range tape.Sources() {
		err := tape.ScanEndpoints(ctx, s.Index, func(id, family int64, address []byte, port int64) error {
			if len(m.byRemote(family == unix.AF_UNIX, string(address), format.IntValue(port))) > 0 {
				m.remotes[s.Number] = append(m.remotes[s.Number], id)
			}
			return nil
		})
		if err == nil {
			m.remotes[s.Number], err = s.AskedFor(ctx, m.remotes[s.Number])
		}
		if err == nil && m.set.Count(indicator.Name) > 0 {
			err = s.ScanNames(ctx, func(id int64, names string, port int64) {
				if len(m.byNames(names, format.IntValue(port))) > 0 {
					m.remotes[s.Number] = append(m.remotes[s.Number], id)
				}
			})
			slices.Sort(m.remotes[s.Number])
			m.remotes[s.Number] = slices.Compact(m.remotes[s.Number])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (m *matcher) processIDs() []string {
	ids := make([]string, 0, len(m.processes)) // as text: JSON numbers may lose digits
	for id := range m.processes {
		ids = append(ids, strconv.FormatInt(id, 10))
	}
	slices.Sort(ids)
	return ids
}

// Begin writes the header.
func (m *matcher) Begin([]string) error {
	var names []string
	for _, c := range MatchColumns() {
		names = append(names, c.Name)
	}
	return m.out.Begin(names)
}

// Row writes a row for each indicator matched by one of matchSQL's rows.
func (m *matcher) Row(values []format.Value) error {
	switch values[3].Int {
	case 3:
		for _, i := range m.set.ByHost(string(values[13].Bytes)) {
			if err := m.write(values[6:], i, "lookup"); err != nil {
				return err
			}
		}
		return nil
	case 0:
		for _, hit := range m.processes[values[0].Int] {
			if err := m.write(values[6:], hit.Indicator, hit.where); err != nil {
				return err
			}
		}
		return nil
	}
	hits := m.byRemote(values[3].Int == 2, string(values[1].Bytes), values[2])
	for _, i := range hits {
		if err := m.write(values[6:], i, "remote"); err != nil {
			return err
		}
	}
	for _, i := range m.byNames(string(values[13].Bytes), values[2]) {
		if err := m.write(values[6:], i, "name"); err != nil {
			return err
		}
	}
	if values[4].Kind == format.Null {
		return nil
	}
	for _, i := range m.byRemote(false, string(values[4].Bytes), values[5]) {
		if slices.Contains(hits, i) {
			continue
		}
		if err := m.write(values[6:], i, "requested"); err != nil {
			return err
		}
	}
	return nil
}

// write writes one row: three columns, those of the indicator, and the others.
func (m *matcher) write(values []format.Value, i *indicator.Indicator, where string) error {
	text := func(s string) format.Value {
		if s == "" {
			return format.Value{Kind: format.Null}
		}
		return format.Value{Kind: format.Text, Bytes: []byte(s)}
	}
	m.row = append(append(m.row[:0], values[:3]...), text(i.String()), text(string(i.Kind)), text(i.Label), text(where))
	return m.out.Row(append(m.row, values[3:]...))
}

// End completes the answer.
func (m *matcher) End(cut string) error { return m.out.End(cut) }

func jsonValue(list []string) format.Value {
	text, err := json.Marshal(list)
	if err != nil { // texts always can
		text = []byte("[]")
	}
	return format.Value{Kind: format.Text, Bytes: text}
}

func sortedKeys(set map[string]bool) []string {
	keys := make([]string, 0, len(set))
	for k := range set {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
