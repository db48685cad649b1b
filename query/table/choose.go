package table

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/store/posting"
	"github.com/conntape/conntape/store/segment"
)

// Before flows are read, small tables decide which endpoints, tasks and shapes of a segment a question can be about.

// Selection lists the rows of one segment that a question can be about.
type Selection struct {
	Remotes, tasks []int64 // nil: any
	shapes         string  // condition on table shape, "": any
}

// Chooser returns the rows of a segment that a question can be about, nil: none.
type Chooser func(context.Context, *SegmentSource) (*Selection, error)

func OfRemotes(remotes []int64) *Selection {
	if len(remotes) == 0 {
		return nil
	}
	return &Selection{Remotes: remotes}
}

func ofTasks(tasks []int64) *Selection {
	if len(tasks) == 0 {
		return nil
	}
	return &Selection{tasks: tasks}
}

// list returns the ids that an internal query selects.
func (s *SegmentSource) list(ctx context.Context, sql string, params ...format.Value) ([]int64, error) {
	var ids []int64
	if len(params) == 0 {
		err := s.scan(ctx, sql, func(row *sqlite.Stmt) { ids = append(ids, row.ColumnInt64(0)) })
		return ids, err
	}
	err := s.each(ctx, sql, func(row []format.Value) { ids = append(ids, row[0].Int) }, params...)
	return ids, err
}

// ChooseTasks chooses the tasks (t, with p for the process) that a condition is true of.
func ChooseTasks(where string) Chooser {
	return func(ctx context.Context, s *SegmentSource) (*Selection, error) {
		tasks, err := s.list(ctx, `SELECT t.id FROM task t JOIN process p ON p.id = t.process WHERE `+where)
		return ofTasks(tasks), err
	}
}

// ChooseShapes chooses the shapes that a condition is true of.
func ChooseShapes(where string) Chooser {
	return func(context.Context, *SegmentSource) (*Selection, error) { return &Selection{shapes: where}, nil }
}

// ChooseProcesses chooses the tasks of processes.
func ChooseProcesses(processes map[int64]bool) Chooser {
	return func(ctx context.Context, s *SegmentSource) (*Selection, error) {
		var tasks []int64
		err := s.scan(ctx, `SELECT id, process FROM task`, func(row *sqlite.Stmt) {
			if processes[row.ColumnInt64(1)] {
				tasks = append(tasks, row.ColumnInt64(0))
			}
		})
		return ofTasks(tasks), err
	}
}

// Family returns a process, given by pid or id, with its ancestors and descendants. If segments disagree about a parent,
// because it ended before a recorder was restarted, all of them count.
func Family(ctx context.Context, sources []Source, process int64) (map[int64]bool, error) {
	var mu sync.Mutex
	var origins []int64
	parents, children := make(map[int64][]int64), make(map[int64][]int64)
	err := inParallel(ctx, describable(sources), func(ctx context.Context, _ int, s *SegmentSource) error {
		return s.scan(ctx, `SELECT id, tgid, parent FROM process`, func(row *sqlite.Stmt) {
			mu.Lock()
			defer mu.Unlock()
			id, parent := row.ColumnInt64(0), row.ColumnInt64(2)
			if id == process || row.ColumnInt64(1) == process {
				origins = append(origins, id)
			}
			if row.ColumnType(2) == sqlite.TypeInteger && !slices.Contains(parents[id], parent) {
				parents[id], children[parent] = append(parents[id], parent), append(children[parent], id)
			}
		})
	})
	members := make(map[int64]bool)
	for _, relatives := range []map[int64][]int64{parents, children} {
		reached := make(map[int64]bool)
		for next := slices.Clone(origins); len(next) > 0; {
			id := next[len(next)-1]
			next = next[:len(next)-1]
			if !reached[id] {
				reached[id], members[id] = true, true
				next = append(next, relatives[id]...)
			}
		}
	}
	return members, err
}

// chosen reads the contacts of a selection.
func (s *SegmentSource) chosen(ctx context.Context, sel *Selection, from, to int64, reader ContactReader) error {
	remotes, spans, err := s.number(ctx, sel, from, to)
	switch {
	case err != nil || from >= to:
		return err
	case s.sealed:
		return s.posted(ctx, remotes, from, to, reader)
	}
	return s.sorted(ctx, spans, reader)
}

// number numbers what a selection is about, and returns where the contacts are: at
// which endpoints of a sealed segment, nil: at any, or at which connections of another.
func (s *SegmentSource) number(ctx context.Context, sel *Selection, from, to int64) (remotes []int64, spans []IDSpan, err error) {
	remotes = sel.Remotes
	if remotes == nil && sel.tasks != nil && s.sealed {
		if remotes, err = s.reached(ctx, sel.tasks); err != nil {
			return nil, nil, err
		}
	}
	shapes := `SELECT id FROM shape`
	if sel.shapes != "" {
		shapes += ` WHERE ` + sel.shapes
	}
	for _, of := range []struct {
		numbers *numbering
		ids     []int64
		all     string
	}{{&s.tasks, sel.tasks, `SELECT id FROM task`}, {&s.remotes, remotes, `SELECT id FROM endpoint`}, {&s.shapes, nil, shapes}} {
		for _, id := range of.ids {
			of.numbers.add(id)
		}
		if of.ids == nil {
			if err := s.scan(ctx, of.all, func(row *sqlite.Stmt) { of.numbers.add(row.ColumnInt64(0)) }); err != nil {
				return nil, nil, err
			}
		}
	}
	if !s.sealed {
		s.wanted = segment.Wanted{Tasks: bitmap(sel.tasks), Remotes: bitmap(sel.Remotes)}
		spans, err = s.spans(ctx, sel, from, to)
		return nil, spans, err
	}
	slices.Sort(remotes)
	if len(sel.tasks) > 0 {
		s.lastTask = slices.Max(sel.tasks)
	}
	return remotes, nil, nil
}

