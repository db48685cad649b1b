package query

import (
	"context"
	"errors"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"
)

// Filter says which connections a tail shows. What is empty filters nothing.
type Filter struct {
	Where     string // an SQL expression over the columns of connections
	Exe       string // program: its path, or the last part of it, or the name of the thread
	To        string // address, CIDR, or path or @name of a UNIX socket
	Port      int64
	PID       int64
	User      string
	Container string // part of its name
	Outcome   string
	All       bool // port-0 UDP probes and AF_UNSPEC disconnects too
}

// lateness is how long after the newest connection an older one may still come: its
// thread was on another processor, or its batch had to wait.
const lateness = 10 * time.Second

// Tail shows connections as they are written, each once. Its tape is opened anew
// for every look, so that it goes on when the recorder was restarted.
type Tail struct {
	filter Filter
	last   int64              // newest time_ns shown
	shown  map[[2]int64]int64 // by segment and id, of those within lateness: their time_ns
}

// NewTail begins after the connections before since, ns as time_ns.
func NewTail(f Filter, since int64) *Tail {
	return &Tail{filter: f, last: since, shown: make(map[[2]int64]int64)}
}

// TailColumns are the columns of a tail, as SQL over connections.
func TailColumns() []string {
	return []string{"time", "comm", "pid", "remote", "outcome", "n", "user", "cmdline"}
}

const tailSQL = `SELECT segment, id, time_ns, time, comm, pid,
` + remoteAndOutcome + `,
  count AS n, user, coalesce(nullif(cmdline, ''), '[' || comm || ']') AS cmdline
FROM connections
WHERE time_ns > :from`

// sql returns the question with its parameters.
func (t *Tail) sql(tail string) Request {
	r := Request{SQL: tailSQL, Params: map[string]Value{}}
	f := &t.filter
	add := func(condition, name string, v Value) {
		r.SQL += "\n  AND (" + condition + ")"
		r.Params[name] = v
	}
	text := func(s string) Value { return Value{Kind: Text, Bytes: []byte(s)} }
	number := func(n int64) Value { return Value{Kind: Integer, Int: n} }
	if !f.All {
		r.SQL += "\n  AND family <> 'unspec' AND NOT (type = 'dgram' AND remote_port IS 0)"
	}
	if f.Exe != "" {
		add("exe = :exe OR comm = :exe OR substr(exe, -length(:exe) - 1) = '/' || :exe", "exe", text(f.Exe))
	}
	switch {
	case strings.HasPrefix(f.To, "/") || strings.HasPrefix(f.To, "@"):
		add("family = 'unix' AND remote_address = :to", "to", text(f.To))
	case f.To != "":
		add("family IN ('ipv4', 'ipv6') AND cidr_match(remote_address, :to)", "to", text(f.To))
	}
	if f.Port > 0 {
		add("remote_port = :port", "port", number(f.Port))
	}
	if f.PID > 0 {
		add("pid = :pid", "pid", number(f.PID))
	}
	if f.User != "" {
		add("user = :user", "user", text(f.User))
	}
	if f.Container != "" {
		add("instr(container, :container) > 0", "container", text(f.Container))
	}
	if f.Outcome != "" {
		add("outcome = :outcome", "outcome", text(f.Outcome))
	}
	if f.Where != "" {
		r.SQL += "\n  AND (" + f.Where + "\n)"
	}
	r.SQL += tail
	return r
}

// Check makes sure that the filter can be asked, and returns the UsageError that
// says why it cannot.
func (t *Tail) Check(ctx context.Context, conn *sqlite.Conn, clock Clock) error {
	if f := t.filter.To; f != "" && f[0] != '/' && f[0] != '@' {
		if _, ok := ParsePrefix(f); !ok {
			return usagef("try 192.0.2.1, 192.0.2.0/24 or /run/docker.sock", "cannot read address %q", f)
		}
	}
	r := t.sql("\nLIMIT 0")
	r.Clock, r.Params["from"] = clock, Value{Kind: Integer}
	_, err := Run(ctx, conn, r, eachRow(func([]Value) error { return nil }))
	return err
}

// Back moves the beginning of the tail back, so that it begins with the newest n
// connections.
func (t *Tail) Back(ctx context.Context, conn *sqlite.Conn, n int64, clock Clock) error {
	r := t.sql("\nORDER BY time_ns DESC LIMIT :lines")
	r.Clock, r.Params["from"], r.Params["lines"] = clock, Value{Kind: Integer, Int: -1 << 63}, Value{Kind: Integer, Int: n}
	_, err := Run(ctx, conn, r, eachRow(func(row []Value) error {
		t.last = min(t.last, row[2].Int-1)
		return nil
	}))
	return err
}

// errShown ends a look when enough was shown.
var errShown = errors.New("enough was shown")

// Look writes what was not shown yet, oldest first, at most limit rows (0 for all),
// and returns how many. out gets Begin and End each time.
func (t *Tail) Look(ctx context.Context, conn *sqlite.Conn, clock Clock, limit int64, out RowWriter) (int64, error) {
	r := t.sql("\nORDER BY time_ns, segment")
	from := t.last
	if len(t.shown) > 0 {
		from -= int64(lateness)
	}
	r.Clock, r.Params["from"] = clock, Value{Kind: Integer, Int: from}
	if err := out.Begin(TailColumns()); err != nil {
		return 0, err
	}
	var n int64
	newest := t.last
	_, err := Run(ctx, conn, r, eachRow(func(row []Value) error {
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
