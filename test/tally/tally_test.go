package tally_test

import (
	"io"
	"strings"
	"testing"

	"github.com/conntape/conntape/test/tally"
)

func TestRead(t *testing.T) {
	for _, c := range []struct {
		name   string
		events string
		want   tally.Tally
		print  []string
		silent []string
		fault  string
	}{
		{
			name: "a passing test is counted and not printed",
			events: `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"chatter\n"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Output":"PASS\n"}
{"Action":"output","Package":"p","Output":"ok  \tp\t0.1s\n"}
{"Action":"pass","Package":"p"}`,
			want: tally.Tally{Passed: 1}, print: []string{"ok  \tp"}, silent: []string{"chatter", "PASS"},
		},
		{
			name: "a skipped test gives its reason",
			events: `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:1: needs root\n"}
{"Action":"skip","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p"}`,
			want: tally.Tally{Skipped: 1}, print: []string{"needs root"},
		},
		{
			name: "a failed test is counted once, not again for its package",
			events: `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:1: got 2\n"}
{"Action":"fail","Package":"p","Test":"TestA"}
{"Action":"fail","Package":"p"}`,
			want: tally.Tally{Failed: 1}, print: []string{"got 2"}, fault: "p.TestA\n\t    a_test.go:1: got 2",
		},
		{
			name: "a package that does not build has failed",
			events: `{"ImportPath":"p","Action":"build-output","Output":"p.go:1: undefined: x\n"}
{"Action":"output","Package":"p","Output":"FAIL\tp [build failed]\n"}
{"Action":"fail","Package":"p"}`,
			want: tally.Tally{Failed: 1}, print: []string{"undefined: x", "build failed"},
		},
		{
			name: "a test that is cut off has failed",
			events: `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"half a li"}`,
			want: tally.Tally{Failed: 1}, print: []string{"half a li", "did not end"}, fault: "p.TestA\n\thalf a lidid not end",
		},
		{
			name:   "other lines are passed on",
			events: `go: downloading x`,
			print:  []string{"go: downloading x"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out strings.Builder
			got, err := tally.Read(strings.NewReader(c.events), &out)
			if err != nil || got.String() != c.want.String() {
				t.Errorf("got %v, %v; want %v", got, err, c.want)
			}
			if len(got.Faults) != got.Failed {
				t.Errorf("%d faults of %d failures: %q", len(got.Faults), got.Failed, got.Faults)
			}
			var faults strings.Builder
			got.WriteFaults(&faults)
			if c.fault != "" && faults.String() != "\nWhat failed:\n"+c.fault+"\n" {
				t.Errorf("faults: %q, want %q", faults.String(), c.fault)
			}
			for _, s := range c.print {
				if !strings.Contains(out.String(), s) {
					t.Errorf("%q is not in the output %q", s, out.String())
				}
			}
			for _, s := range c.silent {
				if strings.Contains(out.String(), s) {
					t.Errorf("%q is in the output", s)
				}
			}
		})
	}
}

func TestSlowest(t *testing.T) {
	got, err := tally.Read(strings.NewReader(`{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"run","Package":"p","Test":"TestA/one"}
{"Action":"pass","Package":"p","Test":"TestA/one","Elapsed":3}
{"Action":"pass","Package":"p","Test":"TestA","Elapsed":4}
{"Action":"run","Package":"p","Test":"TestB"}
{"Action":"fail","Package":"p","Test":"TestB","Elapsed":1}
{"Action":"pass","Package":"p","Elapsed":5}`), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	got.Add(tally.Tally{Seconds: map[string]float64{"TestB": 7, "TestC": 2}})
	if slowest := got.Slowest(2); slowest != "TestB 8, TestA 4" {
		t.Errorf("the slowest are said to be %s", slowest)
	}
}
