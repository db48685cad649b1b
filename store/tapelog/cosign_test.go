package tapelog

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// push has the log cosigned by one witness.
func push(t testing.TB, dir string, w *stubWitness) (Cosigned, error) {
	t.Helper()
	done, err := pushTo(t, dir, w)
	if len(done) != 1 {
		done = []Cosigned{{}}
	}
	return done[0], err
}

// pushTo has the log cosigned by several.
func pushTo(t testing.TB, dir string, all ...*stubWitness) ([]Cosigned, error) {
	t.Helper()
	var o CosignOptions
	for _, w := range all {
		key, err := ParseWitness(w.verifierKey())
		if err != nil {
			t.Fatal(err)
		}
		o.Witnesses = append(o.Witnesses, Asked{key, w.post})
	}
	return Cosign(dir, o)
}

// Several witnesses that are asked at once cosign one checkpoint, and one that refuses takes nothing from the others. What a
// witness cosigned stays for as long as it cosigned nothing newer, whoever else did.
func TestCosignTogether(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	k := writeLog(t, dir, 9, 7)
	var all []*stubWitness
	var keys []string
	for i := range 4 {
		w := newStubWitness(t, dir)
		w.name, w.key = fmt.Sprint("witness.example/", i), ed25519.NewKeyFromSeed(bytes.Repeat([]byte{byte(i)}, 32))
		all, keys = append(all, w), append(keys, w.verifierKey())
	}
	cosigned := func(what string, leaves ...int64) {
		t.Helper()
		r := mustVerify(t, dir, VerifyOptions{Witnesses: keys})
		got := make([]int64, len(all))
		for _, c := range r.Cosigned {
			for i, w := range all {
				if c.Witness == w.name {
					got[i] = max(got[i], c.Leaves)
				}
			}
		}
		if !slices.Equal(got, leaves) || len(r.Findings) != strings.Count(fmt.Sprint(leaves), " 0")+strings.Count(fmt.Sprint(leaves), "[0") {
			t.Errorf("%s: %d leaves are cosigned, want %d; %+v", what, got, leaves, r.Findings)
		}
	}
	notes := func() int { return strings.Count(mustRead(t, filepath.Join(dir, cosignedName)), "conntape/") }

	done, err := pushTo(t, dir, all[0], all[1], all[2])
	if err != nil || len(done) != 3 || !bytes.Equal(done[0].Note, done[2].Note) || bytes.Count(done[0].Note, []byte("— witness.example/")) != 3 {
		t.Fatalf("%+v, %v", done, err)
	}
	cosigned("three at once", 9, 9, 9, 0)
	if n := notes(); n != 3 { // of one note: its origin, and two signatures of that name
		t.Errorf("the origin is named %d times", n)
	}
	reopen(t, dir, &k, 4, 7)
	if _, err := pushTo(t, dir, all[1]); err != nil {
		t.Fatal(err)
	}
	cosigned("one alone", 9, 13, 9, 0)

	reopen(t, dir, &k, 4, 7)
	all[0].answer = func(Answer) Answer { return Answer{Status: 500} }
	all[2].size = 99
	done, err = pushTo(t, dir, all...)
	var refused *WitnessError
	var behind *BehindError
	if !errors.As(err, &refused) || refused.Status != 500 || !errors.As(err, &behind) || behind.Witness != all[2].name || len(done) != 2 {
		t.Errorf("%+v, %v", done, err)
	}
	if want := "witness.example/0: the witness answered with status 500; witness.example/2 has cosigned 99 leaves"; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
	cosigned("two of four", 9, 17, 9, 17)
	all[0].answer, all[2].size = nil, 9
	if _, err := pushTo(t, dir, all...); err != nil {
		t.Fatal(err)
	}
	cosigned("all", 17, 17, 17, 17)
	if n := notes(); n != 3 {
		t.Errorf("the origin is named %d times", n)
	}
}

