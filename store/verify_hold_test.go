package store

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/conntape/conntape/store/proof"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
	"github.com/conntape/conntape/store/tapelog"
)

// What is held is still proven when retention has removed it from the tape.
func TestVerifyHold(t *testing.T) {
	s := &sealedTape{dir: filepath.Join(t.TempDir(), "tape")}
	o, k := loggedOptions(s.dir, 3600*second)
	w := recordHours(t, s.dir, o, 8)
	a, err := Ask(s.dir, Request{Do: DoHold, Since: wallAt(3 * 3600 * second), Until: wallAt(4 * 3600 * second), Reason: "case 7"}, WriterOptions{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if !w.expireOldest(tapelog.ExpiredFull) {
			t.Fatal("nothing to expire")
		}
	}
	mustClose(t, w, 9*3600*second)
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	held := filepath.Join(tapedir.HeldPath(s.dir, a.Hold.ID), "00000002.db")
	v := s.verify(t, proof.Options{})
	if len(v.Problems) > 0 || len(v.Expired) != 2 {
		t.Errorf("%s%+v", problems(v), v.Expired)
	}
	text, err := os.ReadFile(held)
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)/2] ^= 1
	if err := os.Chmod(held, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(held, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := problems(s.verify(t, proof.Options{})); !strings.Contains(got, "2 held/"+a.Hold.ID+"/00000002.db: its hash is not") {
		t.Errorf("altered: %q", got)
	}
	if err := os.Remove(held); err != nil {
		t.Fatal(err)
	}
	if got := problems(s.verify(t, proof.Options{})); !strings.Contains(got, "it is under a legal hold that was not released, and it was removed") {
		t.Errorf("removed: %q", got)
	}
	// Released, it may go.
	o, k = loggedOptions(s.dir, 10*3600*second)
	if _, err := Ask(s.dir, Request{Do: DoRelease, Hold: a.Hold.ID, Reason: "over"}, o, nil); err != nil {
		t.Fatal(err)
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	if v := s.verify(t, proof.Options{}); len(v.Problems) > 0 {
		t.Errorf("released: %s", problems(v))
	}
}

// A manifest in the directory of a hold has readers of the hold pass over rows.
func TestManifestOfHold(t *testing.T) {
	s := &sealedTape{dir: filepath.Join(t.TempDir(), "tape")}
	o, k := loggedOptions(s.dir, 3600*second)
	w := recordHours(t, s.dir, o, 4)
	a, err := Ask(s.dir, Request{Do: DoHold, Since: wallAt(2 * 3600 * second), Until: wallAt(3 * 3600 * second), Reason: "case 7"}, WriterOptions{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	mustClose(t, w, 5*3600*second)
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	if got := problems(s.verify(t, proof.Options{})); got != "" {
		t.Errorf("honest: %q", got)
	}
	if err := os.WriteFile(filepath.Join(tapedir.HeldPath(s.dir, a.Hold.ID), segment.ManifestName), []byte(segment.ManifestMagic), 0o640); err != nil {
		t.Fatal(err)
	}
	if got := problems(s.verify(t, proof.Options{})); !strings.Contains(got, "held/"+a.Hold.ID+"/manifest: a hold has no manifest") {
		t.Errorf("with a manifest: %q", got)
	}
}
