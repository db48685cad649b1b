package main

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
)

// A coverage is one line that the capture tests print:
//
//	COVERAGE <case> <seen|blind|n/a> <detail>
type coverage struct{ name, seen, detail string }

func parseCoverage(output []byte) []coverage {
	var found []coverage
	for line := range strings.Lines(string(output)) {
		// test2json's markers and the log prefix of a test may stand before it.
		_, rest, ok := strings.Cut(line, "COVERAGE ")
		if !ok {
			continue
		}
		fields := strings.Fields(rest)
		if len(fields) < 2 {
			continue
		}
		c := coverage{name: fields[0], seen: fields[1], detail: strings.Join(fields[2:], " ")}
		if !slices.ContainsFunc(found, func(f coverage) bool { return f.name == c.name }) {
			found = append(found, c)
		}
	}
	return found
}

const coverageHead = `# Coverage

Which connect is seen on which kernel by which backend. Written by ` + "`go run ./test/guest -matrix -coverage docs/coverage.md`" + `
(` + "`make coverage`" + `) from what the capture tests saw; nothing in it is by hand. **seen**: recorded once, with the right process and address.
**blind**: this backend cannot see it, and says so (` + "`conntape status`" + `). n/a: this kernel has no such connect.

`

// writeCoverage writes the table case × kernel and backend, with the details as footnotes.
func writeCoverage(file string, outcomes []*outcome) error {
	var cases []string
	for _, o := range outcomes {
		for _, c := range o.seen {
			if !slices.Contains(cases, c.name) {
				cases = append(cases, c.name)
			}
		}
	}
	var b bytes.Buffer
	b.WriteString(coverageHead)
	b.WriteString("| case |")
	for _, o := range outcomes {
		fmt.Fprintf(&b, " %s %s |", o.kernel, o.backend)
	}
	b.WriteString("\n| --- |" + strings.Repeat(" --- |", len(outcomes)) + "\n")
	var notes []string
	for _, name := range cases {
		fmt.Fprintf(&b, "| %s |", name)
		for _, o := range outcomes {
			cell := "not run"
			for _, c := range o.seen {
				if c.name == name {
					cell = c.seen + note(&notes, c.detail)
				}
			}
			fmt.Fprintf(&b, " %s |", cell)
		}
		b.WriteString("\n")
	}
	b.WriteString("\n")
	for i, n := range notes {
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

// note returns the reference to a detail, each of which is listed once.
func note(notes *[]string, detail string) string {
	if detail == "" {
		return ""
	}
	i := slices.Index(*notes, detail)
	if i < 0 {
		i = len(*notes)
		*notes = append(*notes, detail)
	}
	return fmt.Sprintf(" <sup>%d</sup>", i+1)
}
