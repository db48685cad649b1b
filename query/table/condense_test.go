package table

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/input"
	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/test/testtape"
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
		if got, want := string(text.of(ns)), format.WallString(ns); got != want {
			t.Fatalf("%d: %s, want %s", ns, got, want)
		}
	}
}

// An endpoint that a damaged table has for one reader and not for another is said: pages are
// read here of one tape, and SQL is asked of another, with fewer endpoints.
func TestContactOfLostEndpoint(t *testing.T) {
	tape, other := testtape.Generated(t, 5_000, 2), testtape.Generated(t, 5, 2)
	table := &ContactTable{view: NewKnownView()}
	table.columns[ofRemote] = []string{"remote_address"}
	s := &SegmentSource{Source: Of(tape).Sources()[0]}
	its := Of(other).Sources()[0]
	s.lent = its.use
	m := &contactMerger{ctx: t.Context(), table: table, segment: s, kinds: idTable{numbers: make(map[int64]int32)}}
	for id := range int64(usualLimits.Listed + 10) {
		s.remotes.add(id)
		m.rows = append(m.rows, contactRow{remote: int32(id)})
	}
	m.Begin(s, 0, 0)
	if err := m.readRemotes(); !errors.Is(err, failure.ErrDamaged) {
		t.Errorf("%v", err)
	}
}

// Any number of tasks can be asked for.
func TestReachedByManyTasks(t *testing.T) {
	tape := testtape.Generated(t, 5_000, 2)
	s := &SegmentSource{Source: Of(tape).Sources()[0]}
	tasks, err := s.list(t.Context(), "SELECT id FROM task")
	if err != nil || len(tasks) < 20 {
		t.Fatal(len(tasks), err)
	}
	some := slices.Clone(tasks[:10])
	for _, tasks := range [][]int64{tasks, some} {
		few, err := s.reached(t.Context(), slices.Clone(tasks))
		if err != nil || len(few) == 0 {
			t.Fatal(len(few), err)
		}
		for i := range int64(200_000) {
			tasks = append(tasks, 1_000_000_000_000+i)
		}
		if many, err := s.reached(t.Context(), tasks); err != nil || !slices.Equal(many, few) {
			t.Errorf("%d endpoints, want %d: %v", len(many), len(few), err)
		}
	}
}

// Rows that are alike are one, whatever their number, and the oldest comes first.
func TestMergedRows(t *testing.T) {
	type key struct{ task, remote, how int32 }
	want := make(map[key]mergedRow)
	var rows mergedRows
	for range 200_000 {
		at := func() int64 { return rand.Int64N(1000) }
		row := mergedRow{Task: rand.Int32N(40), Remote: rand.Int32N(300), How: rand.Int32N(5), segment: rand.Int32N(3), found: at(), N: 1 + rand.Int64N(3), rows: 1, moments: moments{at(), at(), at(), at(), at(), at()}}
		rows.add(row)
		k := key{row.Task, row.Remote, row.How}
		is, known := want[k]
		if !known {
			want[k] = row
			continue
		}
		is.N, is.rows = is.N+row.N, is.rows+1
		is.First, is.FirstWall, is.ended = min(is.First, row.First), min(is.FirstWall, row.FirstWall), min(is.ended, row.ended)
		is.newest, is.newestWall, is.lastWall = max(is.newest, row.newest), max(is.newestWall, row.newestWall), max(is.lastWall, row.lastWall)
		if row.segment < is.segment || row.segment == is.segment && row.found < is.found {
			is.segment, is.found = row.segment, row.found
		}
		want[k] = is
	}
	rows.sort(false)
	if len(rows.Order) != len(want) || len(want) < 50_000 {
		t.Fatalf("%d rows, want %d", len(rows.Order), len(want))
	}
	before := int64(-1)
	for _, i := range rows.Order {
		row := *rows.At(i)
		if row != want[key{row.Task, row.Remote, row.How}] || row.First < before {
			t.Fatalf("%+v after %d, want %+v", row, before, want[key{row.Task, row.Remote, row.How}])
		}
		before = row.First
	}
	rows.sort(true)
	for i, at := range rows.Order[1:] {
		if row := rows.At(at); row.before(rows.At(rows.Order[i])) {
			t.Fatalf("%+v after %+v", row, rows.At(rows.Order[i]))
		}
	}
}

// What a table holds beside its rows is what the rows have, and no more: of shapes only those.
func TestContactsHoldWhatTheyNeed(t *testing.T) {
	tape := testtape.Generated(t, 10_000, 3)
	table, err := NewContactTable(t.Context(), Of(tape), "contact", input.Window{}, ChooseIndicator("22"))
	if err != nil {
		t.Fatal(err)
	}
	const columns = "type, protocol, via, address_source, hook_errno, errno, backend, socket_family, addrlen, outcome"
	count := func(from string) (n int64) {
		err := ask.Each(context.Background(), tape.Conn(), "SELECT count(*) FROM (SELECT DISTINCT "+columns+" FROM "+from+")", func(row []format.Value) { n = row[0].Int })
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	asked, all := count("contact"), count("connections")
	if want := count("connections WHERE remote_port = 22"); asked != want || int64(len(table.Hows.Cells)) != want || want >= all {
		t.Errorf("%d, of which %d are held, want %d of %d", asked, len(table.Hows.Cells), want, all)
	}
}

// A text that many have is kept once, and texts that look alike when they are shown are different.
func TestDictionarySharesTexts(t *testing.T) {
	var mu sync.Mutex
	var d dictionary
	cmdline := strings.Repeat("x", 16_000)
	for i := range 1000 {
		if got := d.number(&mu, []format.Value{format.TextValue(fmt.Sprint("thread", i)), format.TextValue(cmdline)}); got != int32(i) {
			t.Fatalf("%d is %d", i, got)
		}
	}
	if first, last := d.Cells[0][1].Text(), d.Cells[999][1].Text(); first != cmdline || unsafe.StringData(first) != unsafe.StringData(last) {
		t.Error("the text is kept more than once")
	}
	length := 0
	for key := range d.numbers {
		length += len(key)
	}
	if length > 10_000 {
		t.Errorf("keys of %d bytes", length)
	}
	before := len(d.Cells)
	for i, v := range []format.Value{format.TextValue("\x1b"), format.TextValue(`\x1b`), format.TextValue("1"), format.IntValue(1), {Kind: format.Real, Real: 1}, {Kind: format.Blob, Bytes: []byte("1")}, {}} {
		for range 2 {
			if got := int(d.number(&mu, []format.Value{v, v})); got != before+i {
				t.Errorf("%d is %d", i, got-before)
			}
		}
	}
}
