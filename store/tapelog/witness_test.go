package tapelog

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// stubWitness is a witness of C2SP tlog-witness, without a network.
type stubWitness struct {
	name   string
	key    ed25519.PrivateKey
	log    note.Verifier // the stable key of the log
	size   int64
	root   tlog.Hash
	now    time.Time
	asked  int
	answer func(Answer) Answer // nil: unchanged
}

func newStubWitness(t testing.TB, dir string) *stubWitness {
	t.Helper()
	w := &stubWitness{name: "witness.example/w1", key: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32)), now: time.Unix(1767300000, 0).UTC()}
	var err error
	if w.log, err = note.NewVerifier(keyOf(t, dir)); err != nil {
		t.Fatal(err)
	}
	return w
}

// verifierKey returns the witness's published key.
func (w *stubWitness) verifierKey() string {
	raw := append([]byte{algorithmCosignature}, w.key.Public().(ed25519.PublicKey)...)
	sum := sha256.Sum256([]byte(w.name + "\n" + string(raw)))
	return fmt.Sprintf("%s+%x+%s", w.name, sum[:4], base64.StdEncoding.EncodeToString(raw))
}

// cosign returns the signature line for a checkpoint.
func (w *stubWitness) cosign(checkpoint string) string {
	raw := append([]byte{algorithmCosignature}, w.key.Public().(ed25519.PublicKey)...)
	sum := sha256.Sum256([]byte(w.name + "\n" + string(raw)))
	out := binary.BigEndian.AppendUint64(sum[:4:4], uint64(w.now.Unix()))
	out = append(out, ed25519.Sign(w.key, fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", w.now.Unix(), checkpoint))...)
	return fmt.Sprintf("— %s %s\n", w.name, base64.StdEncoding.EncodeToString(out))
}

func (w *stubWitness) post(request []byte) (Answer, error) {
	w.asked++
	a := w.addCheckpoint(request)
	if w.answer != nil {
		a = w.answer(a)
	}
	return a, nil
}

func (w *stubWitness) addCheckpoint(request []byte) Answer {
	status := func(n int) Answer { return Answer{Status: n} }
	lines, signed, ok := strings.Cut(string(request), "\n\n")
	if !ok {
		return status(400)
	}
	words := strings.Split(lines, "\n")
	digits, ok := strings.CutPrefix(words[0], "old ")
	old, err := strconv.ParseInt(digits, 10, 64)
	if !ok || err != nil {
		return status(400)
	}
	var proof tlog.TreeProof
	for _, word := range words[1:] {
		h, err := tlog.ParseHash(word)
		if err != nil {
			return status(400)
		}
		proof = append(proof, h)
	}
	n, err := note.Open([]byte(signed), note.VerifierList(w.log))
	if err != nil {
		return status(403)
	}
	c, err := ParseCheckpoint(n.Text)
	if err != nil || old > c.Size {
		return status(400)
	}
	if old != w.size || old == c.Size && w.root != c.Root {
		return Answer{409, fmt.Appendf(nil, "%d\n", w.size)}
	}
	if old > 0 && tlog.CheckTree(proof, c.Size, c.Root, old, w.root) != nil || old == 0 && len(proof) > 0 {
		return status(422)
	}
	w.size, w.root = c.Size, c.Root
	return Answer{200, []byte("— other.example AAAAAAAA\n" + w.cosign(n.Text))}
}
