package query

import (
	"context"
	"regexp"
	"strconv"
	"strings"

	"zombiezen.com/go/sqlite"
)

// SQLite checks a condition on a joined table only after the join: for an address it may read every connection of an
// open segment. So the selective side is resolved first, to ids in a segment's tables, and the question is asked over
// the flows of these (condense.go), without segments that have none.
//
// This file and the plans know the tables under the public views, of schema version 1.

// withTable puts a common table expression before a question.
func withTable(table, sql string) string {
	rest := skipBlank(sql)
	if m := withForm.FindStringSubmatch(rest); m != nil {
		return m[1] + table + ", " + rest[len(m[0]):]
	}
	return "WITH " + table + "\n" + rest
}

var withForm = regexp.MustCompile(`(?i)^(WITH\s+(?:RECURSIVE\s+)?)`)

// each runs an internal query and passes on its rows.
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
	if p.canned.Narrowing == "" {
		return r, nil
	}
	choose, err := p.chooser(ctx)
	if err != nil || choose == nil {
		return r, err
	}
	if p.contacts, err = newContactTable(ctx, p.tape, "contact", p.window, choose); err != nil {
		return r, err
	}
	if p.canned.Narrowing == "indicator" {
		p.places = make(map[int64][]int64)
		for _, s := range p.contacts.chosen {
			p.places[int64(s.Number)] = s.about.remotes
		}
	}
	if p.places != nil {
		if err := p.readPlaces(ctx); err != nil {
			return r, err
		}
		r.SQL = withTable("endpoints AS (SELECT * FROM place)", r.SQL)
	}
	r.SQL = withTable("connections AS NOT MATERIALIZED (SELECT * FROM contact)", r.SQL)
	return r, nil
}

// readPlaces attaches the endpoints that the question can be about as table place.
func (p *Planned) readPlaces(ctx context.Context) error {
	rows, err := rowsOf(ctx, p.sources, func(s *Source) string {
		if ids := p.places[int64(s.Number)]; len(ids) > 0 {
			return `SELECT * FROM endpoints WHERE id IN (` + joinInts(ids) + `)`
		}
		return ""
	})
	if err != nil {
		return err
	}
	return p.tape.Table("place", "endpoints", &rowTable{rows: rows})
}

// isSealed reports whether a segment has postings.
func (s *Source) isSealed(ctx context.Context) (bool, error) {
	tables := 0
	err := s.scan(ctx, `SELECT count(*) FROM sqlite_schema WHERE name IN ('seal', 'posting', 'reach')`,
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
