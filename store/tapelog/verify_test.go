package tapelog

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/conntape/conntape/store/tapelog/vault"
)

const (
	tick  = uint64(10 * time.Second)
	epoch = int64(1767225600_000000000) // 2026-01-01T00:00:00Z
)

// kept is what a log's owner keeps elsewhere.
type kept struct {
	key   string
	heads [][]byte // after each leaf
}

// writeLog writes a log of n leaves, 10 s apart, in parts of perPart.
func writeLog(t testing.TB, dir string, n int, perPart int64) kept {
	t.Helper()
	l, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	l.perPart = perPart
	k := kept{key: l.FirstKey()}
	appendLeaves(t, l, &k, n)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return k
}

func appendLeaves(t testing.TB, l *Log, k *kept, n int) {
	t.Helper()
	for range n {
		boot := uint64(len(k.heads)+1) * tick
		leaf := Leaf{Kind: KindCheckpoint, Boot: boot, Real: epoch + int64(boot), Segment: 1, Batches: int64(len(k.heads)), Detail: fmt.Sprint(len(k.heads))}
		if len(k.heads) == 0 {
			leaf.Kind = KindStart
		}
		head, err := l.Append(leaf)
		if err != nil {
			t.Fatal(err)
		}
		k.heads = append(k.heads, head)
	}
}

func mustVerify(t testing.TB, dir string, o VerifyOptions) *Result {
	t.Helper()
	r, err := Verify(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestVerify(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	k := writeLog(t, dir, 20, 7)
	if names, err := os.ReadDir(dir); err != nil || len(names) != 5 { // 3 parts and two keys
		t.Errorf("%v, %v", names, err)
	}
	for size, head := range k.heads {
		r := mustVerify(t, dir, VerifyOptions{Key: k.key, Head: head})
		if len(r.Findings) > 0 || !r.KeyMatched || !r.HeadMatched || r.Proven != 20 || r.Leaves != 20 || r.Torn || r.HeadSize != int64(size+1) {
			t.Errorf("head %d: %+v", size+1, r)
		}
	}
	r := mustVerify(t, dir, VerifyOptions{})
	if r.KeyMatched || r.HeadMatched || r.First != k.key || r.Last.Detail != "19" || !bytes.Equal(r.Head, k.heads[19]) {
		t.Errorf("%+v", r)
	}
	if _, err := Verify(t.TempDir(), VerifyOptions{}); !errors.Is(err, ErrNoLog) {
		t.Errorf("no log: %v", err)
	}
	if _, err := Verify(dir, VerifyOptions{Key: "x"}); err == nil {
		t.Error("a bad key is taken")
	}
	if _, err := Verify(dir, VerifyOptions{Head: []byte("x")}); err == nil {
		t.Error("a bad head is taken")
	}
}

// found joins all findings.
func found(r *Result) string {
	var b strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "%d %s: %s\n", f.Leaf, f.Part, f.Problem)
	}
	return b.String()
}

// rewrite changes a file of the log.
func rewrite(t testing.TB, dir, name string, change func(string) string) {
	t.Helper()
	path := filepath.Join(dir, name)
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := change(string(old))
	if text == string(old) {
		t.Fatal("nothing was changed")
	}
	if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
}

