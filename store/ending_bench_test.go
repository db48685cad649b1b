package store

import (
	"testing"

	"github.com/conntape/conntape/store/segment"
)

// endingsPerBatch is how many endings the recorder hands over at the most, nearly: see mostEndings there.
const endingsPerBatch = 61_440

// refusals returns what became of connections: each was refused, after its row was written.
func refusals(conns []Connection) []Ending {
	local := endpoint(2, "10.0.0.5", 0)
	endings := make([]Ending, len(conns))
	for i := range conns {
		c := &conns[(i*7919)%len(conns)] // the recorder has them in a map
		endings[i] = Ending{Connect: c.BootTime, Cookie: c.Cookie, Final: 111, Outcome: &Outcome{Local: local, LocalPort: uint16(i), Established: Unmeasured,
			Duration: 300_000, Sent: Unmeasured, Received: Unmeasured, RTT: Unmeasured}}
	}
	return endings
}

// BenchmarkEndings measures endings of connections that were written just before, alone and in a batch with as many new
// connections, as in a flood of connects that are refused.
func BenchmarkEndings(b *testing.B) {
	for _, name := range []string{"alone", "with connections"} {
		b.Run(name, func(b *testing.B) {
			dir := b.TempDir()
			w := mustOpenWriter(b, dir, options(999*second))
			commits := 0
			w.o.Events = func(e Event) {
				if _, ok := e.(BatchCommitted); ok {
					commits++
				}
			}
			l := newLoad(500, 5000)
			conns := [2][]Connection{make([]Connection, endingsPerBatch), make([]Connection, endingsPerBatch)}
			l.fill(conns[0])
			mustAppend(b, w, l.batch(conns[0]))
			commits = 0
			written := 0
			var busy float64
			for n := 0; b.Loop(); n++ {
				b.StopTimer()
				old, young := conns[n%2], conns[(n+1)%2]
				l.fill(young)
				batch := Batch{Endings: refusals(old), Now: l.boot, Counters: segment.Counters{"seen": l.n, "stored": l.n}}
				if name == "alone" {
					mustAppend(b, w, l.batch(young))
				} else {
					batch.Connections = young
				}
				before := cpuTime(b)
				b.StartTimer()
				mustAppend(b, w, batch)
				busy += (cpuTime(b) - before).Seconds()
				written += len(old)
			}
			b.ReportMetric(busy*1e6/float64(written), "cpu-us/ending")
			b.ReportMetric(b.Elapsed().Seconds()*1e6/float64(written), "us/ending")
			b.ReportMetric(float64(commits), "commits")
			mustClose(b, w, l.boot)
		})
	}
}
