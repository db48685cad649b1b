package main

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/conntape/conntape/query"
	"github.com/schollz/progressbar/v3"
)

// progressAfter is how long an answer may take before its progress is shown.
const progressAfter = time.Second

// progress shows on a terminal that a question is at work: for how long, and how
// many rows were written. How many there will be nobody knows before.
type progress struct {
	rows  atomic.Int64
	quiet bool          // nothing is shown
	first bool          // it ends with the first row, which goes to the same terminal
	ended chan struct{} // closed when it is to end
	once  sync.Once
	gone  sync.WaitGroup
}

// startProgress starts to show progress on stderr, if that is a terminal. With
// shared, rows go to a terminal too, and nothing is shown among them.
func (h *host) startProgress(shared bool) *progress {
	p := &progress{first: shared, ended: make(chan struct{})}
	if p.quiet = h.watched == nil || !h.watched(); p.quiet {
		return p
	}
	p.gone.Add(1)
	go func() {
		defer p.gone.Done()
		select {
		case <-p.ended:
			return
		case <-time.After(progressAfter):
		}
		bar := progressbar.NewOptions64(-1, progressbar.OptionSetWriter(h.stderr), progressbar.OptionSetDescription("conntape: rows"),
			progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionSetItsString("rows"), progressbar.OptionClearOnFinish(),
			progressbar.OptionSetElapsedTime(true), progressbar.OptionSpinnerType(9))
		defer bar.Finish()
		for tick := time.NewTicker(200 * time.Millisecond); ; {
			bar.Set64(p.rows.Load())
			select {
			case <-p.ended:
				tick.Stop()
				return
			case <-tick.C:
			}
		}
	}()
	return p
}

// stop ends it and takes what was shown away.
func (p *progress) stop() {
	p.once.Do(func() { close(p.ended) })
	p.gone.Wait()
}

// watch counts the rows that go to out, and ends the progress where they go to the
// same terminal.
func (p *progress) watch(out query.RowWriter) query.RowWriter {
	if p.quiet {
		return out
	}
	begin := func() {
		if p.first {
			p.stop()
		}
	}
	return query.Watched(out, begin, func(n int64) { p.rows.Add(n) })
}
