package tapelog

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestHead(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	l, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := Head(dir); !errors.Is(err, ErrNoLog) {
		t.Errorf("a log without a leaf: %v", err)
	}
	l.perPart = 3
	k := kept{key: l.FirstKey()}
	for n := range 7 {
		appendLeaves(t, l, &k, 1)
		got, leaf, err := Head(dir)
		if err != nil || !bytes.Equal(got, k.heads[n]) || leaf.Seq != int64(n) {
			t.Errorf("head %d: %q, %+v, %v", n, got, leaf, err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	// An unfinished line does not count.
	f, err := os.OpenFile(filepath.Join(dir, partName(3)), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString("7 checkp")
	f.Close()
	if got, _, err := Head(dir); err != nil || !bytes.Equal(got, k.heads[6]) {
		t.Errorf("%q, %v", got, err)
	}

	syslog := "Jul  1 12:00:00 host kernel: something\n"
	for _, n := range []int{2, 6, 4} {
		line := HeadLine(k.heads[n])
		if strings.Contains(line, "\n") {
			t.Errorf("%q is more than a line", line)
		}
		syslog += "Jul  1 12:00:00 host conntape[12]: checkpoint " + line + "\n"
	}
	for _, text := range []string{string(k.heads[6]), syslog, HeadLine(k.heads[6])} {
		got, err := FindHead(strings.NewReader(text))
		if err != nil || !bytes.Equal(got, k.heads[6]) {
			t.Errorf("in %q: %q, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "x", "conntape/a 1 x", strings.Repeat("y", 3*maxLine)} {
		if got, err := FindHead(strings.NewReader(text)); err == nil {
			t.Errorf("in %.20q: %q", text, got)
		}
	}
}

func FuzzFindHead(f *testing.F) {
	f.Add("x checkpoint conntape/ab 1 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA= — conntape/ab c2ln\n")
	f.Fuzz(func(t *testing.T, text string) {
		head, err := FindHead(strings.NewReader(text))
		if err != nil {
			return
		}
		if _, _, err := ParseHead(head); err != nil {
			t.Errorf("%q: %v", head, err)
		}
	})
}
