package store

import (
	"math"
	"slices"
	"testing"
)

const outcomeSQL = `SELECT outcome, outcome_errno, established_ns, duration_ns, bytes_sent, bytes_received, retransmits, rtt_us, closed_by,
	outcome_source, local_address, local_port FROM connections ORDER BY time_ns`

// closedOutcome is that of a connection from 10.0.0.5:40000 that was closed.
func closedOutcome() *Outcome {
	return &Outcome{Local: endpoint(2, "10.0.0.5", 0), LocalPort: 40000, Established: 1234567, Duration: 3_000_007_000, Sent: 1 << 20,
		Received: 5<<30 + 1, Retransmits: 300, RTT: 999, ClosedBy: ClosedByRemote}
}

// with returns a connection that came to an outcome.
func (w *world) with(boot uint64, errno int32, final Final, o *Outcome) Connection {
	c := w.connection(boot)
	shape := *w.tcpRefused
	shape.Errno, shape.Final = errno, final
	c.Shape, c.Outcome = &shape, o
	return c
}

// What is known of a connection when it is written, and what it came to later, are in the views of its segment, as any
// SQLite shell reads it, and in the chain.
func TestOutcomes(t *testing.T) {
	dir := t.TempDir()
	w := mustOpenWriter(t, dir, options(100*second))
	w.now = func(string) (Anchor, error) { return at(120 * second), nil }
	x := newWorld()
	open := &Outcome{Local: endpoint(2, "10.0.0.5", 0), LocalPort: 65535, Established: 0, Duration: Unmeasured, Sent: Unmeasured,
		Received: Unmeasured, Retransmits: Unmeasured, RTT: Unmeasured}
	refused := *open
	refused.LocalPort, refused.Established, refused.Duration, refused.Retransmits = 1, Unmeasured, 300_999, 0
	later := x.with(105*second, 115, FinalUnknown, nil)
	twice := x.with(106*second, 0, FinalEstablished, open)
	mustAppend(t, w, Batch{Now: 110 * second, Connections: []Connection{
		x.with(101*second, 0, FinalEstablished, closedOutcome()),
		x.with(102*second, 115, 111, &refused),
		x.with(103*second, 0, FinalEstablished, open),
		x.with(104*second, 115, FinalUnknown, nil),
		later, twice,
		x.with(107*second, 99, FinalAborted, &refused), // what connect returned tells more
	}})
	broken := *closedOutcome()
	broken.Local = x.v6
	mustAppend(t, w, Batch{Now: 111 * second, Endings: []Ending{
		{Connect: later.BootTime, Cookie: later.Cookie, Final: 110, Outcome: &refused},
		{Connect: twice.BootTime, Cookie: twice.Cookie, Final: FinalEstablished, Outcome: closedOutcome()},
	}})
	mustAppend(t, w, Batch{Now: 112 * second, Endings: []Ending{
		{Connect: twice.BootTime, Cookie: twice.Cookie, Final: 104, Outcome: &broken},
		{Connect: 99 * second, Cookie: 7, Final: 104, Outcome: &broken}, // of a segment before
		{Connect: twice.BootTime, Cookie: 8, Final: 110, Outcome: &broken},
	}})
	const closed = "1234567|3000007000|1048576|5368709121|300|999|remote|kernel|"
	want := []string{
		"established|0|" + closed + "10.0.0.5|40000",
		"refused|111|NULL|300000|NULL|NULL|0|NULL|NULL|kernel|10.0.0.5|1",
		"established|0|0|NULL|NULL|NULL|NULL|NULL|NULL|open|10.0.0.5|65535",
		"in progress|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL",
		"timed out|110|NULL|300000|NULL|NULL|0|NULL|NULL|kernel|10.0.0.5|1",
		"reset|104|" + closed + "2001:db8::1|40000",
		"failed|99|NULL|300000|NULL|NULL|0|NULL|NULL|kernel|10.0.0.5|1",
	}
	tape := mustOpenTape(t, dir)
	if got := rows(t, connOf(t, tape, 1), outcomeSQL); !slices.Equal(got, want) {
		t.Errorf("while it is recorded: got\n%q, want\n%q", got, want)
	}
	if err := w.Rotate(); err != nil {
		t.Fatal(err)
	}
	waitSealed(t, w)
	mustClose(t, w, 123*second)
	tape = mustOpenTape(t, dir)
	want[2] = "established|0|0|NULL|NULL|NULL|NULL|NULL|NULL|not in this file|10.0.0.5|65535"
	want[3] = "unknown|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|not in this file|NULL|NULL"
	if got := rows(t, connOf(t, tape, 1), outcomeSQL); !slices.Equal(got, want) {
		t.Errorf("sealed: got\n%q, want\n%q", got, want)
	}
	if chains := chainsOf(t, tape, 1); len(chains) != 3 {
		t.Errorf("%d batches are chained, want 3", len(chains))
	}
}

func TestOutcomeIsStored(t *testing.T) {
	for _, o := range []Outcome{
		*closedOutcome(),
		{Established: Unmeasured, Duration: Unmeasured, Sent: Unmeasured, Received: Unmeasured, Retransmits: Unmeasured, RTT: Unmeasured},
		{Established: math.MaxInt32, Duration: 1000 * math.MaxInt32, Sent: math.MaxInt64 - 1, Received: math.MaxInt64 - 1, LocalPort: math.MaxUint16},
	} {
		b := appendOutcome(nil, &o, 1<<31)
		if len(b) > mostOutcomeBytes {
			t.Errorf("%+v takes %d bytes", o, len(b))
		}
		got, err := ParseOutcome(b)
		got.Local = o.Local
		if o.Duration > 0 {
			o.Duration -= o.Duration % 1000
		}
		if err != nil || got.LocalID != 1<<31 || got.Outcome != o {
			t.Errorf("%+v is read as %+v, %v", o, got, err)
		}
	}
}

func FuzzParseOutcome(f *testing.F) {
	f.Add(appendOutcome(nil, closedOutcome(), 3))
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := ParseOutcome(b)
		if err != nil {
			return
		}
		again, err := ParseOutcome(appendOutcome(nil, &o.Outcome, o.LocalID))
		if err != nil || again != o {
			t.Errorf("%x is %+v, then %+v, %v", b, o, again, err)
		}
	})
}
