package tapelog

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// full is a leaf with all fields.
func full() Leaf {
	l := Leaf{Seq: 7, Kind: KindSeal, Boot: 1, Real: -2, Suspended: 9, Sync: "synchronized", Tape: "t", Host: "my host%", Machine: "m",
		BootID: "b", Version: "v1", Backend: "kprobe", MaxSize: 12, MaxAge: 13, Segment: 3, Previous: 2, SHA256: Hash{1}, PageSums: Hash{7}, Size: 4, Batches: 5, Chain: Hash{2}, Seen: 6, Stored: 7, Coalesced: 8,
		Lost: 9, Rows: 14, Connects: 15, From: 10, To: 11, Part: Hash{3}, Cause: "age", Detail: "a\n=b\x00é sig=x"}
	l.Next[0] = 200
	return l
}

func TestLeafRoundTrip(t *testing.T) {
	want := full()
	v := reflect.ValueOf(want)
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			t.Errorf("field %s is not tried", v.Type().Field(i).Name)
		}
	}
	line := want.String()
	if strings.ContainsAny(line, "\n\x00é") {
		t.Errorf("not one line of printable ASCII: %q", line)
	}
	got, err := ParseLeaf(line)
	if err != nil || got != want {
		t.Errorf("%q:\n got %+v, %v\nwant %+v", line, got, err, want)
	}
}

func TestParseLeafRefuses(t *testing.T) {
	l := full()
	good := l.String()
	key := good[strings.Index(good, " next="):]
	for _, bad := range []string{
		"", "0", "0 checkpoint", "0 checkpoint next=", "-1 checkpoint" + key, "01 checkpoint" + key, "0 party" + key,
		"0 checkpoint boot=0" + key, "0 checkpoint boot=01" + key, "0 checkpoint real=1 boot=1" + key, "0 checkpoint boot=1 boot=1" + key,
		"0 checkpoint color=red" + key, "0 checkpoint sha256=00" + key, "0 checkpoint detail=%zz" + key, "0 checkpoint detail=%4" + key,
		"0 checkpoint detail=%41" + key, "0  checkpoint" + key, "0 checkpoint" + key + " ", "0 checkpoint" + key + "\n",
		"0 checkpoint segment=99999999999999999999" + key, "0 checkpoint detail=" + strings.Repeat("x", maxLine) + key,
	} {
		if got, err := ParseLeaf(bad); err == nil {
			t.Errorf("%.80q is taken: %+v", bad, got)
		}
	}
}

// The tree equals package tlog's, at every size.
func TestTree(t *testing.T) {
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(at []int64) (out []tlog.Hash, err error) {
		for _, i := range at {
			out = append(out, stored[i])
		}
		return out, nil
	})
	tr := &tree{}
	for n := range int64(300) {
		leaf := strings.Repeat("x", int(n))
		hashes, err := tlog.StoredHashes(n, []byte(leaf), reader)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, hashes...)
		if tr, err = tr.appended(leaf); err != nil {
			t.Fatal(err)
		}
		want, err := tlog.TreeHash(n+1, reader)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := tr.root(); err != nil || got != want {
			t.Fatalf("%d leaves: %v, %v, want %v", n+1, got, err, want)
		}
		if _, err := newTree(n+1, tr.hashes); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := newTree(3, tr.hashes[:1]); err == nil {
		t.Error("a tree of 3 leaves with one hash is taken")
	}
}

// keyHash returns the key's hash in signature lines.
func keyHash(t testing.TB, name string, public [32]byte) uint32 {
	t.Helper()
	verifier, err := note.NewVerifier(verifierKey(name, public))
	if err != nil {
		t.Fatal(err)
	}
	return verifier.KeyHash()
}

