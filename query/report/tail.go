package report

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/input"
	"zombiezen.com/go/sqlite"
)

// lateness is the longest delay of an older connection after a newer one: its thread was on another processor, or its
// batch had to wait.
const lateness = 10 * time.Second

// Tail shows each new connection once. The tape is reopened for every look, so that it continues after a restart of the
// recorder.
type Tail struct {
	filter Filter
	all    bool               // port-0 UDP probes and AF_UNSPEC disconnects too
	events []string           // kinds of what sockets did beside connecting that are shown too: some of TailEvents
	last   int64              // newest time_ns shown
	shown  map[[2]int64]int64 // by segment, of events less than 0, and id, of those within lateness: their time_ns
}

// NewTail begins after the connections before since, ns as time_ns.
// With all, port-0 UDP probes and AF_UNSPEC disconnects are shown too.
func NewTail(f Filter, all bool, since int64) *Tail {
	return &Tail{filter: f, all: all, last: since, shown: make(map[[2]int64]int64)}
}

// TailEvents are the kinds of what sockets do beside connecting, as record --events names them.
func TailEvents() []string { return []string{"accept", "listen", "bind", "socket", "setsockopt"} }

// Events has the tail show what sockets did beside connecting: kinds are some of TailEvents, or all. Each row of inbound, listeners and
// sockets_opened is shown once, when it is new. A condition of one's own cannot be asked of them: it is about columns of connections.
func (t *Tail) Events(kinds []string) error {
	for _, kind := range kinds {
		if kind == "all" {
			kinds = TailEvents()
			break
		}
		if !slices.Contains(TailEvents(), kind) {
			return input.Usagef("events are "+strings.Join(TailEvents(), ", ")+", or all", "unknown event %q", kind)
		}
	}
	if len(kinds) > 0 && t.filter.Where != "" {
		return input.Usagef("leave one of them out", "--where is about columns of connections, which --events do not have")
	}
	t.events = kinds
	return nil
}

// TailColumns are the columns of a tail, as SQL over connections.
func TailColumns() []string {
	return []string{"time", "comm", "pid", "remote", "outcome", "n", "user", "cmdline", "requested", "name"}
}

var tailSQL = `SELECT segment, id, time_ns, time, comm, pid,
  remote,
  CASE WHEN probe THEN 'name probe' ELSE outcome_words(outcome, count, duration_ns, bytes_sent, bytes_received) END AS outcome,
  count AS n, user, coalesce(nullif(cmdline, ''), '[' || comm || ']') AS cmdline,
` + requestedSQL + ` AS requested, remote_name AS name
FROM connections
WHERE time_ns > :from`

// tailEventsSQL has the columns that a filter asks for.
var tailEventsSQL = `
UNION ALL
SELECT -segment, id, time_ns, time, comm, pid, remote, outcome, count, user, coalesce(nullif(cmdline, ''), '[' || comm || ']'), NULL, NULL
FROM (
  SELECT segment, id, time_ns, time, comm, pid, exe, user, uid, container, cmdline, count, family, remote_address, remote_ip, remote_port,
    NULL AS requested_address, NULL AS requested_port, NULL AS remote_name,
    'accept' AS kind, 'accepted' AS outcome,
    concat_ws(' at ', coalesce('pid ' || peer_pid, remote_ip || coalesce(':' || remote_port, ''), remote_address), local_address || coalesce(':' || local_port, '')) AS remote
  FROM inbound
  UNION ALL
  SELECT segment, id, time_ns, time, comm, pid, exe, user, uid, container, cmdline, count, family, NULL, NULL, NULL, NULL, NULL, NULL,
    'listen', iif(source = 'snapshot', 'listened before', 'listens'), local_address || coalesce(':' || local_port, '')
  FROM listeners
  WHERE action = 'listen'
  UNION ALL
  SELECT segment, id, time_ns, time, comm, pid, exe, user, uid, container, cmdline, count, family, NULL, NULL, NULL, NULL, NULL, NULL,
    CASE
      WHEN action IN ('socket', 'tun', 'tap') OR action = 'bind' AND (family IN ('packet', 'xdp') OR type = 'raw') THEN 'socket'
      WHEN action = 'bind' THEN 'bind' ELSE 'setsockopt' END,
    CASE action WHEN 'socket' THEN 'opened' WHEN 'tun' THEN 'opened tun' WHEN 'tap' THEN 'opened tap' WHEN 'bind' THEN 'bound' ELSE action END || iif(source = 'snapshot', ' before', ''),
    concat_ws(' ', CASE WHEN action <> 'bind' OR family = 'packet' THEN concat_ws(' ', family, type, protocol) END, local_address || coalesce(':' || local_port, ''))
  FROM sockets_opened
)
WHERE time_ns > :from AND instr(:events, ' ' || kind || ' ') > 0`

