package main

import (
	_ "embed"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// report has all results; a part that was not measured is nil or empty.
type report struct {
	Host     host
	Command  string
	Backend  string
	Costs    *costs
	Pipeline []pipelineRun
	TCP      []pipelineRun   // of whole connections
	Floors   []time.Duration // CPU time of a row, straight into SQLite
	Shares   []share
	Disk     diskRun
	Store    storeRun
	Budget   []budgetRun
	Idle     idleRun
	Soak     soakRun
	Guests   []guestRun
}

// Remarks on the numbers, written by hand.
//
//go:embed notes.md
var notes string

// write prints Markdown.
func (r *report) write(w io.Writer) error {
	p := &printer{w: w}
	p.line("# Performance")
	p.line("")
	p.line("Written by `%s` (`go run ./bench`, as root) on %s: Linux %s, %s, %d processors, %d GiB, %s, backend %s, load %s at the start.",
		r.Command, r.Host.Date, r.Host.Kernel, r.Host.CPU, r.Host.CPUs, r.Host.Memory, r.Host.Go, r.Backend, r.Host.Load)
	p.line("Times are of one run in which the variants took turns; the machine is shared, so look at ratios. The budgets are")
	p.line("those of [design.md](design.md).")
	p.line("")
	r.budgets(p)
	if r.Costs != nil {
		r.connectCost(p)
		r.tcpCost(p)
		r.sendCost(p)
		r.socketCost(p)
		r.trafficCost(p)
		r.frameCost(p)
		r.otherCalls(p)
	}
	r.guestCost(p)
	r.pipeline(p)
	r.store(p)
	r.budget(p)
	r.rest(p)
	r.soak(p)
	p.line("%s", strings.TrimSpace(notes))
	return p.err
}

type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

// row prints a row of a table.
func (p *printer) row(cells ...string) { p.line("| %s |", strings.Join(cells, " | ")) }

func (p *printer) head(cells ...string) {
	p.row(cells...)
	p.line("| --- |%s", strings.Repeat(" ---: |", len(cells)-1))
}

// kept compares a measured value with its budget.
func kept(value, most float64) string {
	if value <= most {
		return "yes"
	}
	return fmt.Sprintf("**no: %.2f ×**", value/most)
}

func (r *report) budgets(p *printer) {
	p.line("## Budgets")
	p.line("")
	p.line("| what | budget | measured | kept |")
	p.line("| --- | --- | --- | --- |")
	if c := r.Costs; c != nil {
		added, hooks := c.added(conntape, connectPaced), c.added(empty, connectPaced)
		p.row("added to a UDP connect, against empty programs", "2 ×", fmt.Sprintf("%.1f × (%.0f and %.0f ns)", added/hooks, added, hooks), kept(added/hooks, 2))
		part := added / c.call(bare, connectPaced)
		p.row("the same, against a bare connect", "0.5 ×", fmt.Sprintf("%.2f × (of %.0f ns)", part, c.call(bare, connectPaced)), kept(part, 0.5))
		worst, beyond := 0.0, 0.0
		for _, m := range otherMeasures {
			worst = max(worst, c.ratio(conntape, m)-1)
			beyond = max(beyond, c.ratio(conntape, m)/c.ratio(empty, m)-1)
		}
		// Bare itself varies by two per cent between rounds.
		p.row("added to other system calls, the worst of three", "nothing measurable", fmt.Sprintf("%.1f%%", 100*worst), kept(worst, 0.02))
		p.row("the same, against empty programs", "–", fmt.Sprintf("%.1f%%", 100*beyond), "–")
	}
	if len(r.Pipeline) > 0 {
		cpu, rate := best(r.Pipeline)
		p.row("ring to committed rows: CPU an event, one core", "1.2 µs", fmt.Sprintf("%.2f µs", cpu), kept(cpu, 1.2))
		p.row("the same, against SQLite alone", "–", fmt.Sprintf("%.1f × (of %.2f µs)", cpu/micros(slices.Min(r.Floors)), micros(slices.Min(r.Floors))), "–")
		p.row("ring to committed rows: events a second, one core", "800,000", thousands(rate), kept(800_000, rate))
	}
	if len(r.TCP) > 0 {
		cpu, _ := best(r.TCP)
		p.row("recorder's CPU for a TCP connection: connect, accept, both ends", "3 µs", fmt.Sprintf("%.2f µs", cpu), kept(cpu, 3))
		floor := micros(slices.Min(r.Floors)) // of one row
		p.row("the same, against a row by SQLite alone", "–", fmt.Sprintf("%.1f × (of %.2f µs)", cpu/floor, floor), "–")
	}
	if n := float64(r.Disk.Connections); n > 0 {
		active, closed := float64(r.Disk.Active)/n, float64(r.Disk.Closed)/n
		p.row("bytes a connection, active (WAL checkpointed)", "32", fmt.Sprintf("%.1f", active), kept(active, 32))
		p.row("bytes a connection, closed", "32 (48 when sealed with indexes: `-only store`)", fmt.Sprintf("%.1f", closed), kept(closed, 32))
	}
	if i := r.Idle; i.For > 0 {
		p.row("idle: CPU", "0.1% of a core", fmt.Sprintf("%.3f%%", i.CPU), kept(i.CPU, 0.1))
		rss := float64(i.RSS) * 1024 / 1e6
		p.row("idle: memory (RSS)", "40 MB", fmt.Sprintf("%.0f MB", rss), kept(rss, 40))
		p.row("idle: wakeups a second", "5", fmt.Sprintf("%.1f", i.Wakeups), kept(i.Wakeups, 5))
	}
	p.line("")
}

// best returns the least CPU and the highest rate of the rounds: other load only makes them worse.
func best(runs []pipelineRun) (cpu, rate float64) {
	cpu = runs[0].perEvent()
	for _, run := range runs {
		cpu, rate = min(cpu, run.perEvent()), max(rate, run.rate())
	}
	return cpu, rate
}

var otherMeasures = []string{callGetppid, callRead, callNop}

func (r *report) connectCost(p *printer) {
	c := r.Costs
	p.line("## A connect, in the thread that makes it")
	p.line("")
	p.line("A UDP connect to the loopback, which only sets the peer, by a thread pinned to one processor, what records on the")
	p.line("other. The least of %d rounds' medians; *least* is the least of all batches of 32. *Paced* is 256 at a time, 10 ms", len(c.Samples[bare]))
	p.line("apart; *flood*, the median of the rounds, is without a pause: recorders drain, lose or brake meanwhile.")
	p.line("")
	p.head("variant", "paced, ns", "added", "× bare", "× empty programs' addition", "least, ns", "flood, ns", "added", "lost, of all rounds")
	for _, v := range c.Names {
		times := "–"
		if v != bare {
			times = fmt.Sprintf("%.1f", c.added(v, connectPaced)/c.added(empty, connectPaced))
		}
		p.row(v, ns(c.call(v, connectPaced)), ns(c.added(v, connectPaced)), fmt.Sprintf("%.2f", c.ratio(v, connectPaced)), times,
			ns(c.least(v, connectPaced)), ns(c.usual(v, connectFlood)), ns(c.usual(v, connectFlood)-c.usual(bare, connectFlood)), c.lost(v))
	}
	for _, v := range []string{bpftrace, auditd} {
		if why := c.Skipped[v]; why != "" {
			p.row(v, "**NOT MEASURED**", "", "", "", "", "", "", why)
		}
	}
	p.line("")
	if c.Shared {
		p.line("**Programs of others were on the hooks all the while: bare was not bare.**")
		p.line("")
	}
}

func (r *report) otherCalls(p *printer) {
	c := r.Costs
	p.line("## Other system calls")
	p.line("")
	p.line("The same processes made calls that nobody records: ns a call, and × bare.")
	p.line("")
	p.head(append([]string{"variant"}, otherMeasures...)...)
	for _, v := range c.Names {
		cells := []string{v}
		for _, m := range otherMeasures {
			if c.call(v, m) == 0 {
				cells = append(cells, "not available")
				continue
			}
			cells = append(cells, fmt.Sprintf("%.0f (%.2f ×)", c.call(v, m), c.ratio(v, m)))
		}
		p.row(cells...)
	}
	p.line("")
}

func (r *report) guestCost(p *printer) {
	if len(r.Guests) == 0 {
		return
	}
	p.line("## A connect on other kernels and backends, in instructions")
	p.line("")
	p.line("Debian kernels in qemu, one processor, whose clock counts instructions (`-icount`): exact, but no times. Paced as")
	p.line("above.")
	p.line("")
	p.head("kernel", "backend", "bare", "empty programs add", "conntape adds", "× empty", "× bare")
	for _, g := range r.Guests {
		c := g.Costs
		base, hooks, ours := c.call(bare, connectPaced), c.added(empty, connectPaced), c.added(conntape, connectPaced)
		p.row(g.Kernel, string(g.Backend), ns(base), ns(hooks), ns(ours), fmt.Sprintf("%.1f", ours/hooks), fmt.Sprintf("%.2f", ours/base))
	}
	p.line("")
}

func (r *report) pipeline(p *printer) {
	if len(r.Pipeline) == 0 {
		return
	}
	f := pipelineFlood
	p.line("## From the ring to committed rows")
	p.line("")
	p.line("`conntape record` bound to one processor is stopped (SIGSTOP) while %d processes make %s real connects to", f.processes, thousands(float64(f.total())))
	p.line("%s addresses, then goes on (SIGCONT), and all the way is its own: ring, decoding, processes, interning, rows, commits", thousands(float64(f.endpoints)))
	p.line("with fsync. The ring is %d MiB to hold them all, and the queue 1 GiB, so that each has its own row.", pipelineRing>>20)
	p.line("")
	p.line("*SQLite alone* is a million such rows straight into one table, same engine, pragmas and batches, nothing around it:")
	p.line("the floor, which shows by how much the machine was slowed at that moment.")
	p.line("")
	p.head("round", "CPU an event, µs", "user", "system", "SQLite alone, µs", "events a second", "account")
	for i, run := range r.Pipeline {
		n := float64(run.Events)
		p.row(fmt.Sprint(i+1), fmt.Sprintf("%.2f", run.perEvent()), fmt.Sprintf("%.2f", float64(run.User.Microseconds())/n),
			fmt.Sprintf("%.2f", float64((run.CPU-run.User).Microseconds())/n), fmt.Sprintf("%.2f", micros(r.Floors[i])), thousands(run.rate()), run.Words)
	}
	p.line("")
	r.tcpPipeline(p)
	p.line("Where the time goes of connects over UDP, from CPU profiles of as many rounds more:")
	p.line("")
	cpu, _ := best(r.Pipeline)
	p.head("part", "of the CPU time", "ns an event, at the best round")
	for _, s := range r.Shares {
		p.row(s.What, fmt.Sprintf("%.1f%%", 100*s.Part), fmt.Sprintf("%.0f", 1000*cpu*s.Part))
	}
	p.line("")
}

func (r *report) tcpPipeline(p *printer) {
	if len(r.TCP) == 0 {
		return
	}
	f := tcpFlood
	p.line("Whole TCP connections, while the recorder runs: %d processes make %s, and each connects, accepts, and closes both ends, as", f.processes, thousands(float64(f.total())))
	p.line("fast as it can. The CPU time is of all that a connection brings: the attempt, its outcome, the end of either side, and a row")
	p.line("of who came in, folded.")
	p.line("")
	p.head("round", "CPU a connection, µs", "user", "system", "connections a second", "account")
	for i, run := range r.TCP {
		n := float64(run.Events)
		p.row(fmt.Sprint(i+1), fmt.Sprintf("%.2f", run.perEvent()), fmt.Sprintf("%.2f", float64(run.User.Microseconds())/n),
			fmt.Sprintf("%.2f", float64((run.CPU-run.User).Microseconds())/n), thousands(run.rate()), run.Words)
	}
	p.line("")
}

func (r *report) rest(p *printer) {
	if n := r.Disk.Connections; n > 0 {
		p.line("## On disk")
		p.line("")
		p.line("%s connections of the generator (`generate`: 500 processes of 60 programs, 5,000 endpoints with a heavy", thousands(float64(n)))
		p.line("tail, one day) through the recorder's writer, batches of %s. Active: %s bytes, and a WAL file of %s that is", thousands(batchRows), thousands(float64(r.Disk.Active)), thousands(float64(r.Disk.WAL)))
		p.line("kept for reuse and does not grow with the tape. Closed: %s bytes. Written in %.1f s.", thousands(float64(r.Disk.Closed)), r.Disk.Took.Seconds())
		p.line("")
	}
	if i := r.Idle; i.For > 0 {
		p.line("## Idle")
		p.line("")
		p.line("%.0f s, from %.0f s after the start. The host was not quite idle: %d processes or threads were started meanwhile. The recorder: %s.", i.For.Seconds(), idleSettle.Seconds(), i.OtherExecs, i.Host)
		p.line("")
	}
}

func ns(v float64) string { return thousands(v) }

// thousands writes 1234567 as 1,234,567.
func thousands(v float64) string {
	s := fmt.Sprintf("%.0f", v)
	sign := ""
	if strings.HasPrefix(s, "-") {
		sign, s = "-", s[1:]
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return sign + s
}
