package main

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/conntape/conntape/query"
)

// progressAfter is how long an answer may take before its progress is shown.
const progressAfter = time.Second

// statusLine is the line of a terminal that says how far something is. Each text takes
// the place of the one before. It is no reason to stop when it cannot be written.
type statusLine struct{ w io.Writer }

func (l statusLine) show(text string) { fmt.Fprint(l.w, "\r\x1b[K"+text) }

func (l statusLine) clear() { l.show("") }

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
	begun := time.Now()
	p.gone.Add(1)
	go func() {
		defer p.gone.Done()
		select {
		case <-p.ended:
			return
		case <-time.After(progressAfter):
		}
		line := statusLine{h.stderr}
		defer line.clear()
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			line.show(fmt.Sprintf("conntape: rows: %d, after %s", p.rows.Load(), time.Since(begun).Round(time.Second)))
			select {
			case <-p.ended:
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
