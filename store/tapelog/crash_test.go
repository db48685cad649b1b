package tapelog

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

// rounds returns the number of a test's random rounds: usual, or the environment's.
func rounds(t testing.TB, usual int) int {
	text := os.Getenv("CONNTAPE_CRASH_ROUNDS")
	if text == "" {
		return usual
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("CONNTAPE_CRASH_ROUNDS=%s", text)
	}
	return n
}

// history is what a log was asked to store.
type history struct {
	origin string
	key    string   // first verifier key; "" until somebody was told it
	kept   []string // details of acknowledged leaves
	heads  [][]byte
	asked  int
}

// openMemory opens a log with parts of three leaves.
func openMemory(m *memory) (*Log, error) {
	l, err := open(m, Options{})
	if err == nil {
		l.perPart = 3
	}
	return l, err
}

// play opens the log and appends n leaves. It returns the first error, and continues after it unless stop is set.
func (h *history) play(m *memory, n int, stop bool) error {
	l, err := openMemory(m)
	if err != nil {
		return err
	}
	if h.origin == "" {
		h.origin, h.key = l.Origin(), l.FirstKey()
	}
	if l.Origin() != h.origin {
		return fmt.Errorf("the log was begun anew")
	}
	var first error
	for range n {
		h.asked++
		detail := fmt.Sprint("leaf ", h.asked)
		head, err := l.Append(Leaf{Kind: KindCheckpoint, Boot: uint64(h.asked), Real: int64(h.asked), Detail: detail})
		if err != nil {
			if first == nil {
				first = err
			}
			if stop {
				return first
			}
			continue
		}
		h.kept, h.heads = append(h.kept, detail), append(h.heads, head)
	}
	if err := l.Close(); first == nil {
		first = err
	}
	return first
}

// check checks that the log on m is intact: no findings, and every acknowledged leaf is there, in order. Other leaves
// may be there too.
func (h *history) check(m *memory) error {
	if h.origin == "" {
		return nil
	}
	var got []string
	o := VerifyOptions{Key: h.key, Leaf: func(l Leaf) error { got = append(got, l.Detail); return nil }}
	if len(h.heads) > 0 {
		o.Head = h.heads[len(h.heads)-1]
	}
	r, err := verify(m, o)
	if err != nil {
		return fmt.Errorf("%w: %v", err, m)
	}
	if len(r.Findings) > 0 {
		return fmt.Errorf("%+v: %v", r.Findings, m)
	}
	if r.Proven != r.Leaves+r.Pruned || h.key == "" || !r.KeyMatched || o.Head != nil && !r.HeadMatched {
		return fmt.Errorf("not proven: %d of %d, %+v", r.Proven, len(got), r)
	}
	for _, want := range h.kept {
		for len(got) > 0 && got[0] != want {
			got = got[1:]
		}
		if len(got) == 0 {
			return fmt.Errorf("%q is not there", want)
		}
		got = got[1:]
	}
	return nil
}

// crashRound cuts the power at a random operation, and again during the recovery, and checks the log.
func crashRound(seed uint64, mutant bool) error {
	r := rand.New(rand.NewPCG(seed, 4))
	m := newMemory()
	h := &history{}
	for range 4 {
		m.noDirSync = mutant
		m.crashAt = 1 + r.IntN(60)
		err := h.play(m, 1+r.IntN(12), true)
		if err != nil && !errors.Is(err, errCrashed) {
			return fmt.Errorf("seed %d: %w", seed, err)
		}
		m = m.crash(r)
		if err := h.check(m); err != nil {
			return fmt.Errorf("seed %d, after a crash: %w", seed, err)
		}
	}
	if err := h.play(m, 2, true); err != nil {
		return fmt.Errorf("seed %d, at last: %w", seed, err)
	}
	if n := m.keysIn(); n != 1 {
		return fmt.Errorf("seed %d: %d keys on the disk", seed, n)
	}
	if err := h.check(m); err != nil {
		return fmt.Errorf("seed %d, at last: %w", seed, err)
	}
	return nil
}

// After a power cut at any instant the log opens, continues with the same key, is intact, and has every acknowledged
// leaf.
func TestCrash(t *testing.T) {
	for seed := range uint64(rounds(t, 500)) {
		if err := crashRound(seed, false); err != nil {
			t.Fatal(err)
		}
	}
}

// Without a sync of the directory the same must fail, or TestCrash proves nothing.
func TestCrashWithoutDirectorySync(t *testing.T) {
	failed := 0
	for seed := range uint64(50) {
		if crashRound(seed, true) != nil {
			failed++
		}
	}
	if failed == 0 {
		t.Error("a log that never syncs its directory passes")
	}
	t.Logf("%d of 50 rounds failed, as they must", failed)
}