// Every way to alter a log is found; alterations at the end of the list only with a kept head or first key.
func TestTamper(t *testing.T) {
	line := func(text string, n int) string { return strings.Split(text, "\n")[7+n] + "\n" }
	first := partName(1)
	for _, c := range []struct {
		name   string
		tamper func(t *testing.T, dir string)
		needs  string // "", head or key
		want   string
	}{
		{"edit a leaf", func(t *testing.T, dir string) {
			rewrite(t, dir, first, func(s string) string { return strings.Replace(s, "detail=3", "detail=4", 1) })
		}, "", "3 00000001.log: leaf 3 is not signed by the key"},
		{"remove a leaf", func(t *testing.T, dir string) {
			rewrite(t, dir, first, func(s string) string { return strings.Replace(s, line(s, 2), "", 1) })
		}, "", "2 00000001.log: leaf 3 stands where leaf 2 should be"},
		{"swap two leaves", func(t *testing.T, dir string) {
			rewrite(t, dir, first, func(s string) string {
				a, b := line(s, 2), line(s, 3)
				return strings.Replace(s, a+b, b+a, 1)
			})
		}, "", "2 00000001.log: leaf 3 stands where leaf 2 should be"},
		{"write a leaf twice", func(t *testing.T, dir string) {
			rewrite(t, dir, first, func(s string) string { return strings.Replace(s, line(s, 2), line(s, 2)+line(s, 2), 1) })
		}, "", "leaf 2 stands where leaf 3 should be"},
		{"another key", func(t *testing.T, dir string) {
			rewrite(t, dir, first, func(s string) string {
				a, b := line(s, 2), line(s, 3)
				keyOf := func(l string) string {
					_, rest, _ := strings.Cut(l, "next=")
					key, _, _ := strings.Cut(rest, " ")
					return key
				}
				return strings.Replace(s, keyOf(a), keyOf(b), 1)
			})
		}, "", "2 00000001.log: leaf 2 is not signed"},
		{"swap signatures", func(t *testing.T, dir string) {
			rewrite(t, dir, first, func(s string) string {
				a, b := line(s, 2), line(s, 3)
				return strings.Replace(s, a[strings.Index(a, " sig="):], b[strings.Index(b, " sig="):], 1)
			})
		}, "", "2 00000001.log: leaf 2 is not signed"},
		{"rubbish between leaves", func(t *testing.T, dir string) {
			rewrite(t, dir, first, func(s string) string { return strings.Replace(s, line(s, 2), "rubbish\n"+line(s, 2), 1) })
		}, "", "2 00000001.log: a line of the log is damaged"},
		{"cut a part short", func(t *testing.T, dir string) {
			rewrite(t, dir, first, func(s string) string { return strings.Replace(s, line(s, 6), "", 1) })
		}, "", "6 00000002.log: leaves 6 to 6 are missing"},
		{"remove a part", func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, partName(2))); err != nil {
				t.Fatal(err)
			}
		}, "", "7 00000003.log: leaves 7 to 13 are missing"},
		{"remove the first part", func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, first)); err != nil {
				t.Fatal(err)
			}
		}, "", "the log begins at leaf 7"},
		{"a part that ends before its leaves", func(t *testing.T, dir string) {
			// As root could do today: begin a part at an old leaf, whose key is gone.
			text, err := os.ReadFile(filepath.Join(dir, partName(2)))
			if err != nil {
				t.Fatal(err)
			}
			header := string(text[:strings.Index(string(text), "\n\n")+2])
			if err := os.WriteFile(filepath.Join(dir, partName(4)), []byte(header), 0o640); err != nil {
				t.Fatal(err)
			}
		}, "", "the part does not fit to the end of the one before"},
		{"a log of another tape", func(t *testing.T, dir string) {
			other := filepath.Join(t.TempDir(), "log")
			writeLog(t, other, 3, 7)
			if err := os.Rename(filepath.Join(other, first), filepath.Join(dir, partName(4))); err != nil {
				t.Fatal(err)
			}
		}, "", "the log was begun anew"},
		{"the end cut off", func(t *testing.T, dir string) {
			rewrite(t, dir, partName(3), func(s string) string { return s[:strings.Index(s, line(s, 4))] })
		}, "head", "18 : the log ends with leaf 17, and the kept head has 20 leaves"},
		{"the last parts removed", func(t *testing.T, dir string) {
			for _, n := range []int{2, 3} {
				if err := os.Remove(filepath.Join(dir, partName(n))); err != nil {
					t.Fatal(err)
				}
			}
		}, "head", "7 : the log ends with leaf 6, and the kept head has 20 leaves"},
		{"rewritten from the first leaf on", func(t *testing.T, dir string) {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			writeLog(t, dir, 20, 7)
		}, "key", "the log does not begin with the key that was given"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "log")
			k := writeLog(t, dir, 20, 7)
			c.tamper(t, dir)
			alone := mustVerify(t, dir, VerifyOptions{})
			withKey := mustVerify(t, dir, VerifyOptions{Key: k.key})
			withHead := mustVerify(t, dir, VerifyOptions{Head: k.heads[19]})
			shows := map[string]*Result{"": alone, "key": withKey, "head": withHead}[c.needs]
			if !strings.Contains(found(shows), c.want) {
				t.Errorf("found %q, want %q", found(shows), c.want)
			}
			if c.needs != "" && len(alone.Findings) > 0 {
				t.Errorf("found without a %s already: %q", c.needs, found(alone))
			}
			if len(withHead.Findings) == 0 {
				t.Error("not found with a head")
			}
		})
	}
}

// An intruder at one instant has the key of the next leaf. He cannot change earlier leaves.
func TestStolenKey(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	k := writeLog(t, dir, 5, 100)
	f, err := os.Open(filepath.Join(dir, keyName))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	thief, err := vault.New()
	if err != nil {
		t.Fatal(err)
	}
	defer thief.Close()
	keys, err := readSlots(thief, osFile{f})
	if err != nil || len(keys) != 1 || keys[0].tree.size != 5 {
		t.Fatalf("keys: %+v, %v", keys, err)
	}
	// The intruder rewrites leaf 3 and everything after it with this key.
	text, err := os.ReadFile(filepath.Join(dir, partName(1)))
	if err != nil {
		t.Fatal(err)
	}
	p, err := readPart(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	forged, tr := p.header.String(), &tree{}
	for range 3 {
		e, err := p.next()
		if err != nil {
			t.Fatal(err)
		}
		forged += string(formatEntry(e.text, e.signature))
		if tr, err = tr.appended(e.text); err != nil {
			t.Fatal(err)
		}
	}
	l := &Log{vault: thief, state: &state{origin: keys[0].origin, vault: thief, public: keys[0].public, tree: tr}}
	for n := range 3 {
		pending, err := l.sign(Leaf{Kind: KindCheckpoint, Boot: uint64(4+n) * tick, Real: epoch, Detail: "forged"})
		if err != nil {
			t.Fatal(err)
		}
		forged += string(pending.line)
		l.state = pending.next
	}
	if err := os.WriteFile(filepath.Join(dir, partName(1)), []byte(forged), 0o640); err != nil {
		t.Fatal(err)
	}
	r := mustVerify(t, dir, VerifyOptions{Key: k.key})
	if !strings.Contains(found(r), "leaf 3 is not signed") || r.Proven != 3 || r.Findings[0].Since != time.Unix(0, epoch+3*int64(tick)).UTC() {
		t.Errorf("%+v", r)
	}
}

// A flipped bit anywhere in the log is found. In the last line, or in the end of the line before, it could also be from
// a crash, unless the head was kept.
func TestFlippedBit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	k := writeLog(t, dir, 6, 3)
	r := rand.New(rand.NewPCG(1, 2))
	for range rounds(t, 500) {
		name := partName(1 + r.IntN(2))
		path := filepath.Join(dir, name)
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		bad := bytes.Clone(good)
		bit := r.IntN(len(bad) * 8)
		bad[bit/8] ^= 1 << (bit % 8)
		if err := os.WriteFile(path, bad, 0o640); err != nil {
			t.Fatal(err)
		}
		alone := mustVerify(t, dir, VerifyOptions{Key: k.key})
		withHead := mustVerify(t, dir, VerifyOptions{Head: k.heads[5]})
		last := bytes.LastIndexByte(good[:len(good)-1], '\n')
		if len(alone.Findings) == 0 && !(name == partName(2) && bit/8 >= last && alone.Torn) {
			t.Errorf("bit %d of %s is not found", bit, name)
		}
		if len(withHead.Findings) == 0 {
			t.Errorf("bit %d of %s is not found with a head", bit, name)
		}
		if err := os.WriteFile(path, good, 0o640); err != nil {
			t.Fatal(err)
		}
	}
}

// Steps of the clock and sleep are no findings; silence is.
func TestClock(t *testing.T) {
	year := int64(365 * 24 * time.Hour)
	for _, c := range []struct {
		name string
		next Leaf // after one at tick, epoch
		want string
	}{
		{"ten years ahead", Leaf{Boot: 2 * tick, Real: epoch + 10*year}, ""},
		{"ten years back", Leaf{Boot: 2 * tick, Real: epoch - 10*year}, ""},
		{"an hour back", Leaf{Boot: 2 * tick, Real: epoch - int64(time.Hour)}, ""},
		{"asleep for a day", Leaf{Boot: 2*tick + uint64(24*time.Hour), Suspended: uint64(24 * time.Hour), Real: epoch + int64(24*time.Hour)}, ""},
		{"silent for an hour", Leaf{Boot: 2*tick + uint64(time.Hour), Real: epoch + int64(time.Hour)}, "nothing was written to the log for 1h0m10s"},
		{"silent, and the clock set back", Leaf{Boot: 2*tick + uint64(time.Hour), Real: epoch}, "nothing was written"},
		{"older than the one before", Leaf{Boot: 1, Real: epoch + 1}, "leaf 1 is older than the one before it"},
	} {
		dir := filepath.Join(t.TempDir(), "log")
		l, err := Open(dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Append(Leaf{Kind: KindStart, Boot: tick, Real: epoch}); err != nil {
			t.Fatal(err)
		}
		c.next.Kind = KindCheckpoint
		if _, err := l.Append(c.next); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		text := found(mustVerify(t, dir, VerifyOptions{}))
		if c.want == "" && text != "" || !strings.Contains(text, c.want) {
			t.Errorf("%s: %q, want %q", c.name, text, c.want)
		}
	}
}

// A key file is lost, of another log, or rolled back: a new log begins, which is a finding. The old log stays.
func TestLostKey(t *testing.T) {
	for _, c := range []struct {
		name string
		harm func(t *testing.T, dir string, old []byte)
	}{
		{"removed", func(t *testing.T, dir string, _ []byte) {
			if err := os.Remove(filepath.Join(dir, keyName)); err != nil {
				t.Fatal(err)
			}
		}},
		{"rolled back", func(t *testing.T, dir string, old []byte) {
			if err := os.WriteFile(filepath.Join(dir, keyName), old, 0o600); err != nil {
				t.Fatal(err)
			}
		}},
		{"emptied", func(t *testing.T, dir string, _ []byte) {
			if err := os.Truncate(filepath.Join(dir, keyName), 0); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		dir := filepath.Join(t.TempDir(), "log")
		k := writeLog(t, dir, 3, 100)
		old, err := os.ReadFile(filepath.Join(dir, keyName))
		if err != nil {
			t.Fatal(err)
		}
		l, err := Open(dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if l.Created() || l.FirstKey() != "" {
			t.Error("continued, and yet created")
		}
		appendLeaves(t, l, &k, 2)
		l.Close()
		c.harm(t, dir, old)
		if l, err = Open(dir, Options{}); err != nil {
			t.Fatal(err)
		}
		if !l.Created() || l.FirstKey() == k.key {
			t.Errorf("%s: not begun anew", c.name)
		}
		if _, err := l.Append(Leaf{Kind: KindStart, Boot: 1, Real: epoch}); err != nil {
			t.Fatal(err)
		}
		l.Close()
		r := mustVerify(t, dir, VerifyOptions{Key: k.key})
		if !strings.Contains(found(r), "the log was begun anew") || r.Leaves != 6 || r.Proven != 5 {
			t.Errorf("%s: %q, %+v", c.name, found(r), r)
		}
	}
}

// A log that is damaged or lacks its end stays unchanged and continues in a new part with the same keys; the loss is
// found.
func TestGoesOnAfterDamage(t *testing.T) {
	for name, change := range map[string]func(string) string{
		"end lost": func(s string) string { return s[:strings.Index(s, "\n2 checkpoint")+1] },
		"middle":   func(s string) string { return strings.Replace(s, "2 checkpoint", "2 chexkpoint", 1) },
		"header":   func(s string) string { return strings.Replace(s, partMagic, "Conntape", 1) },
	} {
		dir := filepath.Join(t.TempDir(), "log")
		k := writeLog(t, dir, 4, 100)
		rewrite(t, dir, partName(1), change)
		before, err := os.ReadFile(filepath.Join(dir, partName(1)))
		if err != nil {
			t.Fatal(err)
		}
		l, err := Open(dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		appendLeaves(t, l, &k, 1)
		l.Close()
		after, err := os.ReadFile(filepath.Join(dir, partName(1)))
		if err != nil || !bytes.Equal(before, after) {
			t.Errorf("%s: evidence was changed: %v", name, err)
		}
		r := mustVerify(t, dir, VerifyOptions{Head: k.heads[len(k.heads)-1]})
		if len(r.Findings) == 0 || name != "header" && !r.HeadMatched {
			t.Errorf("%s: %q, %+v", name, found(r), r)
		}
	}
}
