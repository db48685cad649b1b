package store

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/segment"
)

// outcomesBySQL is what ReadOutcomes says, as SQL says it.
const outcomesBySQL = `SELECT id, coalesce((SELECT e.outcome FROM ending e WHERE e.id = connection.id AND e.cookie = 0 ORDER BY e.batch DESC LIMIT 1), outcome)
	FROM connection ORDER BY id`

// TestReadOutcomes: of whichever connections outcomes are read by id, they are those that SQL finds, while the segment is recorded,
// with what was told later in rows of their own, and when it is sealed.
func TestReadOutcomes(t *testing.T) {
	dir := t.TempDir()
	w, _ := recordEndings(t, dir)
	x := newWorld()
	ended := Batch{Now: 119 * second}
	for i := range uint64(20_000) { // more than one branch of the tree has
		c := x.with(113*second+i*1000, 0, FinalEstablished, nil)
		c.Cookie = 1000 + i
		o := closedOutcome()
		o.Sent = int64(i)
		if i%3 == 0 {
			c.Outcome = o
		}
		if i%7 == 0 {
			ended.Endings = append(ended.Endings, Ending{Connect: c.BootTime, Cookie: c.Cookie, Final: FinalEstablished, Outcome: o})
		}
		ended.Connections = append(ended.Connections, c)
	}
	mustAppend(t, w, Batch{Now: 118 * second, Connections: ended.Connections})
	mustAppend(t, w, Batch{Now: 119 * second, Endings: ended.Endings})
	readOutcomesLikeSQL(t, dir, "active")
	if err := w.Rotate(); err != nil {
		t.Fatal(err)
	}
	waitSealed(t, w)
	mustClose(t, w, 123*second)
	readOutcomesLikeSQL(t, dir, "sealed")
}

func readOutcomesLikeSQL(t *testing.T, dir, state string) {
	t.Helper()
	tape := mustOpenTape(t, dir)
	var ids []int64
	want := map[int64]string{}
	err := segment.Exec(connOf(t, tape, 1), func(row *sqlite.Stmt) error {
		ids = append(ids, row.ColumnInt64(0))
		if row.ColumnType(1) != sqlite.TypeNull {
			b := make([]byte, row.ColumnLen(1))
			row.ColumnBytes(1, b)
			want[row.ColumnInt64(0)] = string(b)
		}
		return nil
	}, outcomesBySQL)
	if err != nil || len(want) < 8000 || len(want) == len(ids) {
		t.Fatalf("%s: %d of %d have an outcome, %v", state, len(want), len(ids), err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	asks := map[string][]int64{"none": nil, "all": ids, "first": ids[:1], "last": ids[len(ids)-1:], "before and behind": {-1 << 63, ids[0] - 1, ids[len(ids)-1] + 1, 1<<63 - 1}}
	for _, share := range []float64{0.5, 0.05, 0.001} {
		var some []int64
		for _, id := range ids {
			if random.Float64() < share {
				some = append(some, id, id+1) // the second is mostly no connection
			}
		}
		asks[fmt.Sprint(share)] = slices.Compact(some)
	}
	for name, ask := range asks {
		var got, expected []string
		for _, id := range ask {
			if o, ok := want[id]; ok {
				expected = append(expected, fmt.Sprintf("%d %x", id, o))
			}
		}
		err := tape.ReadOutcomes(t.Context(), 0, ask, func(id int64, outcome []byte) { got = append(got, fmt.Sprintf("%d %x", id, outcome)) })
		if err != nil || !slices.Equal(got, expected) {
			t.Errorf("%s, %s: %v; got %d outcomes, want %d: %.200s, want %.200s", state, name, err, len(got), len(expected), strings.Join(got, ", "), strings.Join(expected, ", "))
		}
	}
}
