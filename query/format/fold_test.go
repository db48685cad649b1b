package format

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// eachRow is a writer that passes rows to a function.
type eachRow func([]Value) error

func (eachRow) Begin([]string) error { return nil }

func (f eachRow) Row(values []Value) error { return f(values) }

func (eachRow) End(string) error { return nil }

// folded returns rows of process, remote, outcome, n, first_time as they are folded.
func folded(t *testing.T, rows ...string) string {
	t.Helper()
	var got strings.Builder
	f := NewFolding(eachRow(func(row []Value) error {
		fmt.Fprintf(&got, "%s %s %s %d %s\n", row[0].Bytes, row[1].Bytes, row[2].Bytes, row[3].Int, row[4].Bytes)
		return nil
	}))
	if err := f.Begin([]string{"process", "remote", "outcome", "n", "first_time"}); err != nil {
		t.Fatal(err)
	}
	memory := make([]byte, 0, 100) // used again for each row, as runners do
	for _, text := range rows {
		var values []Value
		memory = append(memory[:0], text...)
		for i, word := range strings.Fields(string(memory)) {
			at := strings.Index(string(memory), word)
			v := Value{Kind: Text, Bytes: memory[at : at+len(word)]}
			if i == 3 {
				n, err := strconv.ParseInt(word, 10, 64)
				if err != nil {
					t.Fatal(err)
				}
				v = IntValue(n)
			}
			values = append(values, v)
		}
		if err := f.Row(values); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.End(""); err != nil {
		t.Fatal(err)
	}
	if want := int64(len(rows) - strings.Count(got.String(), "\n")); f.Folded() != want {
		t.Errorf("%d folded, want %d", f.Folded(), want)
	}
	return got.String()
}

// A scan of addresses, one of ports, and what is neither: a few addresses, other
// outcomes, paths that look like addresses.
func TestFolding(t *testing.T) {
	var rows []string
	rows = append(rows, "curl 203.0.113.1:443 established 7 05")
	for i := range 200 {
		rows = append(rows, fmt.Sprintf("nmap 10.0.0.%d:22 refused 2 %03d", i, 500-i))
		if i < 9 {
			rows = append(rows, fmt.Sprintf("nmap 10.0.0.%d:80 refused 1 1", i), fmt.Sprintf("sh /run/%d:1 established 1 1", i))
		}
		if i == 50 {
			rows = append(rows, "nmap 10.0.0.50:22 established 1 9")
		}
	}
	for i := range 12 {
		rows = append(rows, fmt.Sprintf("nmap [2001:db8::1]:%d refused 1 %02d", 1000+i, i), fmt.Sprintf("sh @10.0.0.%d:1 established 1 1", i))
	}
	got := folded(t, rows...)
	for _, want := range []string{
		"curl 203.0.113.1:443 established 7 05\nnmap 10.0.0.0:22 and 199 other addresses refused 400 301\n",
		"nmap 10.0.0.50:22 established 1 9\n", "nmap 10.0.0.8:80 refused 1 1\n", "sh /run/8:1 established 1 1\n", "sh @10.0.0.11:1 established 1 1\n",
		"nmap [2001:db8::1]:1000 and 11 other ports refused 12 00\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("lacks %q:\n%s", want, got)
		}
	}
	if n := strings.Count(got, "\n"); n != 1+1+9+9+1+1+12 {
		t.Errorf("%d rows:\n%s", n, got)
	}
	var few []string
	for i := range scanRows - 1 {
		few = append(few, fmt.Sprintf("nmap 10.0.0.%d:22 refused 1 1", i))
	}
	if n := strings.Count(folded(t, few...), "\n"); n != scanRows-1 {
		t.Errorf("%d rows of %d are left, though they are no scan", n, scanRows-1)
	}
	if n := strings.Count(folded(t, append(few, "nmap 10.0.0.99:22 refused 1 1")...), "\n"); n != 1 {
		t.Errorf("%d rows are left of a scan of %d", n, scanRows)
	}
}

// However many rows there are, a bounded number is held, and none is lost.
func TestFoldingIsBounded(t *testing.T) {
	var n, rows int64
	f := NewFolding(eachRow(func(row []Value) error { n += row[1].Int; rows++; return nil }))
	if err := f.Begin([]string{"remote", "n"}); err != nil {
		t.Fatal(err)
	}
	const all = 2*mostFolded + 10
	for i := range all {
		if err := f.Row([]Value{TextValue(fmt.Sprintf("10.%d.%d.%d:22", i>>16, i>>8&255, i&255)), IntValue(1)}); err != nil {
			t.Fatal(err)
		}
		if len(f.held) >= mostFolded {
			t.Fatalf("%d rows are held", len(f.held))
		}
	}
	if err := f.End(""); err != nil || n != all || rows != 3 || f.Folded() != all-3 {
		t.Errorf("%d connects in %d rows, %d folded, %v", n, rows, f.Folded(), err)
	}
}