func mustRead(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// reopen appends leaves to an existing log.
func reopen(t testing.TB, dir string, k *kept, n int, perPart int64) {
	t.Helper()
	l, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	l.perPart = perPart
	appendLeaves(t, l, k, n)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// A witness follows a log over several parts from any old checkpoint, and verify accepts its cosignatures.
func TestCosign(t *testing.T) {
	for _, step := range []int{1, 2, 3, 5, 8, 13} {
		dir := filepath.Join(t.TempDir(), "log")
		k := writeLog(t, dir, 1, 7)
		w := newStubWitness(t, dir)
		for range 8 {
			done, err := push(t, dir, w)
			if err != nil || done.Leaves != int64(len(k.heads)) || !done.At.Equal(w.now) {
				t.Fatalf("step %d, %d leaves: %+v, %v", step, len(k.heads), done, err)
			}
			r := mustVerify(t, dir, VerifyOptions{Witnesses: []string{w.verifierKey()}})
			if len(r.Findings) > 0 || len(r.Cosigned) != 1 || r.Cosigned[0].Leaves != done.Leaves {
				t.Fatalf("step %d: %+v", step, r)
			}
			w.now = w.now.Add(time.Hour)
			reopen(t, dir, &k, step, 7)
		}
		if w.asked != 8 { // the last cosigned checkpoint is known
			t.Errorf("step %d: asked %d times", step, w.asked)
		}
		// The answer or the file is lost: the witness says how far it is.
		if err := os.Remove(filepath.Join(dir, cosignedName)); err != nil {
			t.Fatal(err)
		}
		if done, err := push(t, dir, w); err != nil || done.Leaves != int64(len(k.heads)) || w.asked != 10 {
			t.Errorf("step %d: %+v, %v, asked %d times", step, done, err, w.asked)
		}
		if done, err := push(t, dir, w); err != nil || done.Leaves != int64(len(k.heads)) { // no new leaves: only the time is new
			t.Errorf("step %d: %+v, %v", step, done, err)
		}
	}
}

// A log that was cut off, rolled back or rewritten is not cosigned, and verify finds it by the kept checkpoints.
func TestCosignedIsNotUndone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	k := writeLog(t, dir, 20, 100)
	w := newStubWitness(t, dir)
	if _, err := push(t, dir, w); err != nil {
		t.Fatal(err)
	}
	vkey := w.verifierKey()
	for name, attack := range map[string]func(t *testing.T, dir string){
		"the end cut off":       func(t *testing.T, dir string) { cutLines(t, dir, 5) },
		"the last line cut off": func(t *testing.T, dir string) { cutLines(t, dir, 1) },
		"another log in its place": func(t *testing.T, dir string) {
			kept, err := os.ReadFile(filepath.Join(dir, cosignedName))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			writeLog(t, dir, 40, 100)
			if err := os.WriteFile(filepath.Join(dir, cosignedName), kept, 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"cosignature removed": func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, cosignedName)); err != nil {
				t.Fatal(err)
			}
		},
		"cosignature altered": func(t *testing.T, dir string) {
			path := filepath.Join(dir, cosignedName)
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			text = bytes.Replace(text, []byte("\n20\n"), []byte("\n19\n"), 1)
			if err := os.WriteFile(path, text, 0o600); err != nil {
				t.Fatal(err)
			}
		},
	} {
		copied := filepath.Join(t.TempDir(), "log")
		copyDir(t, dir, copied)
		attack(t, copied)
		if r, err := Verify(copied, VerifyOptions{Witnesses: []string{vkey}}); err == nil && len(r.Findings) == 0 {
			t.Errorf("%s: nothing is wrong", name)
		}
	}

	// The witness reports it too.
	short := filepath.Join(t.TempDir(), "log")
	copyDir(t, dir, short)
	cutLines(t, short, 5)
	if err := os.Remove(filepath.Join(short, cosignedName)); err != nil {
		t.Fatal(err)
	}
	var behind *BehindError
	if _, err := push(t, short, w); !errors.As(err, &behind) || behind.Cosigned != 20 || behind.Leaves != 15 || behind.Rewritten {
		t.Errorf("a log that was cut off: %v", err)
	}
	// A fork of the log, made with the stolen stable key.
	w.root[0] ^= 1
	reopen(t, dir, &k, 1, 100)
	if _, err := push(t, dir, w); !errors.As(err, &behind) || !behind.Rewritten {
		t.Errorf("a log that was rewritten: %v", err)
	}
	w.size = int64(len(k.heads))
	if _, err := push(t, dir, w); !errors.As(err, &behind) || !behind.Rewritten {
		t.Errorf("a log of the same size: %v", err)
	}
}

