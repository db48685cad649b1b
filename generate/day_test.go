package generate

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/store/segment"
)

// demo writes a demonstration tape and returns a function that asks it.
func demo(t *testing.T, seed uint64) func(sql string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tape")
	end := time.Date(2026, 7, 2, 0, 0, 0, 0, time.UTC)
	if n, err := WriteDemo(dir, seed, end); err != nil || n != Demo(seed).Connections {
		t.Fatal(n, err)
	}
	tape, err := store.OpenTape(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tape.Close() })
	return func(sql string) string {
		t.Helper()
		var b strings.Builder
		err := segment.Exec(tape.Conn(), func(q *sqlite.Stmt) error {
			for i := range q.ColumnCount() {
				fmt.Fprint(&b, q.ColumnText(i), " ")
			}
			return nil
		}, sql)
		if err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		return strings.TrimSpace(b.String())
	}
}

// The demonstration is like a tape of a real host: each TCP connection has an end, what is established has bytes, times and the port that
// it came from, public addresses have names, the story its own numbers, and there is what came in. The same seed gives the same day.
func TestDemoIsLikeARealDay(t *testing.T) {
	ask := demo(t, 3)
	for sql, want := range map[string]string{
		`SELECT count(*) FROM connections WHERE protocol = 'tcp' AND outcome IN ('unknown', 'in progress')`:                                                        "0",
		`SELECT count(*) FROM connections WHERE protocol = 'tcp' AND (local_port IS NULL OR local_address IS NULL OR duration_ns IS NULL)`:                         "0",
		`SELECT count(*) FROM connections WHERE protocol = 'tcp' AND outcome = 'established' AND (bytes_sent IS NULL OR rtt_us IS NULL OR established_ns IS NULL)`: "0",
		`SELECT count(*) FROM connections WHERE protocol = 'tcp' AND outcome <> 'established' AND (bytes_sent IS NOT NULL OR established_ns IS NOT NULL)`:          "0",
		`SELECT count(*) FROM connections WHERE remote_ip LIKE '127.%' AND failed`:                                                                                 "0",
		`SELECT count(*) > 20000, count(*) < 29000 FROM connections WHERE outcome = 'established'`:                                                                 "1 1",
		`SELECT count(DISTINCT outcome) FROM connections WHERE failed AND remote_address NOT LIKE '10.20.0.%' AND family <> 'unix'`:                                "4",
		`SELECT sum(bytes_sent) > 1000000000, count(DISTINCT remote_name) FROM connections WHERE exe = '/dev/shm/.x/rclone'`:                                       "1 1",
		`SELECT duration_ns / 3600000000000 FROM connections WHERE remote_port = 4444`:                                                                             "5",
		`SELECT count(*) > 0 FROM inbound WHERE remote_ip = '` + storyControl + `' AND time < (SELECT min(time) FROM connections WHERE remote_port = 4444)`:        "1",
		`SELECT group_concat(DISTINCT local_port) FROM listeners`:                                                                                                  "80,443,22",
		`SELECT count(*) FROM lookups WHERE name = 'drop.example' AND exe = '/dev/shm/.x/rclone'`:                                                                  "1",
		`SELECT count(*) FROM lookups WHERE time < (SELECT min(from_time) FROM segments)`:                                                                          "0",
		`SELECT count(*), count(DISTINCT exe_sha256) = count(DISTINCT exe) FROM programs WHERE exe_sha256 IS NULL`:                                                 "0 1",
		`SELECT count(*) FROM gaps WHERE cause NOT IN ('start', 'stopped', 'ring full')`:                                                                           "0",
		`SELECT seen = stored + lost FROM segments`:                                                                                                                "1",
	} {
		if got := ask(sql); got != want {
			t.Errorf("%s: %q, want %q", sql, got, want)
		}
	}
	const day = `SELECT count(*), sum(time_ns % 1000003), sum(bytes_sent), sum(duration_ns % 1000003), group_concat(DISTINCT outcome) FROM connections`
	if again := demo(t, 3)(day); again != ask(day) {
		t.Errorf("the same seed gives another day: %s, %s", again, ask(day))
	}
	if other := demo(t, 4)(day); other == ask(day) {
		t.Error("another seed gives the same day")
	}
}

// A day changes nothing of the stream that it is of.
func TestDayLeavesTheStream(t *testing.T) {
	o := Demo(7)
	plain, lived := New(o), New(o)
	d := newDay(lived, store.Anchor{Boot: o.Begin, Real: time.Now().UnixNano()})
	for n := range o.Connections {
		a, _ := plain.Next()
		b, _ := lived.Next()
		row := *b
		d.live(&row)
		if a.BootTime != b.BootTime || a.Remote.Address != row.Remote.Address || a.Task.Process.Exe != row.Task.Process.Exe || a.Cookie != row.Cookie {
			t.Fatalf("connection %d: %+v and %+v", n, a, row)
		}
		if row.Remote.Family != unix.AF_UNIX && netip.MustParseAddr(row.Remote.Address).IsPrivate() && row.Remote.Names != "" {
			t.Fatalf("%s is %s", row.Remote.Address, row.Remote.Names)
		}
	}
}
