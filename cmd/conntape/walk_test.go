package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// The output shown in docs/investigation.md and in README.md's tour is real: the test runs each command in a new
// directory and compares. UPDATE_SCRIPTS=1 rewrites the documents.
func TestDocumentsAreTrue(t *testing.T) {
	repository, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, doc := range []struct {
		name string
		ran  func(*testing.T)
	}{{"docs/investigation.md", checkReport}, {"README.md", func(*testing.T) {}}} {
		t.Run(doc.name, func(t *testing.T) {
			path := filepath.Join(repository, doc.name)
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			t.Chdir(t.TempDir())
			got := runDocument(t, string(text))
			if os.Getenv("UPDATE_SCRIPTS") != "" {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != string(text) {
				t.Errorf("%s is not what the program does (UPDATE_SCRIPTS=1):\n%s", doc.name, firstDifference(string(text), got))
			}
			doc.ran(t)
		})
	}
}

const indent = "    "

var echoForm = regexp.MustCompile(`^echo '([^']*)' > ([a-z.]+)$`)

// runDocument runs the commands of a document and returns it with their output.
func runDocument(t *testing.T, text string) string {
	t.Helper()
	var out strings.Builder
	environment := map[string]string{"NO_COLOR": "1"}
	commands, skipping := 0, false
	for line := range strings.Lines(text) {
		command, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), indent+"$ ")
		command = strings.TrimPrefix(command, "./")
		switch {
		case !ok && skipping && strings.HasPrefix(line, indent):
			continue // the output that there was
		case !ok:
			skipping = false
			out.WriteString(line)
			continue
		}
		skipping = true
		out.WriteString(line)
		if echo := echoForm.FindStringSubmatch(command); echo != nil {
			if err := os.WriteFile(echo[2], []byte(echo[1]+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if assignment, ok := strings.CutPrefix(command, "export "); ok {
			name, value, _ := strings.Cut(assignment, "=")
			environment[name] = value
			continue
		}
		words := splitShell(command)
		if words[0] != "conntape" {
			t.Fatalf("cannot run %q", command)
		}
		commands++
		answer, code := runOnTerminal(environment, words[1:])
		if code != exitDone && !(code == exitFound && words[2] == "match") {
			t.Errorf("%s: exit %d", command, code)
		}
		for line := range strings.Lines(answer) {
			out.WriteString(indent + line)
		}
	}
	if commands < 2 {
		t.Errorf("%d commands", commands)
	}
	return out.String()
}

// runOnTerminal runs a command line as on a terminal of 120 columns.
func runOnTerminal(environment map[string]string, words []string) (output string, code int) {
	var out bytes.Buffer
	h := &host{
		stdin: strings.NewReader(""), stdout: &out, stderr: &out,
		now:    func() time.Time { return time.Date(2026, 7, 2, 0, 0, 0, 0, time.UTC) },
		getenv: func(name string) string { return environment[name] },
		width:  func() (int, bool) { return 120, true },
	}
	code = h.report(h.run(context.Background(), words))
	return out.String(), code
}

// splitShell parts a command at its blanks, but for those in double quotes.
func splitShell(command string) []string {
	var words []string
	for i, part := range strings.Split(command, `"`) {
		if i%2 == 1 {
			words = append(words, part)
			continue
		}
		words = append(words, strings.Fields(part)...)
	}
	return words
}

func firstDifference(want, got string) string {
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return "it says\n" + a[i] + "\nand the program\n" + b[i]
		}
	}
	return "one is longer than the other"
}

// checkReport looks at the file that the investigation ends with.
func checkReport(t *testing.T) {
	file, err := os.Open("intrusion.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	rows, err := csv.NewReader(file).ReadAll()
	if err != nil || len(rows) < 700 {
		t.Errorf("%d rows, %v", len(rows), err)
	}
}
