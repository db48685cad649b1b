package main

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
)

// A coverage is one line that the capture tests print, for one attempt to connect:
//
//	COVERAGE <case> <seen|blind|n/a|failed> <backend> <what the row says>
type coverage struct{ name, verdict, backend, detail string }

// From good to bad: the worst of several attempts with the same name counts.
var verdicts = []string{"seen", "n/a", "blind", "failed"}

func parseCoverage(output []byte) []coverage {
	var found []coverage
	for line := range strings.Lines(string(output)) {
		// test2json's markers and the log prefix of a test may stand before it.
		_, rest, ok := strings.Cut(line, "COVERAGE ")
		fields := strings.Fields(rest)
		if !ok || len(fields) < 2 {
			continue
		}
		c := coverage{name: fields[0], verdict: fields[1]}
		if len(fields) > 2 {
			c.backend, c.detail = strings.TrimSuffix(fields[2], ":"), strings.Join(fields[3:], " ")
		}
		i := slices.IndexFunc(found, func(f coverage) bool { return f.name == c.name })
		switch {
		case i < 0:
			found = append(found, c)
		case slices.Index(verdicts, c.verdict) > slices.Index(verdicts, found[i].verdict):
			found[i] = c
		}
	}
	return found
}

const coverageHead = `# Coverage

Which connect is seen on which kernel by which backend. ` + "`make coverage`" + ` writes this file from what the capture tests
(test/capture) saw in the guests (test/guest); ` + "`make test`" + ` fails when it is out of date. Nothing in it is by hand.

- **seen**: on the tape exactly once, with the right process, address and return value. The last column is what the row says,
  and a number tells where a kernel or a backend says something else.
- **blind**: this backend cannot see it, and ` + "`conntape status`" + ` says so.
- **n/a**: there is nothing to record: it fails before it is a connect, or this kernel does not have it.
- **–**: the test did not run there.

`

// writeCoverage writes the table case × kernel and backend.
func writeCoverage(file string, outcomes []*outcome) error {
	var names []string
	for _, o := range outcomes {
		for _, c := range o.seen {
			if !slices.Contains(names, c.name) {
				names = append(names, c.name)
			}
		}
	}
	slices.Sort(names)
	var b bytes.Buffer
	b.WriteString(coverageHead + "| case |")
	for _, o := range outcomes {
		fmt.Fprintf(&b, " %s %s |", o.kernel, o.backendName())
	}
	b.WriteString(" row |\n| --- |" + strings.Repeat(" --- |", len(outcomes)+1) + "\n")
	var notes []string
	for _, name := range names {
		usual := usualDetail(name, outcomes)
		fmt.Fprintf(&b, "| %s |", name)
		for _, o := range outcomes {
			text := "–"
			if c, ok := o.find(name); ok {
				text = c.verdict
				if c.verdict == "seen" && c.detail != usual {
					text += note(&notes, c.detail)
				}
			}
			fmt.Fprintf(&b, " %s |", text)
		}
		fmt.Fprintf(&b, " %s |\n", cell(usual))
	}
	for i, n := range notes {
		if i == 0 {
			b.WriteString("\nWhere the row says something else:\n\n")
		}
		fmt.Fprintf(&b, "%d. %s\n", i+1, n)
	}
	b.WriteString("\nKernels:\n\n")
	for i, o := range outcomes {
		if o.result != nil && (i == 0 || outcomes[i-1].kernel != o.kernel) {
			fmt.Fprintf(&b, "- %s: Debian %s\n", o.kernel, o.result.release)
		}
	}
	return os.WriteFile(file, b.Bytes(), 0o644)
}

func (o *outcome) find(name string) (coverage, bool) {
	i := slices.IndexFunc(o.seen, func(c coverage) bool { return c.name == name })
	if i < 0 {
		return coverage{}, false
	}
	return o.seen[i], true
}

// usualDetail returns the most frequent detail among the cells that saw the case.
func usualDetail(name string, outcomes []*outcome) string {
	count := map[string]int{}
	usual := ""
	for _, o := range outcomes {
		if c, ok := o.find(name); ok && c.verdict == "seen" {
			count[c.detail]++
			if count[c.detail] > count[usual] {
				usual = c.detail
			}
		}
	}
	return usual
}

// note returns the reference to a detail and lists it once.
func note(notes *[]string, detail string) string {
	i := slices.Index(*notes, detail)
	if i < 0 {
		i = len(*notes)
		*notes = append(*notes, detail)
	}
	return fmt.Sprintf(" (%d)", i+1)
}

// cell keeps a text inside its cell of the table.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }
