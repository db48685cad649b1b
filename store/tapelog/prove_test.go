package tapelog

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// writeSeals writes a log in parts of perPart leaves; every third leaf seals a segment.
func writeSeals(t testing.TB, dir string, n int, perPart int64) {
	t.Helper()
	l, err := Open(dir, Options{PartLeaves: perPart})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		leaf := Leaf{Kind: KindCheckpoint, Boot: uint64(i+1) * tick, Real: epoch + int64(i)*int64(tick)}
		if i%3 == 2 {
			leaf.Kind, leaf.Segment, leaf.SHA256, leaf.Size = KindSeal, i/3+1, Hash{byte(i), 1}, int64(1000+i)
		}
		if _, err := l.Append(leaf); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// keyOf returns the stable key of a log.
func keyOf(t testing.TB, dir string) string {
	t.Helper()
	head, _, err := Head(dir)
	if err != nil {
		t.Fatal(err)
	}
	c, _, err := ParseHead(head)
	if err != nil {
		t.Fatal(err)
	}
	key, err := StableKey(dir, c.Origin)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Each seal is proven in logs of many sizes, with only the stable key and with a witness.
func TestProve(t *testing.T) {
	for _, n := range []int{3, 7, 8, 15, 22, 40} {
		dir := filepath.Join(t.TempDir(), "log")
		writeSeals(t, dir, n, 7)
		key := keyOf(t, dir)
		w := newStubWitness(t, dir)
		for round := range 2 {
			o := ProofOptions{Key: key}
			if round == 1 {
				if _, err := push(t, dir, w); err != nil {
					t.Fatal(err)
				}
				o.Witnesses = []string{w.verifierKey()}
			}
			for segment := 1; segment <= n/3; segment++ {
				text, seal, err := Prove(dir, segment)
				if err != nil || seal.Segment != segment {
					t.Fatalf("%d leaves, segment %d: %v", n, segment, err)
				}
				p, err := VerifyProof(text, o)
				if err != nil || p.Leaf != *seal || p.Leaf.SHA256 != (Hash{byte(segment*3 - 1), 1}) || !p.Signed || len(p.Cosigned) != round {
					t.Fatalf("%d leaves, segment %d: %+v, %v", n, segment, p, err)
				}
			}
		}
		if _, _, err := Prove(dir, n); !errors.Is(err, ErrNotSealed) {
			t.Errorf("a segment that is not sealed: %v", err)
		}
	}
}

// A proof with a byte altered, removed or inserted is refused, and so is one that other keys should have signed.
func TestProofIsTampered(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	writeSeals(t, dir, 21, 8)
	w := newStubWitness(t, dir)
	if _, err := push(t, dir, w); err != nil {
		t.Fatal(err)
	}
	text, _, err := Prove(dir, 3)
	if err != nil {
		t.Fatal(err)
	}
	key := keyOf(t, dir)
	o := ProofOptions{Key: key, Witnesses: []string{w.verifierKey()}}
	if _, err := VerifyProof(text, o); err != nil {
		t.Fatal(err)
	}
	refused := func(what string, text []byte, o ProofOptions) {
		t.Helper()
		if p, err := VerifyProof(text, o); err == nil {
			t.Errorf("%s is taken: %+v", what, p)
		}
	}
	for i := range text {
		for _, mask := range []byte{1, 2, 4, 8, 16, 32, 64, 128} {
			bad := bytes.Clone(text)
			bad[i] ^= mask
			refused("a bit", bad, o)
		}
		refused("a byte less", append(bytes.Clone(text[:i]), text[i+1:]...), o)
		for _, more := range []byte{'\n', ' ', 'A', '0', text[i]} {
			refused("a byte more", append(append(bytes.Clone(text[:i]), more), text[i:]...), o)
		}
		refused("a start", text[:i], o)
	}
	refused("a line more", append(bytes.Clone(text), "— a.example AAAAAAAAAAA=\n\n"...), o)

	other := filepath.Join(t.TempDir(), "log")
	writeSeals(t, other, 21, 8)
	stranger := *w
	stranger.name = "stranger.example"
	refused("another log's key", text, ProofOptions{Key: keyOf(t, other)})
	refused("another witness", text, ProofOptions{Key: key, Witnesses: []string{stranger.verifierKey()}})
	refused("no key", text, ProofOptions{})
	refused("the first key of the log", text, ProofOptions{Key: mustVerify(t, dir, VerifyOptions{}).First})
	foreign, _, err := Prove(other, 3)
	if err != nil {
		t.Fatal(err)
	}
	refused("another log", foreign, o)
	mixed := bytes.Join([][]byte{foreign[:bytes.Index(foreign, []byte("\n\n"))], text[bytes.Index(text, []byte("\n\n")):]}, nil)
	refused("another seal", mixed, o)
	if _, err := VerifyProof(text, ProofOptions{Witnesses: o.Witnesses}); err != nil {
		t.Errorf("with the witness alone: %v", err)
	}
}

// A user who may not read the stable key proves with cosigned checkpoints. A log that was pruned or cut off proves the
// rest, or says why not.
func TestProveFromWhatIsThere(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	writeSeals(t, dir, 30, 7)
	key := keyOf(t, dir)
	w := newStubWitness(t, dir)
	if _, err := push(t, dir, w); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, stableName)); err != nil {
		t.Fatal(err)
	}
	text, _, err := Prove(dir, 9)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := VerifyProof(text, ProofOptions{Key: key}); err != nil {
		t.Error(err)
	}
	l, err := Open(dir, Options{PartLeaves: 7})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Prune(Leaf{Boot: 31 * tick, Real: epoch + int64(400*24*time.Hour)}, expendableUpTo(14)); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for segment, good := range map[int]bool{1: false, 2: false, 6: true, 10: true} {
		if _, _, err := Prove(dir, segment); good != (err == nil) {
			t.Errorf("segment %d of a pruned log: %v", segment, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, partName(4)), []byte(strings.Repeat("x", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Prove(dir, 6); err == nil {
		t.Error("proven from a damaged log")
	}
}

func FuzzProof(f *testing.F) {
	dir := filepath.Join(f.TempDir(), "log")
	writeSeals(f, dir, 9, 100)
	text, _, err := Prove(dir, 2)
	if err != nil {
		f.Fatal(err)
	}
	key := keyOf(f, dir)
	f.Add(string(text))
	signed := string(text[:bytes.LastIndex(text, []byte("\n\n"))+2]) // other signatures may follow ours
	f.Fuzz(func(t *testing.T, in string) {
		if _, err := VerifyProof([]byte(in), ProofOptions{Key: key}); err == nil && !strings.HasPrefix(in, signed) {
			t.Errorf("%q is taken", in)
		}
	})
}
