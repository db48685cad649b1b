package capture

import (
	"fmt"
	"testing"
)

// TestSends: however many sends without connect there are from one socket, to one address or to more than the kernel has room for, the sum
// of their counts is exact, and the recorder's memory is bounded.
func TestSends(t *testing.T) {
	n := scaled(1_000_000, 5000)
	for name, one := range map[string]struct{ addresses, rows int64 }{
		"one address":    {1, 3}, // the first, and one for each of two intervals at most
		"many addresses": {int64(scaled(65_536, 3000)), int64(n)},
	} {
		t.Run(name, func(t *testing.T) {
			dir := tempDir(t)
			tape := record(t, dir)
			o := mustRun(t, "sends", fmt.Sprint(n), fmt.Sprint(one.addresses))
			const others = 100
			other := mustRun(t, "fresh", fmt.Sprint(others), "0")
			most := peakMemory(t, tape.cmd.Process.Pid)
			tape.stop(t)

			a := readAccount(t, dir)
			t.Logf("peak %.0f MB; seen %d, stored %d, coalesced %d, lost %d", float64(most)/1e6, a.seen, a.stored, a.coalesced, a.lost)
			if most > mostMemory {
				t.Errorf("the recorder took %.0f MB, at most %.0f are allowed", float64(most)/1e6, mostMemory/1e6)
			}
			if counted := number(t, dir, `SELECT sum(count) FROM connections WHERE pid = ?`, o.number("pid")); counted != int64(n) || a.lost != 0 {
				t.Errorf("%d of %d sends are on the tape, and %d lost", counted, n, a.lost)
			}
			if got := number(t, dir, `SELECT count(*) FROM connections WHERE pid = ?`, o.number("pid")); got > one.rows {
				t.Errorf("they are %d rows, want %d at most", got, one.rows)
			}
			if got := number(t, dir, `SELECT count(*) FROM connections WHERE pid = ? AND count = 1 AND via = 'connect'`, other.number("pid")); got != others {
				t.Errorf("%d of %d connects of another process have their row", got, others)
			}
		})
	}
}
