package recorder

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/conntape/conntape/store/escape"
	"github.com/conntape/conntape/store/segment"
)

// progress is what the status line shows: written by the draining goroutine, read by the status goroutine.
type progress struct {
	seen, rows, coalesced, lost atomic.Uint64
	queued                      atomic.Int64 // percent of the bound
}

// publish tells the status goroutine how things stand.
func (r *recorder) publish() {
	l := r.ledger
	lost := uint64(0)
	for cause, n := range l.observed {
		if _, excluded := segment.ExcludedBy(cause); !excluded {
			lost += n
		}
	}
	r.progress.seen.Store(max(l.kernel.Seen+l.kernel.Missed, l.received) - l.own - l.inherited)
	r.progress.rows.Store(l.rows)
	r.progress.coalesced.Store(l.coalesced)
	r.progress.lost.Store(lost)
	r.progress.queued.Store(r.queue.percent())
}

// announce says what is recorded, where to, and what is not seen.
func announce(w io.Writer, backend, dir string, blindSpots []string, events Events) {
	fmt.Fprintf(w, "conntape: recording to %s with the %s backend; stop with Ctrl-C\n", dir, backend)
	var unseen []string
	if !events.Accept {
		unseen = append(unseen, "inbound connections")
	}
	if !events.Sends {
		unseen = append(unseen, "raw packets", "UDP sent without connect")
	}
	if !events.Names {
		unseen = append(unseen, "names that are looked up")
	}
	if !events.TLS && !events.HTTP {
		unseen = append(unseen, "names that clients send")
	}
	text, more := strings.Join(unseen, ", "), "things"
	if n := len(blindSpots); n > 0 {
		if text != "" {
			text, more = text+"; and ", "more"
		}
		text += fmt.Sprintf("%d %s of this backend (conntape doctor lists them)", n, more)
	}
	if text != "" {
		fmt.Fprintf(w, "conntape: not seen: %s\n", text)
	}
}

// announceExcluded says which connects are not kept.
func announceExcluded(w io.Writer, rules []Exclusion) {
	if len(rules) == 0 {
		return
	}
	var texts []string
	for i := range rules {
		texts = append(texts, escape.Safe(rules[i].String()))
	}
	fmt.Fprintf(w, "conntape: EXCLUDED, counted and not kept: %s\n", strings.Join(texts, "; "))
}

// Intervals between status lines: on a terminal one line that rewrites itself, else a line for a log.
const (
	terminalEvery = time.Second
	logEvery      = 10 * time.Second
)

// showStatus prints until stop is closed. It has a goroutine of its own because a terminal that was stopped blocks it.
func (r *recorder) showStatus(stop <-chan struct{}, w io.Writer, terminal bool) {
	every := logEvery
	if terminal {
		every = terminalEvery
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	last := pace{at: time.Now()}
	for {
		select {
		case <-stop:
			if terminal {
				io.WriteString(w, "\r\x1b[K")
			}
			return
		case <-ticker.C:
		}
		before := last.seen
		line := r.statusLine(last.rate(r.progress.seen.Load(), time.Now()))
		if terminal {
			io.WriteString(w, "\r\x1b[K"+line)
		} else if last.seen != before {
			io.WriteString(w, "conntape: "+line+"\n")
		}
	}
}

// tellProgress tells the status line every logEvery, if anything was recorded since, until stop is closed.
func (r *recorder) tellProgress(stop <-chan struct{}, tell func(string)) {
	ticker := time.NewTicker(logEvery)
	defer ticker.Stop()
	told := ""
	last := pace{at: time.Now()}
	for {
		select {
		case <-stop:
			return
		case <-ticker.C:
		}
		if line := r.statusLine(last.rate(r.progress.seen.Load(), time.Now())); line != told {
			tell(line)
			told = line
		}
	}
}

// A pace is how many connects had been seen at a time.
type pace struct {
	seen uint64
	at   time.Time
}

// rate returns the connects a second since the last call. The recorder's own connects are taken off when they are read from the ring: there
// may be fewer then than before.
func (p *pace) rate(seen uint64, now time.Time) float64 {
	more, took := float64(seen)-float64(p.seen), now.Sub(p.at).Seconds()
	p.seen, p.at = seen, now
	if more <= 0 || took <= 0 {
		return 0
	}
	return more / took
}

func (r *recorder) statusLine(rate float64) string {
	p := &r.progress
	s := fmt.Sprintf("%s connects · %s/s · %s rows on disk · lost %s", grouped(p.seen.Load()), grouped(uint64(rate+0.5)),
		grouped(r.writer.committed.Load()), grouped(p.lost.Load()))
	if n := p.coalesced.Load(); n > 0 {
		s += " · " + grouped(n) + " counted together"
	}
	if n := p.queued.Load(); n >= 10 {
		s += fmt.Sprintf(" · queue %d%%", n)
	}
	if r.writer.failing.Load() {
		s += " · tape not writable"
	}
	return s
}

// summarize says what became of everything.
func (r *recorder) summarize(w io.Writer) {
	c := r.ledger.counters()
	excluded := ""
	if n := c["excluded"]; n > 0 {
		excluded = grouped(n) + " excluded, "
	}
	fmt.Fprintf(w, "conntape: stopped: %s connects seen, %s rows, %s counted together, %s%s lost\n",
		grouped(c["seen"]), grouped(c["stored"]), grouped(c["coalesced"]), excluded, grouped(c["lost"]))
}

// grouped writes 1234567 as 1,234,567.
func grouped(n uint64) string {
	digits := strconv.FormatUint(n, 10)
	var b strings.Builder
	for i, c := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(c)
	}
	return b.String()
}
