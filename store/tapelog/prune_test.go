package tapelog

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// later is a time when parts in the tests may be pruned.
const later = epoch + int64(pruneAge) + int64(time.Hour)

// A younger part is kept; if it is missing, somebody removed it. The key of the next part's header is on the host while
// the part is written: with it, an intruder could otherwise replace the leaves.
func TestPrunedTooEarly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	l, err := Open(dir, Options{PartLeaves: 5})
	if err != nil {
		t.Fatal(err)
	}
	k := kept{key: l.FirstKey()}
	appendLeaves(t, l, &k, 22)
	old := mustVerify(t, dir, VerifyOptions{})
	if err := l.Prune(Leaf{Boot: 23 * tick, Real: epoch + int64(pruneAge)}, expendableUpTo(100)); err != nil {
		t.Fatal(err)
	}
	if r := mustVerify(t, dir, VerifyOptions{}); r.Leaves != old.Leaves {
		t.Errorf("%d of %d leaves are left", r.Leaves, old.Leaves)
	}
	if err := l.Prune(Leaf{Boot: 23 * tick, Real: later}, expendableUpTo(100)); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got := found(mustVerify(t, dir, VerifyOptions{Key: k.key, Now: time.Unix(0, later)})); got != "" {
		t.Errorf("pruned in time: %s", got)
	}
	if got := found(mustVerify(t, dir, VerifyOptions{Key: k.key, Now: time.Unix(0, epoch).Add(time.Hour)})); !strings.Contains(got, "leaves 1 to 4 are missing, and are younger") {
		t.Errorf("pruned too early: %q", got)
	}
}

// A part covers a week at most: its key is on the host for that time.
func TestPartEndsByAge(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	for n := range 3 {
		l, err := Open(dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 2 {
			at := int64(n)*int64(partAge) + int64(i)
			if _, err := l.Append(Leaf{Kind: KindStart, Boot: uint64(at) + 1, Real: epoch + at}); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if l.number != n+1 {
			t.Errorf("%d parts after %d weeks", l.number, n+1)
		}
	}
	if r := mustVerify(t, dir, VerifyOptions{}); len(r.Findings) > 0 || r.Leaves != 6 {
		t.Errorf("%+v", r)
	}
}

// expendableUpTo expends leaves up to n.
func expendableUpTo(n int64) func(Leaf) bool { return func(l Leaf) bool { return l.Seq <= n } }

func TestPrune(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	l, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	l.perPart = 5
	k := kept{key: l.FirstKey()}
	appendLeaves(t, l, &k, 22) // parts of leaves 0-4, 5-9, 10-14, 15-19, 20-21
	size := func(n int) int64 {
		info, err := os.Stat(filepath.Join(dir, partName(n)))
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	before := [...]int64{size(1), size(2), size(3), size(4)}
	l.begun = 0 // do not end the last part by age too
	note := Leaf{Boot: 23 * tick, Real: later, Tape: "t"}
	if err := l.Prune(note, expendableUpTo(3)); err != nil || size(1) != before[0] { // leaf 4 is needed
		t.Errorf("%v, %d bytes", err, size(1))
	}
	if err := l.Prune(note, expendableUpTo(12)); err != nil || size(1) >= before[0]/2 || size(2) >= before[1]/2 || size(3) != before[2] {
		t.Errorf("%v: %d %d %d bytes", err, size(1), size(2), size(3))
	}
	if err := l.Prune(note, expendableUpTo(100)); err != nil || size(3) >= before[2]/2 || size(4) != before[3] { // the last two stay
		t.Errorf("%v: %d %d bytes", err, size(3), size(4))
	}
	for len(k.heads) < 25 {
		k.heads = append(k.heads, nil) // of the prune leaves
	}
	appendLeaves(t, l, &k, 3)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	// The rest is linked to the first key and to heads of remaining leaves.
	for _, c := range []struct {
		head int
		want string
	}{{27, ""}, {15, ""}, {10, ""}, {0, ""}, {12, "lies in what retention has removed"}} {
		r := mustVerify(t, dir, VerifyOptions{Key: k.key, Head: k.heads[c.head]})
		if c.want == "" && (found(r) != "" || !r.HeadMatched) || !strings.Contains(found(r), c.want) {
			t.Errorf("head of leaf %d: %q, want %q", c.head, found(r), c.want)
		}
		if r.Pruned != 12 || r.Leaves != 16 || r.Proven != 28 || !r.KeyMatched || r.Last.Seq != 27 {
			t.Errorf("%+v", r)
		}
	}
	if l, err = Open(dir, Options{}); err != nil || l.Created() {
		t.Fatalf("not gone on: %v", err)
	}
	l.Close()

	// An intruder does the same, without a leaf about it, or with other lines.
	rewrite(t, dir, partName(4), func(s string) string { return s[:strings.Index(s, "\n16 checkpoint")+1] })
	if got := found(mustVerify(t, dir, VerifyOptions{Key: k.key})); !strings.Contains(got, "leaves 16 to 19 are missing") {
		t.Errorf("pruned without a word: %q", got)
	}
	rewrite(t, dir, partName(2), func(s string) string { return strings.Replace(s, "detail=5", "detail=6", 1) })
	if got := found(mustVerify(t, dir, VerifyOptions{Key: k.key})); !strings.Contains(got, "leaf 5 is not signed") {
		t.Errorf("what is left of a part altered: %q", got)
	}
}

// The power is cut during pruning.
func TestPruneCrash(t *testing.T) {
	for seed := range uint64(rounds(t, 150)) {
		r := rand.New(rand.NewPCG(seed, 5))
		m := newMemory()
		h := &history{}
		if err := h.play(m, 14, true); err != nil {
			t.Fatal(err)
		}
		m.operations, m.crashAt = 0, 1+r.IntN(16)
		l, err := openMemory(m)
		if err == nil {
			err = l.Prune(Leaf{Boot: 1 << 40, Real: later}, expendableUpTo(8))
		}
		if err != nil && !errors.Is(err, errCrashed) {
			t.Fatalf("seed %d: %v", seed, err)
		}
		m = m.crash(r)
		again := &history{origin: h.origin, key: h.key, asked: h.asked}
		for range 2 {
			if l, err = openMemory(m); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if err := l.Prune(Leaf{Boot: 1 << 40, Real: later}, expendableUpTo(8)); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
		r2, err := verify(m, VerifyOptions{Key: h.key, Head: h.heads[len(h.heads)-1]})
		if err != nil || len(r2.Findings) > 0 || r2.Pruned != 6 || !r2.HeadMatched || !r2.KeyMatched {
			t.Fatalf("seed %d: %v, %+v", seed, err, r2)
		}
		if again.play(m, 2, true) != nil || again.check(m) != nil {
			t.Fatalf("seed %d: it does not go on", seed)
		}
	}
}

// A header with the wrong signature is found.
func TestHeaderSignature(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	writeLog(t, dir, 12, 5)
	for _, n := range []int{1, 2, 3} {
		path := filepath.Join(dir, partName(n))
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		at := bytes.Index(good, []byte("\nsig ")) + 10
		bad := bytes.Clone(good)
		bad[at] ^= 1
		if err := os.WriteFile(path, bad, 0o640); err != nil {
			t.Fatal(err)
		}
		if r := mustVerify(t, dir, VerifyOptions{}); len(r.Findings) == 0 {
			t.Errorf("part %d: not found", n)
		}
		if err := os.WriteFile(path, good, 0o640); err != nil {
			t.Fatal(err)
		}
	}
}
