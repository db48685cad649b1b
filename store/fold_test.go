package store

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/proof"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
)

// recordEndings records a segment, still open, with connections that were told of in every way. told are its chains.
func recordEndings(t testing.TB, dir string) (w *Writer, told map[int64][32]byte) {
	t.Helper()
	told = map[int64][32]byte{}
	o := options(100 * second)
	o.Events = func(e Event) {
		if b, ok := e.(BatchCommitted); ok && b.Segment == 1 {
			told[b.Number] = b.Chain
		}
	}
	w = mustOpenWriter(t, dir, o)
	w.now = func(string) (Anchor, error) { return at(120 * second), nil }
	x := newWorld()
	open := *closedOutcome()
	open.Duration, open.Sent, open.Received, open.Retransmits, open.ClosedBy = Unmeasured, Unmeasured, Unmeasured, Unmeasured, ClosedByNobody
	other := open
	other.LocalPort = 9
	seen := *closedOutcome()
	seen.Duration, seen.SeenOpen, seen.ClosedBy = Unmeasured, 2_000_000, ClosedByNobody
	row := func(n uint64, errno int32, final Final, o *Outcome) Connection {
		c := x.with(n*second, errno, final, o)
		c.Cookie = n
		return c
	}
	end := func(c Connection, final Final, o *Outcome) Ending {
		return Ending{Connect: c.BootTime, Cookie: c.Cookie, Final: final, Outcome: o}
	}
	late, waiting, held, moved := row(101, 115, FinalUnknown, nil), row(102, 115, FinalUnknown, nil), row(103, 0, FinalEstablished, &open), row(104, 0, FinalEstablished, &other)
	looked, slow, after, atOnce := row(105, 0, FinalEstablished, &open), row(106, 512, FinalUnknown, nil), row(107, 512, FinalUnknown, nil), row(108, 115, FinalUnknown, nil)
	returned := func(c Connection) Connection {
		c.Update, c.Shape = true, x.with(0, 115, FinalUnknown, nil).Shape
		return c
	}
	mustAppend(t, w, Batch{Now: 110 * second, Connections: []Connection{waiting, held, moved, looked, slow, after, atOnce, row(109, 0, FinalEstablished, closedOutcome())},
		Endings: []Ending{end(atOnce, 111, closedOutcome())}})
	mustAppend(t, w, Batch{Now: 111 * second, Connections: []Connection{late, returned(slow)}, Endings: []Ending{
		end(late, 110, closedOutcome()), end(moved, FinalEstablished, closedOutcome()), end(looked, FinalEstablished, &seen), end(after, 111, closedOutcome())}})
	mustAppend(t, w, Batch{Now: 112 * second, Connections: []Connection{returned(after)}, Endings: []Ending{
		end(looked, FinalEstablished, closedOutcome()), end(slow, 104, closedOutcome()), end(held, FinalEstablished, closedOutcome()), end(waiting, 111, closedOutcome()),
		{Connect: 99 * second, Cookie: 7, Final: 104, Outcome: closedOutcome()}}})
	return w, told
}

