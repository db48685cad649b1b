package store

import (
	"fmt"
	"strings"
	"time"
)

// Bound narrows the public views to the window from since, which is inside it,
// to until, which is not: connections to those whose time_ns lies in it, gaps to
// those that overlap it. processes, endpoints and segments stay whole. A zero
// time leaves that end open, and two of them lift the bounds.
func (t *Tape) Bound(since, until time.Time) error {
	if err := t.conn.SetAuthorizer(nil); err != nil {
		return &Error{Op: "bound views", Path: t.dir, Err: err}
	}
	err := t.rebuildViews(since, until)
	if hardened := harden(t.conn); err == nil {
		err = hardened
	}
	if err != nil {
		return &Error{Op: "bound views", Path: t.dir, Err: err}
	}
	return nil
}

func (t *Tape) rebuildViews(since, until time.Time) error {
	if err := execOn(t.conn, nil, "PRAGMA query_only = OFF"); err != nil {
		return err
	}
	var schemas []map[string]string
	for _, seg := range t.segs {
		schema, err := expectedSchema(seg.info.SchemaVersion)
		if err != nil {
			return err
		}
		schemas = append(schemas, schema)
	}
	for _, name := range []string{"connections", "gaps"} {
		view, err := tempView(name, schemas, t.segs, within(name, since, until))
		if err != nil {
			return err
		}
		if err := execOn(t.conn, nil, "DROP VIEW temp."+name); err != nil {
			return err
		}
		if err := execOn(t.conn, nil, view); err != nil {
			return err
		}
	}
	return nil
}

// within returns the condition that a row of a view is in the window, "" when
// every row is.
func within(view string, since, until time.Time) string {
	from, to := "time_ns >= %d", "time_ns < %d"
	if view == "gaps" {
		from, to = "coalesce(to_ns >= %d, 1)", "coalesce(from_ns < %d, 1)"
	}
	var conditions []string
	if !since.IsZero() {
		conditions = append(conditions, fmt.Sprintf(from, since.UnixNano()))
	}
	if !until.IsZero() {
		conditions = append(conditions, fmt.Sprintf(to, until.UnixNano()))
	}
	return strings.Join(conditions, " AND ")
}