// sql returns the question with its parameters.
func (t *Tail) sql(tail string) (ask.Request, error) {
	r := ask.Request{SQL: tailSQL, Params: map[string]format.Value{}}
	conditions, err := t.filter.conditions()
	if err != nil {
		return r, err
	}
	filtered := ""
	for _, c := range conditions {
		filtered += "\n  AND (" + c.sql + ")"
		maps.Copy(r.Params, c.params)
	}
	r.SQL += filtered
	if !t.all {
		r.SQL += "\n  AND (NOT probe AND family IS NOT 'unspec')"
	}
	if len(t.events) > 0 {
		r.SQL += tailEventsSQL + filtered
		r.Params["events"] = format.TextValue(" " + strings.Join(t.events, " ") + " ")
	}
	r.SQL += tail
	return r, nil
}

// Check returns a UsageError if the filter is invalid.
func (t *Tail) Check(ctx context.Context, conn *sqlite.Conn, clock input.Clock) error {
	r, err := t.sql("\nLIMIT 0")
	if err != nil {
		return err
	}
	r.Clock, r.Params["from"] = clock, format.Value{Kind: format.Integer}
	_, err = ask.Run(ctx, conn, r, ask.EachRow(func([]format.Value) error { return nil }))
	return err
}

// Back moves the tail's begin back to the newest n connections.
func (t *Tail) Back(ctx context.Context, conn *sqlite.Conn, n int64, clock input.Clock) error {
	r, err := t.sql("\nORDER BY time_ns DESC LIMIT :lines")
	if err != nil {
		return err
	}
	r.Clock, r.Params["from"], r.Params["lines"] = clock, format.Value{Kind: format.Integer, Int: -1 << 63}, format.Value{Kind: format.Integer, Int: n}
	_, err = ask.Run(ctx, conn, r, ask.EachRow(func(row []format.Value) error {
		t.last = min(t.last, row[2].Int-1)
		return nil
	}))
	return err
}

// errShown ends a look when enough was shown.
var errShown = errors.New("enough was shown")

// Look writes the new connections, oldest first, at most limit (0: all), and returns their number. It calls out.Begin
// and out.End each time.
func (t *Tail) Look(ctx context.Context, conn *sqlite.Conn, clock input.Clock, limit int64, out format.RowWriter) (int64, error) {
	r, err := t.sql("\nORDER BY time_ns, segment")
	if err != nil {
		return 0, err
	}
	from := t.last
	if len(t.shown) > 0 {
		from -= int64(lateness)
	}
	r.Clock, r.Params["from"] = clock, format.Value{Kind: format.Integer, Int: from}
	if err := out.Begin(TailColumns()); err != nil {
		return 0, err
	}
	var n int64
	newest := t.last
	_, err = ask.Run(ctx, conn, r, ask.EachRow(func(row []format.Value) error {
		key, at := [2]int64{row[0].Int, row[1].Int}, row[2].Int
		if _, ok := t.shown[key]; ok {
			return nil
		}
		t.shown[key] = at
		newest = max(newest, at)
		n++
		if err := out.Row(row[3:]); err != nil {
			return err
		}
		if limit > 0 && n == limit {
			return errShown
		}
		return nil
	}))
	if err == errShown {
		err = nil
	}
	if err != nil {
		return n, err
	}
	t.last = newest
	for key, at := range t.shown {
		if at < t.last-2*int64(lateness) {
			delete(t.shown, key)
		}
	}
	return n, out.End("")
}