// Each operation fails once: acknowledged leaves are there, and the failed leaf is written with the next one.
func TestEachOperationFailsOnce(t *testing.T) {
	for n := 1; ; n++ {
		m := newMemory()
		h := &history{}
		if err := h.play(m, 5, true); err != nil {
			t.Fatal(err)
		}
		m.operations, m.failAt = 0, n
		err := h.play(m, 10, false)
		if err != nil && !errors.Is(err, errInjected) {
			t.Fatalf("operation %d: %v", n, err)
		}
		if m.operations < n {
			if n < 40 {
				t.Fatalf("only %d operations", n)
			}
			return
		}
		m.failAt = 0
		if err := h.play(m, 3, true); err != nil {
			t.Fatalf("after operation %d failed: %v", n, err)
		}
		if err := h.check(m); err != nil {
			t.Fatalf("operation %d: %v", n, err)
		}
		// A power cut afterwards loses nothing either.
		after := m.crash(rand.New(rand.NewPCG(uint64(n), 1)))
		if err := h.check(after); err != nil {
			t.Fatalf("operation %d, and a crash: %v", n, err)
		}
		if keys := m.keysIn(); keys != 1 {
			t.Errorf("operation %d: %d keys on the disk", n, keys)
		}
	}
}

// From each operation on everything fails, then the power is cut.
func TestEachOperationFailsForGood(t *testing.T) {
	for n := 1; ; n++ {
		m := newMemory()
		h := &history{}
		if err := h.play(m, 4, true); err != nil {
			t.Fatal(err)
		}
		m.operations, m.failAt, m.forGood = 0, n, true
		err := h.play(m, 8, false)
		if err == nil && m.operations < n {
			return
		}
		if err != nil && !errors.Is(err, errInjected) {
			t.Fatalf("operation %d: %v", n, err)
		}
		for seed := range uint64(5) {
			after := m.crash(rand.New(rand.NewPCG(uint64(n), seed)))
			if err := h.check(after); err != nil {
				t.Fatalf("operation %d: %v", n, err)
			}
			again := *h
			if err := again.play(after, 2, true); err != nil {
				t.Fatalf("operation %d: %v", n, err)
			}
			if err := again.check(after); err != nil {
				t.Fatalf("operation %d, gone on: %v", n, err)
			}
		}
	}
}

// A disk stays full for a long time: no files pile up, and once there is room the pending leaf is written.
func TestFullForLong(t *testing.T) {
	m := newMemory()
	h := &history{}
	if err := h.play(m, 2, true); err != nil {
		t.Fatal(err)
	}
	l, err := openMemory(m)
	if err != nil {
		t.Fatal(err)
	}
	m.full = true
	for range 200 {
		if _, err := l.Append(Leaf{Kind: KindGap, Boot: 9}); !errors.Is(err, errInjected) {
			t.Fatalf("appended on a full disk: %v", err)
		}
	}
	if len(m.names) > 3 {
		t.Errorf("left behind: %v", m)
	}
	m.full = false
	head, err := l.Append(Leaf{Kind: KindCheckpoint, Boot: 10})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := verify(m, VerifyOptions{Key: h.key, Head: head})
	if err != nil || len(r.Findings) > 0 || r.Leaves != 4 || !r.HeadMatched {
		t.Errorf("%v, %+v", err, r)
	}
}

// Each operation fails while a log is begun, once or permanently, with and without a crash after it: the next try begins
// the log.
func TestEachOperationOfTheBeginningFails(t *testing.T) {
	for n := 1; ; n++ {
		failed := false
		for _, forGood := range []bool{false, true} {
			for _, power := range []bool{false, true} {
				m := newMemory()
				m.failAt, m.forGood = n, forGood
				h := &history{}
				err := h.play(m, 2, true)
				if err != nil && !errors.Is(err, errInjected) {
					t.Fatalf("operation %d: %v", n, err)
				}
				failed = failed || m.operations >= n
				m.failAt = 0
				if power {
					m = m.crash(rand.New(rand.NewPCG(uint64(n), 3)))
				}
				if err := h.check(m); err != nil {
					t.Fatalf("operation %d: %v", n, err)
				}
				if err := h.play(m, 3, true); err != nil {
					t.Fatalf("operation %d, next try: %v", n, err)
				}
				if err := h.check(m); err != nil || len(h.kept) < 3 {
					t.Fatalf("operation %d, next try: %v, %d leaves", n, err, len(h.kept))
				}
				if keys := m.keysIn(); keys != 1 {
					t.Errorf("operation %d: %d keys on the disk", n, keys)
				}
			}
		}
		if !failed {
			if n < 15 {
				t.Errorf("only %d operations", n)
			}
			return
		}
	}
}
