package report

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/input"
	"github.com/conntape/conntape/query/table"
	"github.com/conntape/conntape/store"
	"zombiezen.com/go/sqlite"
)

// Some canned queries count over a whole tape. Their SQL is their meaning, and SQLite answers it where there is no plan.
// A plan gives the same answer from flows, and reads segments in parallel. Those that count group flows by a key: see
// group.go. A test compares each plan with its SQL.

// Planned is a canned query ready to run.
type Planned struct {
	canned   *Canned
	request  ask.Request
	window   input.Window
	filter   Filter
	tape     *table.Tape
	main     *sqlite.Conn
	sources  []table.Source
	contacts *table.ContactTable // flows that it is asked over; nil: all connections
	places   map[int64][]int64   // endpoint ids that it can be about, by segment number; nil: any
	passing  map[shownPair]bool  // pairs of a beacon that a filter lets through; nil: any
}

// NewPlanned prepares a question to a tape. The window is pushed down to the tape's views, unless the query has its own.
func NewPlanned(tape *store.Tape, c *Canned, r ask.Request, w input.Window) *Planned {
	of := table.Of(tape)
	return &Planned{canned: c, request: r, window: w, tape: of, main: tape.Conn(), sources: of.Sources()}
}

// Filtered restricts the question to connections that pass a filter. Then its SQL answers it: plans count all
// connections.
func (p *Planned) Filtered(f Filter) *Planned {
	p.filter = f
	return p
}

// plans answer canned queries instead of their SQL.
var plans = map[string]func(*Planned, context.Context, format.RowWriter) (ask.Result, error){
	"top":        (*Planned).top,
	"rare":       counting((*Planned).rare),
	"first-seen": counting((*Planned).firstSeen),
	"timeline":   counting(finally((*Planned).timeline)),
	"beacons":    counting((*Planned).beacons),
	"fanout":     counting(finally((*Planned).fanout)),
	"diff":       (*Planned).diff,
	"tree":       (*Planned).tree,
}

// countingPlan is a plan over flows.
type countingPlan func(*Planned, context.Context, *table.Reading, format.RowWriter) (ask.Result, error)

// finally is a plan that uses the final outcome of connections.
func finally(plan countingPlan) countingPlan {
	return func(p *Planned, ctx context.Context, r *table.Reading, out format.RowWriter) (ask.Result, error) {
		if err := r.ReadFinals(ctx); err != nil {
			return ask.Result{}, ask.ExplainLimit(ctx, p.request.Timeout, err)
		}
		return plan(p, ctx, r, out)
	}
}

// counting is a plan over the window's flows; first-seen also needs the flows before it.
func counting(plan countingPlan) func(*Planned, context.Context, format.RowWriter) (ask.Result, error) {
	return func(p *Planned, ctx context.Context, out format.RowWriter) (ask.Result, error) {
		w := p.window
		if p.canned.OwnWindow {
			w.Since = time.Time{}
		}
		r, err := table.NewNumbers().NewReading(ctx, p.sources, w, p.request.Params["all"].Int != 0)
		if err != nil {
			return ask.Result{}, ask.ExplainLimit(ctx, p.request.Timeout, err)
		}
		return plan(p, ctx, r, out)
	}
}

// Run asks the question and writes its answer.
func (p *Planned) Run(ctx context.Context, out format.RowWriter) (ask.Result, error) {
	ctx, stop := ask.WithTimeLimit(ctx, p.request.Timeout)
	defer stop()
	if p.canned.Name == "beacons" && !p.filter.IsEmpty() { // which are measured without the filter
		if err := p.readPassing(ctx); err != nil {
			return ask.Result{}, err
		}
	} else if !p.filter.IsEmpty() {
		request, err := p.filter.Apply(p.request)
		if err != nil {
			return ask.Result{}, err
		}
		return table.AskVirtual(ctx, p.tape, func() (ask.Result, error) { return ask.Run(ctx, p.main, request, out) })
	}
	if plan := plans[p.canned.Name]; plan != nil {
		return plan(p, ctx, out)
	}
	return p.bySQL(ctx, out)
}

// bySQL answers the question by its SQL, with push-down.
func (p *Planned) bySQL(ctx context.Context, out format.RowWriter) (ask.Result, error) {
	narrowed, err := p.narrow(ctx)
	if err != nil {
		return ask.Result{}, ask.ExplainLimit(ctx, p.request.Timeout, err)
	}
	result, err := table.AskVirtual(ctx, p.tape, func() (ask.Result, error) { return ask.Run(ctx, p.main, narrowed, out) })
	if p.contacts != nil {
		err = p.contacts.Explain(err)
	}
	return result, err
}

func (p *Planned) text(param string) string { return string(p.request.Params[param].Bytes) }

// writeRows writes n rows, up to the limit.
func (p *Planned) writeRows(ctx context.Context, out format.RowWriter, columns []string, n int, row func(i int) []format.Value) (ask.Result, error) {
	return ask.WriteRows(ctx, p.request, out, columns, n, func(i int) ([]format.Value, error) { return row(i), nil })
}

// inPasses reads the tape in several passes, each for a part of the destinations. If a part does not fit in memory, it
// starts again with twice as many passes.
func inPasses(atFirst int32, read func(pass, passes int32) error) error {
	for passes := atFirst; ; passes *= 2 {
		for pass := int32(0); ; pass++ {
			if pass == passes {
				return nil
			}
			err := read(pass, passes)
			if errors.Is(err, table.ErrTooMuch) && passes < mostPasses {
				break
			}
			if err != nil {
				return err
			}
		}
	}
}

// mostPasses limits the passes over a tape for one answer.
const mostPasses = 1 << 12

// collected collects the readers.
type collected[R any] struct {
	mu   sync.Mutex
	list []R
}

func (c *collected[R]) add(reader R) R {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = append(c.list, reader)
	return reader
}