// highestID limits the ids in a bitmap. A normal segment's ids are far below.
const highestID = 1 << 22

// bitmap returns the set of ids as a bitmap, nil for a nil list or one with higher ids.
func bitmap(ids []int64) []bool {
	if len(ids) == 0 || slices.Min(ids) < 0 || slices.Max(ids) > highestID {
		return nil
	}
	has := make([]bool, slices.Max(ids)+1)
	for _, id := range ids {
		has[id] = true
	}
	return has
}

// reached returns the endpoints of tasks.
func (s *SegmentSource) reached(ctx context.Context, tasks []int64) ([]int64, error) {
	slices.Sort(tasks)
	sql := `SELECT task, remotes FROM reach`
	if len(tasks) <= s.Tape.Limits.Listed {
		sql += ` WHERE task IN (` + JoinInts(tasks) + `)`
	}
	remotes := []int64{}
	var failed error
	err := s.scan(ctx, sql, func(row *sqlite.Stmt) {
		if _, asked := slices.BinarySearch(tasks, row.ColumnInt64(0)); !asked {
			return
		}
		list := make([]byte, row.ColumnLen(1))
		row.ColumnBytes(1, list)
		for remote, err := range posting.IDs(list) {
			if err != nil {
				failed = fmt.Errorf("read reach of segment %d: %w", s.Number, err)
				return
			}
			remotes = append(remotes, remote)
		}
	})
	slices.Sort(remotes)
	return slices.Compact(remotes), errors.Join(err, failed)
}

// ScanNames calls fn with each endpoint that names led to.
func (s *Source) ScanNames(ctx context.Context, fn func(id int64, names string, port int64)) error {
	return s.scan(ctx, `SELECT id, names, port FROM endpoint WHERE names <> ''`, func(row *sqlite.Stmt) {
		fn(row.ColumnInt64(0), row.ColumnText(1), row.ColumnInt64(2))
	})
}

// UnixCondition is the SQL for a UNIX socket's address; :p1 is the indicator.
const UnixCondition = `(address = :p1 OR substr(:p1, 1, 1) NOT IN ('/', '@') AND substr(address, -1 - length(:p1)) = '/' || :p1)`

// NameCondition is the SQL for the names of an endpoint: one of them is the indicator, :p1, or like it where that has a *.
const NameCondition = `(:p1 GLOB '*[A-Za-z*]*' AND :p1 NOT GLOB '*[^-A-Za-z0-9._*\]*' AND ' ' || names || ' ' GLOB '* ' || lower(rtrim(:p1, '.')) || ' *')`

// ChooseIndicator chooses the endpoints that an indicator matches.
func ChooseIndicator(indicator string) Chooser {
	port, portErr := strconv.ParseUint(indicator, 10, 63)
	prefix, isAddress := ask.ParsePrefix(indicator)
	switch {
	case portErr == nil && strings.Trim(indicator, "0123456789") == "":
		return func(ctx context.Context, s *SegmentSource) (*Selection, error) {
			var remotes []int64
			err := s.Tape.ScanEndpoints(ctx, s.Index, func(id, _ int64, _ []byte, its int64) error {
				if its == int64(port) {
					remotes = append(remotes, id)
				}
				return nil
			})
			if err == nil {
				remotes, err = s.AskedFor(ctx, remotes)
			}
			return OfRemotes(remotes), err
		}
	case isAddress:
		start := ask.TextStart(prefix)
		ranges := []segment.TextRange{{From: start, To: start + "~"}}
		if mapped := "::ffff:" + start; start != "" && !strings.HasPrefix(mapped, start) {
			ranges = append(ranges, segment.TextRange{From: mapped, To: mapped + "~"})
		}
		return func(ctx context.Context, s *SegmentSource) (*Selection, error) {
			if prefix.IsSingleIP() && !s.Tape.MayHave(s.Index, prefix.Addr()) {
				return nil, nil
			}
			var remotes []int64
			err := s.Tape.FindEndpoints(ctx, s.Index, ranges, func(id, family int64, address []byte, _ int64) error {
				if a, ok := ask.ParseAddress(string(address)); ok && (family == FamilyIPv4 || family == FamilyIPv6) && prefix.Contains(a) {
					remotes = append(remotes, id)
				}
				return nil
			})
			if err == nil {
				remotes, err = s.AskedFor(ctx, remotes)
			}
			return OfRemotes(remotes), err
		}
	}
	return func(ctx context.Context, s *SegmentSource) (*Selection, error) {
		remotes, err := s.list(ctx, `SELECT id FROM endpoint WHERE family = 1 AND `+UnixCondition+` OR names <> '' AND `+NameCondition, format.Value{Kind: format.Text, Bytes: []byte(indicator)})
		return OfRemotes(remotes), err
	}
}
