package table

import (
	"errors"
	"maps"
	"math"
	"slices"
	"testing"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/conntape/conntape/store/failure"
)

// inMemory returns sources over databases that scripts make.
func inMemory(t *testing.T, scripts ...string) []Source {
	t.Helper()
	var sources []Source
	for i, script := range scripts {
		conn, err := sqlite.OpenConn(":memory:")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		if err := sqlitex.ExecuteScript(conn, script, nil); err != nil {
			t.Fatal(err)
		}
		sources = append(sources, Source{Number: i + 1, lent: func(fn func(*sqlite.Conn) error) error { return fn(conn) }})
	}
	return sources
}

// A process of which segments tell different parents is of both families, in whatever order segments are read.
func TestFamilyOfTwoParents(t *testing.T) {
	sources := inMemory(t, `
		CREATE TABLE process (id INTEGER PRIMARY KEY, tgid, parent);
		INSERT INTO process VALUES (10, 1, NULL), (20, 2, 10), (30, 3, 20), (40, 4, 30), (50, 5, 10);`, `
		CREATE TABLE process (id INTEGER PRIMARY KEY, tgid, parent);
		INSERT INTO process VALUES (10, 1, NULL), (30, 3, 10), (40, 4, NULL), (60, 6, 40);`)
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
			members, err := Family(t.Context(), sources, process)
			if got := slices.Sorted(maps.Keys(members)); err != nil || !slices.Equal(got, want) {
				t.Errorf("%d: %v, want %v: %v", process, got, want, err)
			}
		}
	}
}

// No clock tells the highest id that there can be: a segment that has it is damaged, and not passed over.
func TestHighestID(t *testing.T) {
	sources := inMemory(t, `
		CREATE TABLE connection (id INTEGER PRIMARY KEY); CREATE TABLE clock (id INTEGER PRIMARY KEY, offset_ns); CREATE TABLE repeat (id INTEGER PRIMARY KEY, count, last_ns);
		INSERT INTO connection VALUES (1), (9223372036854775807);`)
	s := describable(sources)[0]
	if err := s.describe(t.Context()); !errors.Is(err, failure.ErrDamaged) || s.Last != math.MaxInt64 {
		t.Errorf("%d: %v", s.Last, err)
	}
}
