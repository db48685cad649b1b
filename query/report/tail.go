package report

import (
	"context"
	"errors"
	"maps"
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
	last   int64              // newest time_ns shown
	shown  map[[2]int64]int64 // by segment and id, of those within lateness: their time_ns
}

// NewTail begins after the connections before since, ns as time_ns.
// With all, port-0 UDP probes and AF_UNSPEC disconnects are shown too.
func NewTail(f Filter, all bool, since int64) *Tail {
	return &Tail{filter: f, all: all, last: since, shown: make(map[[2]int64]int64)}
}

// TailColumns are the columns of a tail, as SQL over connections.
func TailColumns() []string {
	return []string{"time", "comm", "pid", "remote", "outcome", "n", "user", "cmdline", "requested"}
}

var tailSQL = `SELECT segment, id, time_ns, time, comm, pid,
  remote,
  CASE WHEN probe THEN 'name probe' ELSE outcome_words(outcome, count, duration_ns, bytes_sent, bytes_received) END AS outcome,
  count AS n, user, coalesce(nullif(cmdline, ''), '[' || comm || ']') AS cmdline,
` + requestedSQL + ` AS requested
FROM connections
WHERE time_ns > :from`

// sql returns the question with its parameters.
func (t *Tail) sql(tail string) (ask.Request, error) {
	r := ask.Request{SQL: tailSQL, Params: map[string]format.Value{}}
	conditions, err := t.filter.conditions()
	if err != nil {
		return r, err
	}
	if !t.all {
		conditions = append(conditions, condition{sql: "NOT probe AND family IS NOT 'unspec'"})
	}
	for _, c := range conditions {
		r.SQL += "\n  AND (" + c.sql + ")"
		maps.Copy(r.Params, c.params)
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
