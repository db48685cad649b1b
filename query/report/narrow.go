package report

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/indicator"
	"github.com/conntape/conntape/query/table"
)

// SQLite checks a condition on a joined table only after the join: for an address it may read every connection of an
// open segment. So the selective side is resolved first, to ids in a segment's tables, and the question is asked over
// the flows of these (condense.go), without segments that have none.
//
// This file and the plans know the tables under the public views, of schema version 1.

// withTable puts a common table expression before a question.
func withTable(table, sql string) string {
	rest := ask.SkipBlank(sql)
	if m := withForm.FindStringSubmatch(rest); m != nil {
		return m[1] + table + ", " + rest[len(m[0]):]
	}
	return "WITH " + table + "\n" + rest
}

var withForm = regexp.MustCompile(`(?i)^(WITH\s+(?:RECURSIVE\s+)?)`)

// narrow rewrites a canned question so that it reads no more than it must. What it
// cannot make better it leaves as it is.
func (p *Planned) narrow(ctx context.Context) (ask.Request, error) {
	r := p.request
	if p.canned.Narrowing == "" {
		return r, nil
	}
	choose, err := p.chooser(ctx)
	if err != nil || choose == nil {
		return r, err
	}
	if p.contacts, err = table.NewContactTable(ctx, p.tape, "contact", p.window, choose); err != nil {
		return r, err
	}
	if p.canned.Narrowing == "indicator" {
		p.places = make(map[int64][]int64)
		for _, s := range p.contacts.Chosen {
			p.places[int64(s.Number)] = s.About.Remotes
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
	rows, err := table.RowsOf(ctx, p.sources, func(s *table.Source) string {
		if ids := p.places[int64(s.Number)]; len(ids) > 0 {
			return `SELECT * FROM endpoints WHERE id IN (` + table.JoinInts(ids) + `)`
		}
		return ""
	})
	if err != nil {
		return err
	}
	return p.tape.Table("place", "endpoints", &table.RowTable{Rows: rows})
}

// chooser returns the question's chooser, nil if it has none.
func (p *Planned) chooser(ctx context.Context) (table.Chooser, error) {
	what, where, _ := strings.Cut(p.canned.Narrowing, " WHERE ")
	switch what {
	case "indicator":
		if indicator.IsDigest(p.text("indicator")) {
			return nil, nil // its processes are found by the index as it is
		}
		return table.ChooseIndicator(p.text("indicator")), p.checkUnixAsked(ctx, p.text("indicator"))
	case "processes":
		processes := make(map[int64]bool)
		err := ask.Each(ctx, p.main, p.canned.tables()+`SELECT DISTINCT process_id FROM processes WHERE `+where, func(row []format.Value) { processes[row[0].Int] = true })
		return table.ChooseProcesses(processes), err
	case "endpoints":
		p.places = make(map[int64][]int64)
		err := ask.Each(ctx, p.main, p.canned.tables()+`SELECT segment, id FROM endpoints WHERE `+where, func(row []format.Value) {
			p.places[row[0].Int] = append(p.places[row[0].Int], row[1].Int)
		})
		return func(ctx context.Context, s *table.SegmentSource) (*table.Selection, error) {
			remotes, err := s.AskedFor(ctx, p.places[int64(s.Number)])
			return table.OfRemotes(remotes), err
		}, err
	case "tasks":
		return table.ChooseTasks(where), nil
	case "shapes":
		return table.ChooseShapes(where), nil
	}
	return nil, fmt.Errorf("narrow query %s: unknown way %q", p.canned.Name, p.canned.Narrowing)
}

// tables returns the common table expressions of a query: the text before the last SELECT at the start of a line.
func (c *Canned) tables() string {
	return c.Source[:max(0, strings.LastIndex(c.Source, "\nSELECT\n"))] + "\n"
}
