package store

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// BenchmarkAppendLogged is what the log costs a batch: the median and the 99th
// percentile without a log, with one that is written a thousand times as often as
// in earnest, and with one as it is.
func BenchmarkAppendLogged(b *testing.B) {
	for _, pause := range []time.Duration{0, 10 * time.Millisecond, checkpointPause} {
		b.Run(fmt.Sprint("every ", pause), func(b *testing.B) {
			dir := filepath.Join(b.TempDir(), "tape")
			o := options(999 * second)
			if pause > 0 {
				k := newLogKeeper(dir, LogOptions{BootID: o.BootID}, pause)
				defer k.Close()
				o.Events = k.Listen
			}
			w := mustOpenWriter(b, dir, o)
			l := newLoad(50, 500)
			conns := make([]Connection, 1000)
			var took []time.Duration
			for b.Loop() {
				l.fill(conns)
				batch := l.batch(conns)
				start := time.Now()
				mustAppend(b, w, batch)
				took = append(took, time.Since(start))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
			mustClose(b, w, l.boot)
		})
	}
}
