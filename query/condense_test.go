package query

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/conntape/conntape/store"
)

// A time is written the short way as it is the long way, also one before 1970.
func TestTimeText(t *testing.T) {
	var text timeText
	second := int64(0)
	for i := range 20_000 {
		if i%3 == 0 {
			second = rand.Int64()
			if i%2 == 0 {
				second = -second
			}
		}
		ns := second + rand.Int64N(3_000_000_000)
		if got, want := string(text.of(ns)), wallString(ns); got != want {
			t.Fatalf("%d: %s, want %s", ns, got, want)
		}
	}
}

// An endpoint that a damaged table has for one reader and not for another is said.
func TestContactOfLostEndpoint(t *testing.T) {
	table := &contactTable{used: 1, cells: []contactCell{{ofRemote, 0}}, view: &knownView{columns: []string{"remote_address"}}}
	if number, isNew := table.remotes.keyed(&table.mu, []byte("key")); number != 0 || !isNew {
		t.Fatal(number, isNew)
	}
	table.rows.add(mergedRow{n: 1})
	table.rows.sort()
	if _, err := (&contactCursor{table: table}).Column(0, false); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("%v", err)
	}
}

// Rows that are alike are one, whatever their number, and the oldest comes first.
func TestMergedRows(t *testing.T) {
	type key struct{ task, remote, how int32 }
	want := make(map[key]mergedRow)
	var rows mergedRows
	for range 200_000 {
		row := mergedRow{rand.Int32N(40), rand.Int32N(300), rand.Int32N(5), rand.Int64N(1000), 1 + rand.Int64N(3), rand.Int64N(1000), rand.Int64N(1000)}
		rows.add(row)
		k := key{row.task, row.remote, row.how}
		is, known := want[k]
		if !known {
			want[k] = row
			continue
		}
		is.first, is.n = min(is.first, row.first), is.n+row.n
		is.firstWall, is.lastWall = min(is.firstWall, row.firstWall), max(is.lastWall, row.lastWall)
		want[k] = is
	}
	rows.sort()
	if len(rows.order) != len(want) || len(want) < 50_000 {
		t.Fatalf("%d rows, want %d", len(rows.order), len(want))
	}
	before := int64(-1)
	for _, i := range rows.order {
		row := *rows.at(i)
		if row != want[key{row.task, row.remote, row.how}] || row.first < before {
			t.Fatalf("%+v after %d, want %+v", row, before, want[key{row.task, row.remote, row.how}])
		}
		before = row.first
	}
}
