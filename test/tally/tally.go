// Package tally reads the event stream of go test -json, prints what go test itself would have printed, and counts. A
// skipped test is printed too, with its reason: it is a test that did not run.
package tally

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// An Event is one line of the stream; see go doc test2json.
type Event struct {
	Action     string
	Package    string
	ImportPath string // of build-output
	Test       string
	Output     string
	Elapsed    float64
}

// A Tally counts tests, subtests included.
type Tally struct {
	Passed, Failed, Skipped int

	Seconds map[string]float64 // of each test with its subtests, by name
}

// Add adds another count.
func (t *Tally) Add(o Tally) {
	t.Passed += o.Passed
	t.Failed += o.Failed
	t.Skipped += o.Skipped
	for name, s := range o.Seconds {
		t.took(name, s)
	}
}

func (t *Tally) took(name string, seconds float64) {
	if t.Seconds == nil {
		t.Seconds = map[string]float64{}
	}
	t.Seconds[name] += seconds
}

// Slowest names the n tests that took longest, with their seconds.
func (t Tally) Slowest(n int) string {
	names := slices.Collect(maps.Keys(t.Seconds))
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(t.Seconds[b], t.Seconds[a]), cmp.Compare(a, b)) })
	var list []string
	for _, name := range names[:min(n, len(names))] {
		list = append(list, fmt.Sprintf("%s %.0f", name, t.Seconds[name]))
	}
	return strings.Join(list, ", ")
}

func (t Tally) String() string {
	return fmt.Sprintf("%d passed, %d failed, %d skipped", t.Passed, t.Failed, t.Skipped)
}

// Read counts the events in r and prints them to w. A test that has begun and never ended has failed.
func Read(r io.Reader, w io.Writer) (Tally, error) {
	reader := &reader{w: w, running: map[string]*strings.Builder{}, failing: map[string]bool{}}
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			reader.line(line)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return reader.tally, err
		}
	}
	for name, output := range reader.running {
		reader.tally.Failed++
		fmt.Fprintf(w, "%s--- FAIL: %s: did not end\n", output, name)
	}
	return reader.tally, nil
}

type reader struct {
	w       io.Writer
	tally   Tally
	running map[string]*strings.Builder // by package and test: output so far
	failing map[string]bool             // packages of which a test has failed
}

func (r *reader) line(line []byte) {
	var e Event
	if json.Unmarshal(line, &e) != nil || e.Action == "" {
		r.w.Write(line) // what is no event is go's own word
		return
	}
	key := e.Package + "." + e.Test
	if e.Elapsed > 0 && e.Test != "" && !strings.Contains(e.Test, "/") {
		r.tally.took(e.Test, e.Elapsed)
	}
	switch {
	case e.Action == "build-output":
		io.WriteString(r.w, e.Output)
	case e.Test == "" && e.Action == "output":
		// Without -v, go test does not say PASS for each package.
		if e.Output != "PASS\n" {
			io.WriteString(r.w, e.Output)
		}
	case e.Test == "" && e.Action == "fail":
		// A package that does not build or crashes outside a test has no failed test.
		if !r.failing[e.Package] {
			r.tally.Failed++
		}
	case e.Test == "":
	case e.Action == "run":
		r.running[key] = &strings.Builder{}
	case e.Action == "output":
		if b := r.running[key]; b != nil && !strings.HasPrefix(e.Output, "=== ") {
			b.WriteString(e.Output)
		}
	case e.Action == "pass":
		r.tally.Passed++
		delete(r.running, key)
	case e.Action == "fail":
		r.tally.Failed++
		r.failing[e.Package] = true
		r.print(key)
	case e.Action == "skip":
		r.tally.Skipped++
		r.print(key)
	}
}

func (r *reader) print(key string) {
	if b := r.running[key]; b != nil {
		io.WriteString(r.w, b.String())
		delete(r.running, key)
	}
}
