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

	Seconds map[string]float64 `json:"-"`          // of each test with its subtests, by name
	Faults  []string           `json:",omitempty"` // each failed test's name, and the first of the lines in which it says why
}

// WriteFaults prints the faults once more, for whoever sees only the end of a long output.
func (t *Tally) WriteFaults(w io.Writer) {
	if len(t.Faults) > 0 {
		fmt.Fprintf(w, "\nWhat failed:\n%s\n", strings.Join(t.Faults, "\n"))
	}
}

// Add adds another count.
func (t *Tally) Add(o Tally) {
	t.Passed += o.Passed
	t.Failed += o.Failed
	t.Skipped += o.Skipped
	t.Faults = append(t.Faults, o.Faults...)
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
		reader.fault(name, output.String()+"did not end")
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
			r.fault(e.Package, "")
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
		if b := r.running[key]; b != nil {
			r.fault(key, b.String())
		}
		r.print(key)
	case e.Action == "skip":
		r.tally.Skipped++
		r.print(key)
	}
}

// faultLines and faultBytes bound what a failed test is quoted with: its reasons come first, and after them what it saw.
const faultLines, faultBytes = 6, 300

// fault keeps the first lines in which a test says something.
func (r *reader) fault(name, output string) {
	fault, n := name, 0
	for line := range strings.Lines(output) {
		if line = strings.TrimRight(line, "\n"); n == faultLines || strings.HasPrefix(line, "COVERAGE ") || strings.HasPrefix(line, "--- ") {
			continue
		}
		fault += "\n\t" + line[:min(len(line), faultBytes)]
		n++
	}
	r.tally.Faults = append(r.tally.Faults, fault)
}

func (r *reader) print(key string) {
	if b := r.running[key]; b != nil {
		io.WriteString(r.w, b.String())
		delete(r.running, key)
	}
}