// cutLines removes the last n lines of the first part.
func cutLines(t *testing.T, dir string, n int) {
	t.Helper()
	path := filepath.Join(dir, partName(1))
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for range n {
		text = text[:bytes.LastIndexByte(text[:len(text)-1], '\n')+1]
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func copyDir(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// Only a cosignature of this witness on this checkpoint is kept.
func TestAnswersOfWitnesses(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	writeLog(t, dir, 5, 100)
	w := newStubWitness(t, dir)
	stranger := &stubWitness{name: w.name, key: ed25519.NewKeyFromSeed(make([]byte, 32)), now: w.now}
	always := func(a Answer) func(Answer) Answer { return func(Answer) Answer { return a } }
	for name, answer := range map[string]func(Answer) Answer{
		"404": always(Answer{Status: 404}), "403": always(Answer{Status: 403}), "400": always(Answer{Status: 400}),
		"500": always(Answer{500, []byte("<html>")}), "429": always(Answer{Status: 429}), "204": always(Answer{Status: 204}), "301": always(Answer{Status: 301}),
		"empty": always(Answer{Status: 200}), "NULs": always(Answer{200, make([]byte, 60000)}), "text": always(Answer{200, []byte("OK")}),
		"half a line":      func(a Answer) Answer { return Answer{a.Status, a.Body[:len(a.Body)/2]} },
		"a stranger's":     func(a Answer) Answer { return Answer{200, []byte(stranger.cosign("x"))} },
		"another size":     always(Answer{200, []byte(w.cosign("conntape/ab\n9\n" + tlog.Hash{}.String() + "\n"))}),
		"409 without size": always(Answer{409, []byte("many")}), "409 negative": always(Answer{409, []byte("-1\n")}),
		"409 for ever": func(Answer) Answer { return Answer{409, []byte(strconv.Itoa(w.asked%4) + "\n")} },
	} {
		w.answer = answer
		_, err := push(t, dir, w)
		var refused *WitnessError
		if !errors.As(err, &refused) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(filepath.Join(dir, cosignedName)); err == nil {
			t.Errorf("%s: something was kept", name)
			os.Remove(filepath.Join(dir, cosignedName))
		}
		w.size = 0
	}
}

// Pruning keeps a cosignature although its leaves are gone, and reports that it proves nothing more; a newer one does.
func TestCosignedSurvivesPruning(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	k := writeLog(t, dir, 10, 7)
	w := newStubWitness(t, dir)
	if _, err := push(t, dir, w); err != nil {
		t.Fatal(err)
	}
	reopen(t, dir, &k, 40, 7)
	second := *w
	second.name = "witness.example/w2"
	if _, err := push(t, dir, w); err != nil {
		t.Fatal(err)
	}
	prune := func(upTo int64) {
		l, err := Open(dir, Options{PartLeaves: 7})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Prune(Leaf{Boot: 51 * tick, Real: epoch + int64(400*24*time.Hour)}, expendableUpTo(upTo)); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	prune(30)
	o := VerifyOptions{Witnesses: []string{w.verifierKey()}, Now: time.Unix(0, epoch).Add(401 * 24 * time.Hour)}
	if r := mustVerify(t, dir, o); len(r.Findings) > 0 || r.Pruned == 0 || len(r.Cosigned) != 1 || r.Cosigned[0].Leaves != 50 {
		t.Errorf("%+v", r)
	}
	if _, err := push(t, dir, w); err != nil {
		t.Errorf("after pruning: %v", err)
	}
	// The log can no longer prove its continuation to the other witness, asked long ago.
	if _, err := push(t, dir, &second); !errors.Is(err, ErrPruned) {
		t.Errorf("a witness that was left behind: %v", err)
	}
	r := mustVerify(t, dir, VerifyOptions{Witnesses: []string{second.verifierKey()}, Now: o.Now})
	if len(r.Findings) != 1 || !strings.Contains(r.Findings[0].Problem, "no cosignature of witness.example/w2") {
		t.Errorf("%+v", r.Findings)
	}
}

// The stable key stays the same, only its owner can read it, and it is replaced if it is lost or of another log.
func TestStableKey(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	k := writeLog(t, dir, 1, 100)
	path := filepath.Join(dir, stableName)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	first, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	reopen(t, dir, &k, 1, 100)
	if again, err := os.ReadFile(path); err != nil || !bytes.Equal(first, again) {
		t.Errorf("%v", err)
	}
	for name, text := range map[string]string{"empty": "", "junk": "PRIVATE+KEY+x", "NULs": strings.Repeat("\x00", 5000), "no end": strings.TrimSpace(string(first))} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		reopen(t, dir, &k, 1, 100)
		if now, err := os.ReadFile(path); err != nil || string(now) == text || bytes.Equal(now, first) {
			t.Errorf("%s: %q, %v", name, now, err)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	w := &stubWitness{name: "w", key: ed25519.NewKeyFromSeed(make([]byte, 32))}
	if _, err := push(t, dir, w); !errors.Is(err, ErrNoStableKey) {
		t.Errorf("without a key: %v", err)
	}
}

func TestParseWitness(t *testing.T) {
	w := &stubWitness{name: "witness.example/w", key: ed25519.NewKeyFromSeed(make([]byte, 32))}
	good := w.verifierKey()
	if _, err := ParseWitness(good); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", "+", "++", "a+b+c", good[1:], good + "A", strings.Replace(good, "+B", "+A", 1), "\x1b" + good[1:], " " + good,
		verifierKey("conntape/ab", [32]byte{}), strings.ToUpper(good)} {
		if _, err := ParseWitness(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// FuzzCosigned reads altered files.
func FuzzCosigned(f *testing.F) {
	w := &stubWitness{name: "w", key: ed25519.NewKeyFromSeed(make([]byte, 32)), now: time.Unix(5, 0)}
	c := Checkpoint{"conntape/ab", 3, tlog.Hash{1}}
	head, err := formatHead(c, [32]byte{}, make([]byte, ed25519.SignatureSize))
	if err != nil {
		f.Fatal(err)
	}
	note := string(head) + w.cosign(c.String())
	f.Add(note)
	f.Add(note + "\n" + note)
	key, err := ParseWitness(w.verifierKey())
	if err != nil {
		f.Fatal(err)
	}
	right := c.String()
	f.Fuzz(func(t *testing.T, text string) {
		for _, signed := range splitCosigned(text) {
			c, _, err := ParseHead(signed)
			if err != nil {
				t.Fatalf("%q: %v", signed, err)
			}
			if _, _, _, ok := key.cosignature(signed); ok && c.String() != right {
				t.Fatalf("%q is cosigned", signed)
			}
		}
	})
}
