package store

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/conntape/conntape/store/retain"
)

// The connections of a batch, and what becomes of as many older ones, are on the disk after few transactions, whatever the
// order in which the ends come; each end is its own connection's.
func TestManyEndings(t *testing.T) {
	const many = 20_000
	dir := t.TempDir()
	commits := 0
	o := options(999 * second)
	o.Limits = retain.Limits{MaxBytes: 1 << 30} // so that a transaction may hold 8 MiB
	o.Events = func(e Event) {
		if _, ok := e.(BatchCommitted); ok {
			commits++
		}
	}
	w := mustOpenWriter(t, dir, o)
	l := newLoad(10, 100)
	l.shapes = l.shapes[1:2] // in progress
	random := rand.New(rand.NewPCG(1, 2))
	old, young := make([]Connection, many), make([]Connection, many)
	l.fill(old)
	mustAppend(t, w, l.batch(old))
	l.fill(young)
	batch := l.batch(young)
	for i := range old {
		batch.Endings = append(batch.Endings, Ending{Connect: old[i].BootTime, Cookie: old[i].Cookie, Final: 104,
			Outcome: &Outcome{LocalPort: uint16(i), Established: Unmeasured, Duration: int64(i) * 1000, Sent: Unmeasured, Received: Unmeasured, Retransmits: Unmeasured, RTT: Unmeasured}})
	}
	random.Shuffle(many, func(i, j int) { batch.Endings[i], batch.Endings[j] = batch.Endings[j], batch.Endings[i] })
	batch.Sockets = make([]SocketEvent, many)
	x := newWorld()
	for i := range batch.Sockets {
		batch.Sockets[i] = x.accepted(l.boot+uint64(i), 1)
	}
	commits = 0
	mustAppend(t, w, batch)
	if commits > 10 {
		t.Errorf("%d transactions", commits)
	}
	mustClose(t, w, l.boot)
	tape := mustOpenTape(t, dir)
	got := rows(t, tape.Conn(), "SELECT outcome, local_port, duration_ns FROM connections ORDER BY time_ns")
	for i := range many {
		if want := fmt.Sprintf("reset|%v|%d", orNull(i%65536), i*1000); got[i] != want {
			t.Fatalf("connection %d: %s, want %s", i, got[i], want)
		}
	}
	if got := one(t, tape.Conn(), "SELECT sum(count) FROM inbound"); got != fmt.Sprint(many) {
		t.Errorf("%s accepted", got)
	}
}

// orNull is how rows shows a port.
func orNull(port int) string {
	if port == 0 {
		return "NULL"
	}
	return fmt.Sprint(port)
}