// golang.org/x/mod/sumdb/note reads a head.
func TestHeadIsANote(t *testing.T) {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	public := [32]byte(key.Public().(ed25519.PublicKey))
	s := &state{origin: originPrefix + "ab12"}
	sg, err := note.NewSigner(fmt.Sprintf("PRIVATE+KEY+%s+%08x+%s", s.origin, keyHash(t, s.origin, public), base64.StdEncoding.EncodeToString(append([]byte{1}, key.Seed()...))))
	if err != nil {
		t.Fatal(err)
	}
	c := Checkpoint{s.origin, 3, tlog.Hash{5}}
	byNote, err := note.Sign(&note.Note{Text: c.String()}, sg)
	if err != nil {
		t.Fatal(err)
	}
	signature, _ := sg.Sign([]byte(c.String()))
	head, err := formatHead(c, public, signature)
	if err != nil || !bytes.Equal(head, byNote) {
		t.Errorf("%q, %v\nwant %q", head, err, byNote)
	}
	verifier, err := note.NewVerifier(verifierKey(s.origin, public))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := note.Open(head, note.VerifierList(verifier)); err != nil {
		t.Error(err)
	}
	got, gotSignature, err := ParseHead(head)
	if err != nil || got != c || !bytes.Equal(gotSignature, signature) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{"", "x", string(head[1:]), string(head) + "x", strings.Replace(string(head), "\n3\n", "\n03\n", 1),
		strings.Replace(string(head), "— conntape", "— contape", 1), strings.Replace(string(head), "conntape/", "go.sum", 2)} {
		if _, _, err := ParseHead([]byte(bad)); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func FuzzLeaf(f *testing.F) {
	l := full()
	f.Add(l.String())
	f.Add((&Leaf{Kind: KindCheckpoint}).String())
	f.Fuzz(func(t *testing.T, line string) {
		l, err := ParseLeaf(line)
		if err == nil && l.String() != line {
			t.Errorf("%q is written %q", line, l.String())
		}
	})
}

func FuzzHead(f *testing.F) {
	c := Checkpoint{originPrefix + "ab", 1, tlog.Hash{}}
	head, err := formatHead(c, [32]byte{}, make([]byte, ed25519.SignatureSize))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(head)
	f.Fuzz(func(t *testing.T, text []byte) {
		c, signature, err := ParseHead(text)
		if err == nil && (len(signature) != ed25519.SignatureSize || !bytes.HasPrefix(text, []byte(c.String()))) {
			t.Errorf("%q: %+v", text, c)
		}
	})
}

func FuzzKey(f *testing.F) {
	f.Add(verifierKey(originPrefix+"ab", [32]byte{3}))
	f.Fuzz(func(t *testing.T, text string) {
		origin, key, err := ParseKey(text)
		if err == nil && verifierKey(origin, key) != text {
			t.Errorf("%q is written %q", text, verifierKey(origin, key))
		}
	})
}

func FuzzLabel(f *testing.F) {
	s := &state{origin: originPrefix + "ab", tree: &tree{3, []tlog.Hash{{1}, {2}}}}
	f.Add(s.label())
	f.Add([]byte("\n\n\n\n"))
	f.Fuzz(func(t *testing.T, label []byte) {
		s, err := parseLabel(label)
		if err == nil && !bytes.Equal(s.label(), label) {
			t.Errorf("%q is written %q", label, s.label())
		}
	})
}

func FuzzPart(f *testing.F) {
	h := &partHeader{origin: originPrefix + "ab", tree: &tree{2, []tlog.Hash{{1}}}, key: [32]byte{4}, signature: make([]byte, ed25519.SignatureSize)}
	l := full()
	l.Seq = 2
	f.Add(append([]byte(h.String()), formatEntry(l.String(), make([]byte, ed25519.SignatureSize))...))
	f.Add([]byte(h.String() + "2 checkp"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := readPart(bytes.NewReader(text))
		if err != nil {
			return
		}
		if !strings.HasPrefix(string(text), p.header.String()) {
			t.Errorf("%q is written %q", text, p.header)
		}
		end, err := p.readTail()
		if err != nil || end.end > int64(len(text)) {
			t.Errorf("tail of %q: %+v, %v", text, end, err)
		}
		if end.last != nil && !bytes.HasSuffix(text[:end.end], formatEntry(end.last.text, end.last.signature)) {
			t.Errorf("%q does not end with %q", text[:end.end], end.last.text)
		}
	})
}