// Sealing moves what was told of a connection later into its row. Whoever asks gets the answers of before, and the
// chain is that of what was recorded.
func TestSealingFoldsEndings(t *testing.T) {
	dir := t.TempDir()
	w, told := recordEndings(t, dir)
	was := rows(t, connOf(t, mustOpenTape(t, dir), 1), outcomeSQL)
	recorded := rows(t, w.seg.conn, "SELECT count(*) FROM ending UNION ALL SELECT count(*) FROM changed")
	if err := w.Rotate(); err != nil {
		t.Fatal(err)
	}
	waitSealed(t, w)
	mustClose(t, w, 123*second)
	tape := mustOpenTape(t, dir)
	conn := connOf(t, tape, 1)
	if got := rows(t, conn, outcomeSQL); !slices.Equal(got, was) {
		t.Errorf("sealed: got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(was, "\n"))
	}
	// One was told of twice, one had another port before, one returned after its end, and one is of another segment.
	left := rows(t, conn, "SELECT count(*) FROM ending UNION ALL SELECT count(*) FROM changed")
	if want := []string{"10", "7"}; !slices.Equal(recorded, want) {
		t.Errorf("recorded are %q endings and changes, want %q", recorded, want)
	}
	if want := []string{"5", "3"}; !slices.Equal(left, want) {
		t.Errorf("left are %q endings and changes, want %q", left, want)
	}
	chains := chainsOf(t, tape, 1)
	for batch, chain := range told {
		if chains[batch] != chain {
			t.Errorf("batch %d: not what was told", batch)
		}
	}
	if len(chains) != 3 {
		t.Errorf("%d batches, want 3", len(chains))
	}
}

// Whatever is altered of an ending in the row of its connection, the chain or verify shows it.
func TestFoldedEndingsAreChained(t *testing.T) {
	dir := t.TempDir()
	w, told := recordEndings(t, dir)
	if err := w.Rotate(); err != nil {
		t.Fatal(err)
	}
	waitSealed(t, w)
	mustClose(t, w, 123*second)
	sealed, err := os.ReadFile(filepath.Join(dir, tapedir.SegmentName(1)))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "altered.db")
	replay := func(change func(conn *sqlite.Conn)) (same bool) {
		if err := os.WriteFile(path, sealed, 0o600); err != nil {
			t.Fatal(err)
		}
		conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		change(conn)
		same = true
		err = proof.ReplayChain(conn, func(batch int64, chain, said [32]byte) error {
			same = same && chain == said && chain == told[batch]
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return same
	}
	if !replay(func(*sqlite.Conn) {}) {
		t.Fatal("the chain is not the one that was told")
	}
	altered := 0
	replay(func(conn *sqlite.Conn) {
		for _, id := range rows(t, conn, "SELECT id FROM connection WHERE outcome IS NOT NULL") {
			var stored []byte
			if err := segment.Exec(conn, func(q *sqlite.Stmt) error { stored = segment.ColumnBytes(q, 0, nil); return nil }, "SELECT outcome FROM connection WHERE id = "+id); err != nil {
				t.Fatal(err)
			}
			outcome, how, ok := segment.ReadTold(stored)
			if !ok || how == nil {
				continue
			}
			altered++
			for name, with := range map[string]func() segment.Told{
				"another batch":  func() segment.Told { h := *how; h.Batch++; return h },
				"another shape":  func() segment.Told { h := *how; h.Shape++; return h },
				"another before": func() segment.Told { h := *how; h.Before = outcome[:0:0]; h.Before = append(h.Before, 0); return h },
			} {
				h := with()
				b, ok := h.Append(nil, outcome)
				if !ok {
					t.Fatalf("%s of %+v is not stored", name, how)
				}
				if replay(func(conn *sqlite.Conn) {
					if err := segment.Exec(conn, nil, "UPDATE connection SET outcome = ? WHERE id = "+id, b); err != nil {
						t.Fatal(err)
					}
				}) {
					t.Errorf("not shown: %s, %+v", name, how)
				}
			}
			if replay(func(conn *sqlite.Conn) {
				if err := segment.Exec(conn, nil, "UPDATE connection SET outcome = ? WHERE id = "+id, outcome); err != nil {
					t.Fatal(err)
				}
			}) {
				t.Errorf("not shown: the outcome came with the row, %+v", how)
			}
		}
	})
	if altered < 5 {
		t.Errorf("%d rows were altered", altered)
	}
}

// An older ending beside the one in the row would hide it from readers, and agrees with the chain.
func TestVerifyFindsHiddenEnding(t *testing.T) {
	dir := t.TempDir()
	w, _ := recordEndings(t, dir)
	if err := w.Rotate(); err != nil {
		t.Fatal(err)
	}
	waitSealed(t, w)
	mustClose(t, w, 123*second)
	const told = "values that are never written"
	s := &sealedTape{dir: dir}
	if text := problems(s.verify(t, proof.Options{})); strings.Contains(text, told) {
		t.Fatalf("before: %s", text)
	}
	// That of the second look is moved into the row, as if there had been no first.
	alterWith(t, dir, 1, func(conn *sqlite.Conn) {
		var id, batch int64
		var outcome, before []byte
		err := segment.Exec(conn, func(q *sqlite.Stmt) error {
			id, batch = q.ColumnInt64(0), q.ColumnInt64(1)
			outcome, before = segment.ColumnBytes(q, 2, nil), segment.ColumnBytes(q, 3, nil)
			return nil
		}, "SELECT f.id, f.batch, f.outcome, c.outcome FROM ending f JOIN connection c ON c.id = f.id ORDER BY f.id = (SELECT id FROM ending GROUP BY id HAVING count(*) = 2), f.batch")
		if err != nil {
			t.Fatal(err)
		}
		b, ok := (&segment.Told{Batch: batch, Before: before}).Append(nil, outcome)
		if !ok {
			t.Fatalf("%x after %x is not stored", outcome, before)
		}
		for sql, args := range map[string][]any{
			"UPDATE connection SET outcome = ? WHERE id = ?": {b, id}, "DELETE FROM ending WHERE id = ? AND batch = ?": {id, batch},
		} {
			if err := segment.Exec(conn, nil, sql, args...); err != nil {
				t.Fatal(err)
			}
		}
		var same error
		if err := proof.ReplayChain(conn, func(_ int64, chain, said [32]byte) error {
			if chain != said {
				same = fmt.Errorf("%x is %x", said, chain)
			}
			return nil
		}); err != nil || same != nil {
			t.Errorf("the chain shows it: %v, %v", err, same)
		}
	})
	sumAgain(t, filepath.Join(dir, tapedir.SegmentName(1)))
	if text := problems(s.verify(t, proof.Options{})); !strings.Contains(text, told) {
		t.Errorf("not found: %s", text)
	}
}

// What becomes of a connection takes at most 24 bytes, whenever it is told in its segment.
func TestLateEndingsAreSmall(t *testing.T) {
	const batches, per = 20, 1000
	size := map[string]int64{}
	for _, kind := range []string{"none", "late", "established before"} {
		dir := t.TempDir()
		w := mustOpenWriter(t, dir, options(999*second))
		l := newLoad(20, 100)
		l.shapes = l.shapes[1:2]
		local := endpoint(2, "10.0.0.5", 0)
		outcome := func(n uint64) *Outcome {
			return &Outcome{Local: local, LocalPort: uint16(32768 + n%28000), Established: int64(200_000 + n*7919%20_000_000), Duration: int64(n * 104_729 % 60_000_000_000),
				Sent: int64(n * 31 % 5000), Received: int64(n * 7907 % 200_000), RTT: int64(200 + n%20_000), ClosedBy: ClosedByLocal}
		}
		established := *l.shapes[0]
		established.Final = FinalEstablished
		var old []Connection
		for n := range batches {
			conns := make([]Connection, per)
			l.fill(conns)
			if kind == "established before" {
				for i := range conns {
					o := outcome(conns[i].Cookie)
					o.Duration, o.Sent, o.Received, o.Retransmits, o.ClosedBy = Unmeasured, Unmeasured, Unmeasured, Unmeasured, ClosedByNobody
					conns[i].Shape, conns[i].Outcome = &established, o
				}
			}
			b := l.batch(conns)
			if kind != "none" {
				for i := range old { // each ends within ten batches
					if c := &old[i]; c.Cookie*2654435761>>7%10 == uint64(n%10) {
						b.Endings = append(b.Endings, Ending{Connect: c.BootTime, Cookie: c.Cookie, Final: FinalEstablished, Outcome: outcome(c.Cookie)})
					}
				}
			}
			mustAppend(t, w, b)
			if old = append(old, conns...); len(old) > 10*per {
				old = old[per:]
			}
		}
		if err := w.Rotate(); err != nil {
			t.Fatal(err)
		}
		waitSealed(t, w)
		mustClose(t, w, l.boot)
		info, err := os.Stat(filepath.Join(dir, tapedir.SegmentName(1)))
		if err != nil {
			t.Fatal(err)
		}
		size[kind] = info.Size()
		if kind == "none" {
			continue
		}
		if more := float64(size[kind]-size["none"]) / (batches * per); more > 24 || more < 8 {
			t.Errorf("%s: %.1f bytes more a connection", kind, more)
		} else {
			t.Logf("%s: %.1f bytes more a connection", kind, more)
		}
	}
}
