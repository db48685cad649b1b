package store

import (
	"fmt"
	"strings"
)

// Readers do not use the views that are in the files of a tape: they make their
// own, over the tables of every attached segment, from the same text, in which a name
// after FROM or JOIN is a table and nothing else.

// publicViews are the public schema.
var publicViews = []string{"connections", "processes", "endpoints", "gaps", "segments"}

// tempView returns the statement that makes view name over the segments, oldest
// first, of the rows for which where holds ("" of all). The condition is part of
// each segment's own SELECT, where one on time_ns is a range of rowids. With one
// segment there is no UNION, and the planner sees plain tables.
func tempView(name string, schemas []map[string]string, segs []*openSegment, where string) (string, error) {
	var parts []string
	for i, seg := range segs {
		_, body, ok := strings.Cut(schemas[i][name], " AS\n")
		if !ok {
			return "", fmt.Errorf("find view %s in schema version %d", name, seg.info.SchemaVersion)
		}
		body = strings.NewReplacer("FROM ", "FROM "+seg.schema+".", "JOIN ", "JOIN "+seg.schema+".").Replace(body)
		if name == "gaps" && i+1 < len(segs) {
			// What an earlier segment left open ended when the next one began.
			body = strings.ReplaceAll(body, "g.to_ns", fmt.Sprintf("coalesce(g.to_ns, %d)", segs[i+1].created))
		}
		if where != "" {
			body = "SELECT * FROM (\n" + body + "\n) WHERE " + where
		}
		parts = append(parts, body)
	}
	return "CREATE TEMP VIEW " + name + " AS\n" + strings.Join(parts, "\nUNION ALL\n"), nil
}
