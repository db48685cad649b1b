package query

import (
	"errors"
	"maps"
	"math"
	"slices"
	"testing"

	"github.com/conntape/conntape/store"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// inMemory returns sources over databases that a script makes, with as many segments as are named.
func inMemory(t *testing.T, script string, segments int) []Source {
	t.Helper()
	conn, err := sqlite.OpenConn(":memory:")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	var sources []Source
	for i := range segments {
		s := Source{Conn: conn, Schema: []string{"s1", "s2", "s3"}[i], Number: i + 1}
		sources = append(sources, s)
		script = "ATTACH ':memory:' AS " + s.Schema + ";" + script
	}
	if err := sqlitex.ExecuteScript(conn, script, nil); err != nil {
		t.Fatal(err)
	}
	return sources
}

// A process of which segments tell different parents is of both families, in whatever order segments are read.
func TestFamilyOfTwoParents(t *testing.T) {
	sources := inMemory(t, `
		CREATE TABLE s1.process (id INTEGER PRIMARY KEY, tgid, parent); CREATE TABLE s2.process (id INTEGER PRIMARY KEY, tgid, parent);
		INSERT INTO s1.process VALUES (10, 1, NULL), (20, 2, 10), (30, 3, 20), (40, 4, 30), (50, 5, 10);
		INSERT INTO s2.process VALUES (10, 1, NULL), (30, 3, 10), (40, 4, NULL), (60, 6, 40);`, 2)
	for process, want := range map[int64][]int64{
		3:  {10, 20, 30, 40, 60},
		40: {10, 20, 30, 40, 60},
		2:  {10, 20, 30, 40, 60},
		5:  {10, 50},
		1:  {10, 20, 30, 40, 50, 60},
		7:  nil,
	} {
		for range 2 {
			slices.Reverse(sources)
			members, err := family(t.Context(), sources, process)
			if got := slices.Sorted(maps.Keys(members)); err != nil || !slices.Equal(got, want) {
				t.Errorf("%d: %v, want %v: %v", process, got, want, err)
			}
		}
	}
}

// No clock tells the highest id that there can be: a segment that has it is damaged, and not passed over.
func TestHighestID(t *testing.T) {
	sources := inMemory(t, `
		CREATE TABLE s1.connection (id INTEGER PRIMARY KEY); CREATE TABLE s1.clock (id INTEGER PRIMARY KEY, offset_ns); CREATE TABLE s1.repeat (id INTEGER PRIMARY KEY, count, last_ns);
		INSERT INTO s1.connection VALUES (1), (9223372036854775807);`, 1)
	s := describable(sources)[0]
	if err := s.describe(t.Context()); !errors.Is(err, store.ErrDamaged) || s.last != math.MaxInt64 {
		t.Errorf("%d: %v", s.last, err)
	}
}
