package query

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

	"github.com/conntape/conntape/store/failure"
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

// An endpoint that a damaged table has for one reader and not for another is said: pages are
// read here of one tape, and SQL is asked of another, with fewer endpoints.
func TestContactOfLostEndpoint(t *testing.T) {
	tape, other := generated(t, 5_000, 2), generated(t, 5, 2)
	table := &contactTable{view: newKnownView()}
	table.columns[ofRemote] = []string{"remote_address"}
	s := &segmentSource{Source: Sources(tape)[0]}
	s.use = Sources(other)[0].use
	m := &contactMerger{ctx: t.Context(), table: table, segment: s, families: idTable{numbers: make(map[int64]int32)}}
	for id := range int64(mostListed + 10) {
		s.remotes.add(id)
		m.rows = append(m.rows, contactRow{remote: int32(id)})
	}
	m.begin(s, 0, 0)
	if err := m.readRemotes(); !errors.Is(err, failure.ErrDamaged) {
		t.Errorf("%v", err)
	}
}

// Any number of tasks can be asked for.
func TestReachedByManyTasks(t *testing.T) {
	tape := generated(t, 5_000, 2)
	s := &segmentSource{Source: Sources(tape)[0]}
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
		row := mergedRow{task: rand.Int32N(40), remote: rand.Int32N(300), how: rand.Int32N(5), segment: rand.Int32N(3), found: at(), n: 1 + rand.Int64N(3), rows: 1, moments: moments{at(), at(), at(), at(), at(), at()}}
		rows.add(row)
		k := key{row.task, row.remote, row.how}
		is, known := want[k]
		if !known {
			want[k] = row
			continue
		}
		is.n, is.rows = is.n+row.n, is.rows+1
		is.first, is.firstWall, is.ended = min(is.first, row.first), min(is.firstWall, row.firstWall), min(is.ended, row.ended)
		is.newest, is.newestWall, is.lastWall = max(is.newest, row.newest), max(is.newestWall, row.newestWall), max(is.lastWall, row.lastWall)
		if row.segment < is.segment || row.segment == is.segment && row.found < is.found {
			is.segment, is.found = row.segment, row.found
		}
		want[k] = is
	}
	rows.sort(false)
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
	rows.sort(true)
	for i, at := range rows.order[1:] {
		if row := rows.at(at); row.before(rows.at(rows.order[i])) {
			t.Fatalf("%+v after %+v", row, rows.at(rows.order[i]))
		}
	}
}

// What a table holds beside its rows is what the rows have, and no more: of shapes only those.
func TestContactsHoldWhatTheyNeed(t *testing.T) {
	tape := generated(t, 10_000, 3)
	table, err := newContactTable(t.Context(), tape, "contact", Window{}, chooseIndicator("22"))
	if err != nil {
		t.Fatal(err)
	}
	const columns = "type, protocol, via, address_source, hook_errno, errno, backend, socket_family, addrlen, outcome"
	count := func(from string) (n int64) {
		err := each(context.Background(), tape.Conn(), "SELECT count(*) FROM (SELECT DISTINCT "+columns+" FROM "+from+")", func(row []Value) { n = row[0].Int })
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	asked, all := count("contact"), count("connections")
	if want := count("connections WHERE remote_port = 22"); asked != want || int64(len(table.hows.cells)) != want || want >= all {
		t.Errorf("%d, of which %d are held, want %d of %d", asked, len(table.hows.cells), want, all)
	}
}

// A text that many have is kept once, and texts that look alike when they are shown are different.
func TestDictionarySharesTexts(t *testing.T) {
	var mu sync.Mutex
	var d dictionary
	cmdline := strings.Repeat("x", 16_000)
	for i := range 1000 {
		if got := d.number(&mu, []Value{textValue(fmt.Sprint("thread", i)), textValue(cmdline)}); got != int32(i) {
			t.Fatalf("%d is %d", i, got)
		}
	}
	if first, last := d.cells[0][1].Text(), d.cells[999][1].Text(); first != cmdline || unsafe.StringData(first) != unsafe.StringData(last) {
		t.Error("the text is kept more than once")
	}
	length := 0
	for key := range d.numbers {
		length += len(key)
	}
	if length > 10_000 {
		t.Errorf("keys of %d bytes", length)
	}
	before := len(d.cells)
	for i, v := range []Value{textValue("\x1b"), textValue(`\x1b`), textValue("1"), intValue(1), {Kind: Real, Real: 1}, {Kind: Blob, Bytes: []byte("1")}, {}} {
		for range 2 {
			if got := int(d.number(&mu, []Value{v, v})); got != before+i {
				t.Errorf("%d is %d", i, got-before)
			}
		}
	}
}
