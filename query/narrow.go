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
// tables, and the view is put before the question again with a condition on the
// connections themselves, and without the segments that have none.
//
// This file, and those of the plans, know tables beneath the public views: those of
// schema version 1. Where a view is not of the form that it knows it leaves the question as it is: the
// answer is the same, later.

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
	view := n.table(parts, "connections")
	rest := skipBlank(sql)
	if m := withForm.FindStringSubmatch(rest); m != nil {
		return m[1] + view + ", " + rest[len(m[0]):]
	}
	return "WITH " + view + "\n" + rest
}

// table returns the narrowed view as a common table expression of that name.
func (n narrowing) table(parts map[string]string, name string) string {
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
	return name + " AS (\n" + strings.Join(bodies, "\nUNION ALL\n") + "\n)"
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

// Narrow rewrites a canned question so that it reads no more than it must. What it
// cannot make better it leaves as it is.
func (c *Canned) Narrow(ctx context.Context, conn *sqlite.Conn, r Request, w Window) (Request, error) {
	if c.Narrowing == "" {
		return r, nil
	}
	parts := viewParts(ctx, conn)
	if parts == nil {
		return r, nil
	}
	var n narrowing
	var err error
	switch c.Narrowing {
	case "newest":
		n, err = narrowNewest(ctx, conn, parts, r.Params[LimitParam].Int, w)
	case "indicator":
		n, err = narrowIndicator(ctx, conn, parts, string(r.Params["indicator"].Bytes))
	case "process":
		n, err = narrowProcess(ctx, conn, parts, r.Params["process"].Int)
	default:
		err = fmt.Errorf("narrow query %s: unknown way %q", c.Name, c.Narrowing)
	}
	if err != nil || n == nil {
		return r, err
	}
	r.SQL = n.apply(parts, r.SQL)
	return r, nil
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

// narrowIndicator keeps the connections to the endpoints that an indicator matches.
func narrowIndicator(ctx context.Context, conn *sqlite.Conn, parts map[string]string, indicator string) (narrowing, error) {
	where, params := "address = :p1", []Value{{Kind: Text, Bytes: []byte(indicator)}}
	port, portErr := strconv.ParseUint(indicator, 10, 63)
	prefix, isAddress := ParsePrefix(indicator)
	switch {
	case portErr == nil && strings.Trim(indicator, "0123456789") == "":
		where, params = "port = :p1", []Value{{Kind: Integer, Int: int64(port)}}
	case strings.HasPrefix(indicator, "/") || strings.HasPrefix(indicator, "@"):
	case isAddress:
		start := textStart(prefix)
		where = "(address BETWEEN :p1 AND :p1 || '~' OR address BETWEEN '::ffff:' || :p1 AND '::ffff:' || :p1 || '~') AND family IN (2, 10) AND cidr_match(address, :p2)"
		params = []Value{{Kind: Text, Bytes: []byte(start)}, {Kind: Text, Bytes: []byte(indicator)}}
	default:
		return nil, nil // the question says what is wrong with it
	}
	ids := make(map[string][]int64)
	for segment := range parts {
		err := each(ctx, conn, `SELECT id FROM `+segment+`.endpoint WHERE `+where, func(row []Value) { ids[segment] = append(ids[segment], row[0].Int) }, params...)
		if err != nil {
			return nil, err
		}
	}
	return narrowRemotes(ids), nil
}

// narrowRemotes keeps the connections to endpoints, by segment.
func narrowRemotes(ids map[string][]int64) narrowing {
	n := make(narrowing)
	for segment, list := range ids {
		if len(list) > 0 {
			n[segment] = "c.remote IN (" + joinInts(list) + ")"
		}
	}
	return n
}

// narrowProcess keeps the connections of a process, named by its pid or id, and of
// its ancestors and descendants.
func narrowProcess(ctx context.Context, conn *sqlite.Conn, parts map[string]string, process int64) (narrowing, error) {
	children, parents, pids := make(map[int64][]int64), make(map[int64]int64), make(map[int64]int64)
	err := each(ctx, conn, `SELECT DISTINCT process_id, parent_id, pid FROM processes`, func(row []Value) {
		id := row[0].Int
		pids[id] = row[2].Int
		if row[1].Kind == Integer {
			parents[id] = row[1].Int
			children[row[1].Int] = append(children[row[1].Int], id)
		}
	})
	if err != nil {
		return nil, err
	}
	members := make(map[int64]bool)
	var down func(int64)
	down = func(id int64) {
		if members[id] {
			return
		}
		members[id] = true
		for _, child := range children[id] {
			down(child)
		}
	}
	var origins []int64
	for id, pid := range pids {
		if pid == process || id == process {
			origins = append(origins, id)
		}
	}
	for _, origin := range origins {
		down(origin)
	}
	for _, origin := range origins {
		for id, ok := parents[origin]; ok && !members[id]; id, ok = parents[id] {
			members[id] = true
		}
	}
	list := make([]int64, 0, len(members))
	for id := range members {
		list = append(list, id)
	}
	slices.Sort(list)
	return narrowProcesses(ctx, conn, parts, list)
}

// narrowProcesses keeps the connections of processes. A sealed segment tells in
// which hours each of their threads connected, so that no other is read.
func narrowProcesses(ctx context.Context, conn *sqlite.Conn, parts map[string]string, processes []int64) (narrowing, error) {
	n := make(narrowing)
	for segment := range parts {
		var tasks []int64
		err := each(ctx, conn, `SELECT id FROM `+segment+`.task WHERE process IN (`+joinInts(processes)+`)`, func(row []Value) { tasks = append(tasks, row[0].Int) })
		if err != nil {
			return nil, err
		}
		if len(tasks) == 0 {
			continue
		}
		condition := "c.task IN (" + joinInts(tasks) + ")"
		sealed, err := isSealed(ctx, conn, segment)
		if err != nil {
			return nil, err
		}
		if sealed {
			spans, err := activeSpans(ctx, conn, segment, tasks)
			if err != nil {
				return nil, err
			}
			condition = "c.id IN (SELECT x.id FROM json_each('" + spans + "') AS span CROSS JOIN " + segment + ".connection x" +
				" ON x.id BETWEEN span.value ->> 0 AND span.value ->> 1 WHERE x.task IN (" + joinInts(tasks) + "))"
		}
		n[segment] = condition
	}
	return n, nil
}

// activeSpans returns when tasks connected, as JSON: [[from, to], …], apart from
// each other.
func activeSpans(ctx context.Context, conn *sqlite.Conn, segment string, tasks []int64) (string, error) {
	var spans [][2]int64
	err := each(ctx, conn, `SELECT first_ns, last_ns FROM `+segment+`.activity WHERE task IN (`+joinInts(tasks)+`) ORDER BY first_ns`, func(row []Value) {
		if last := len(spans) - 1; last >= 0 && row[0].Int <= spans[last][1] {
			spans[last][1] = max(spans[last][1], row[1].Int)
			return
		}
		spans = append(spans, [2]int64{row[0].Int, row[1].Int})
	})
	var texts []string
	for _, s := range spans {
		texts = append(texts, fmt.Sprintf("[%d,%d]", s[0], s[1]))
	}
	return "[" + strings.Join(texts, ",") + "]", err
}

// isSealed reports whether a segment has the postings of sealing.
func isSealed(ctx context.Context, conn *sqlite.Conn, segment string) (bool, error) {
	tables := 0
	err := each(ctx, conn, `SELECT count(*) FROM `+segment+`.sqlite_schema WHERE name IN ('seal', 'posting', 'reach')`,
		func(row []Value) { tables = int(row[0].Int) })
	return tables == 3, err
}

func joinInts(list []int64) string {
	texts := make([]string, len(list))
	for i, n := range list {
		texts[i] = strconv.FormatInt(n, 10)
	}
	return strings.Join(texts, ",")
}
