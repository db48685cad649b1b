package main

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/conntape/conntape/query/format"
)

// progressAfter is the time after which progress is shown.
const progressAfter = time.Second

// statusLine is a line on a terminal whose text is replaced. It ignores errors of writing.
type statusLine struct{ w io.Writer }

func (l statusLine) show(text string) { fmt.Fprint(l.w, "\r\x1b[K"+text) }

func (l statusLine) clear() { l.show("") }

// progress shows on a terminal how long a question runs and how many rows it has written. The total is unknown.
type progress struct {
	rows  atomic.Int64
	quiet bool          // nothing is shown
	first bool          // stop at the first row, which goes to the same terminal
	ended chan struct{} // closed to stop
	once  sync.Once
	gone  sync.WaitGroup
}

// startProgress shows progress on stderr if that is a terminal. shared means that rows go to a terminal too: then
// progress stops at the first row.
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

// stop ends the progress and clears its line.
func (p *progress) stop() {
	p.once.Do(func() { close(p.ended) })
	p.gone.Wait()
}

// watch counts the rows written to out, and stops the progress at the first if they go to the same terminal.
func (p *progress) watch(out format.RowWriter) format.RowWriter {
	if p.quiet {
		return out
	}
	begin := func() {
		if p.first {
			p.stop()
		}
	}
	return format.Watched(out, begin, func(n int64) { p.rows.Add(n) })
}
