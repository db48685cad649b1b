package query

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"zombiezen.com/go/sqlite"
)

// The public view of all connections is a UNION of those of the segments, and a
// condition on what is joined to a connection is looked at only once it is joined:
// for an address, SQLite may read every connection of a segment that has no index
// on it yet. So the selective side is resolved first, to ids of a segment's own
// tables, and the question is asked over the contacts of those (condense.go), or over the
// view with a condition on the connections themselves, without the segments that have none.
//
// This file, and those of the plans, know tables beneath the public views: those of
// schema version 1. Where a view is not of the form that is known the question is left as it is:
// the answer is the same, later.

// narrowing is a condition on table connection, called c, for each segment by the
// name under which it is attached. A segment that is not in it has no connection
// that the question could be about.
type narrowing map[string]string

// viewParts returns the SELECT of the view connections for each segment, nil when
// it is not of the form that is known.
func viewParts(ctx context.Context, conn *sqlite.Conn) map[string]string {
	parts := make(map[string]string)
	err := each(ctx, conn, `SELECT sql FROM temp.sqlite_schema WHERE type = 'view' AND name = 'connections'`, func(row []Value) {
		_, body, _ := strings.Cut(string(row[0].Bytes), " AS\n")
		for _, part := range strings.Split(body, "\nUNION ALL\n") {
			m := viewForm.FindStringSubmatch(part)
			if m == nil || strings.Count(part, lastJoin(m[1])) != 1 {
				clear(parts)
				return
			}
			parts[m[1]] = part
		}
	})
	if err != nil || len(parts) == 0 {
		return nil
	}
	return parts
}

// viewForm finds the segment that a part of the view reads.
var viewForm = regexp.MustCompile(`\nFROM (s[0-9]+)\.connection c\nJOIN `)

// lastJoin is the end of a part of the view, after which a condition may stand.
func lastJoin(segment string) string {
	return "LEFT JOIN " + segment + ".repeat r ON r.id = c.id"
}

// apply puts the narrowed view before a question.
func (n narrowing) apply(parts map[string]string, sql string) string {
	var bodies []string
	for _, segment := range sortedKeysOf(parts) {
		condition, ok := n[segment]
		if !ok {
			continue
		}
		body := parts[segment]
		if condition != "" {
			body = strings.Replace(body, lastJoin(segment), lastJoin(segment)+"\nWHERE "+condition, 1)
		}
		bodies = append(bodies, body)
	}
	if len(bodies) == 0 { // one segment, of which nothing is read, keeps the columns
		for segment, body := range parts {
			bodies = append(bodies, strings.Replace(body, lastJoin(segment), lastJoin(segment)+"\nWHERE 0", 1))
			break
		}
	}
	return withTable("connections AS (\n"+strings.Join(bodies, "\nUNION ALL\n")+"\n)", sql)
}

// withTable puts a common table expression before a question.
func withTable(table, sql string) string {
	rest := skipBlank(sql)
	if m := withForm.FindStringSubmatch(rest); m != nil {
		return m[1] + table + ", " + rest[len(m[0]):]
	}
	return "WITH " + table + "\n" + rest
}

var withForm = regexp.MustCompile(`(?i)^(WITH\s+(?:RECURSIVE\s+)?)`)

// sortedKeysOf returns the segments, oldest first.
func sortedKeysOf(parts map[string]string) []string {
	names := make([]string, 0, len(parts))
	for name := range parts {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return segmentIndex(a) - segmentIndex(b) })
	return names
}

func segmentIndex(name string) int {
	n, _ := strconv.Atoi(strings.TrimPrefix(name, "s"))
	return n
}

// each runs a question of our own and hands over its rows.
func each(ctx context.Context, conn *sqlite.Conn, sql string, row func([]Value), params ...Value) error {
	r := Request{SQL: sql, Params: map[string]Value{}}
	for i, v := range params {
		r.Params["p"+strconv.Itoa(i+1)] = v
	}
	_, err := Run(ctx, conn, r, eachRow(func(values []Value) error { row(values); return nil }))
	return err
}

// narrow rewrites a canned question so that it reads no more than it must. What it
// cannot make better it leaves as it is.
func (p *Planned) narrow(ctx context.Context) (Request, error) {
	r := p.request
	switch p.canned.Narrowing {
	case "":
		return r, nil
	case "newest":
		parts := viewParts(ctx, p.main)
		if parts == nil {
			return r, nil
		}
		n, err := narrowNewest(ctx, p.main, parts, r.Params[LimitParam].Int, p.window)
		if err == nil && n != nil {
			r.SQL = n.apply(parts, r.SQL)
		}
		return r, err
	}
	view := newKnownView(ctx, p.main)
	if view == nil {
		return r, nil
	}
	choose, err := p.chooser(ctx)
	if err != nil || choose == nil {
		return r, err
	}
	if p.places != nil && len(p.places) <= mostListed {
		r.SQL = withTable("endpoints AS (SELECT * FROM temp.endpoints WHERE id IN ("+joinInts(p.places)+"))", r.SQL)
	}
	r.SQL = withTable("connections AS NOT MATERIALIZED (SELECT * FROM contact)", r.SQL)
	p.contacts, err = newContactTable(ctx, p.main, "contact", view, p.sources, p.window, choose)
	return r, err
}

// narrowNewest keeps the newest connections, newest segment first.
func narrowNewest(ctx context.Context, conn *sqlite.Conn, parts map[string]string, limit int64, w Window) (narrowing, error) {
	if limit <= 0 {
		return nil, nil
	}
	n := make(narrowing)
	segments := sortedKeysOf(parts)
	slices.Reverse(segments)
	left := limit
	for _, segment := range segments {
		if left == 0 {
			break
		}
		var oldest, found int64
		until := Value{Kind: Integer, Int: 1<<63 - 1}
		if !w.Until.IsZero() {
			until.Int = w.Until.UnixNano()
		}
		err := each(ctx, conn, `SELECT min(id), count(*) FROM (SELECT id FROM `+segment+`.connection WHERE id < :p1 ORDER BY id DESC LIMIT :p2)`,
			func(row []Value) { oldest, found = row[0].Int, row[1].Int }, until, Value{Kind: Integer, Int: left})
		if err != nil {
			return nil, err
		}
		if found > 0 {
			n[segment] = fmt.Sprintf("c.id >= %d", oldest)
		}
		left -= found
	}
	return n, nil
}

// isSealed reports whether a segment has the postings of sealing.
func isSealed(ctx context.Context, conn *sqlite.Conn, segment string) (bool, error) {
	tables := 0
	err := scan(ctx, conn, `SELECT count(*) FROM `+segment+`.sqlite_schema WHERE name IN ('seal', 'posting', 'reach')`,
		func(row *sqlite.Stmt) { tables = row.ColumnInt(0) })
	return tables == 3, err
}

func joinInts(list []int64) string {
	texts := make([]string, len(list))
	for i, n := range list {
		texts[i] = strconv.FormatInt(n, 10)
	}
	return strings.Join(texts, ",")
}
