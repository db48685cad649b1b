package main

import (
	"context"
	"encoding/csv"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/conntape/conntape/query"
	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/report"
	"github.com/conntape/conntape/query/table"
	"github.com/conntape/conntape/store"
	"github.com/urfave/cli/v2"
)

// Every command has a section in docs/usage.md with all its flags, directly or in the section on common flags; and there
// is no section or flag without a command.
func TestUsageIsDocumented(t *testing.T) {
	sections := sectionsOf(t, "usage.md", "## conntape ")
	record := sections["record"]
	filters := sectionsOf(t, "usage.md", "## ")["Filters"]
	common := sectionsOf(t, "usage.md", "## Flags of ")["every question"]
	walk(testApp(t).Commands, nil, func(path []string, c *cli.Command) {
		name := strings.Join(path, " ")
		text, ok := sections[name]
		if !ok {
			t.Errorf("docs/usage.md has no section %q", "conntape "+name)
			return
		}
		delete(sections, name)
		if strings.Contains(text, "(#flags-of-every-question)") {
			text += common
		}
		if strings.Contains(text, "(#filters)") {
			text += filters
		}
		if strings.Contains(text, "every flag of [record](#conntape-record)") {
			text += record
		}
		flags := make(map[string]bool)
		for _, flag := range c.Flags {
			flags["--"+flag.Names()[0]] = true
			if !strings.Contains(text, "`--"+flag.Names()[0]) {
				t.Errorf("section %q lacks --%s", name, flag.Names()[0])
			}
		}
		for _, row := range regexp.MustCompile("(?m)^\\| `(--[a-z-]+)").FindAllStringSubmatch(text, -1) {
			if !flags[row[1]] {
				t.Errorf("section %q documents %s, which it does not have", name, row[1])
			}
		}
	})
	for name := range sections {
		t.Errorf("docs/usage.md documents %q, which there is not", name)
	}
	for _, form := range format.Names() {
		if !strings.Contains(readDoc(t, "usage.md"), "| `"+form+"` |") {
			t.Errorf("docs/usage.md lacks the format %s", form)
		}
	}
}

// Every view has a section in docs/schema.md with every column, in the order of
// the view, and nothing else.
func TestSchemaIsDocumented(t *testing.T) {
	sections := sectionsOf(t, "schema.md", "## ")
	dir := filepath.Join(t.TempDir(), "tape")
	if err := writeFixture(dir, "plain"); err != nil {
		t.Fatal(err)
	}
	tape, err := store.OpenTape(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer tape.Close()
	if err := table.AttachContacts(t.Context(), tape); err != nil {
		t.Fatal(err)
	}
	for _, view := range ask.ViewNames() {
		stmt, _, err := tape.Conn().PrepareTransient("SELECT * FROM " + view)
		if err != nil {
			t.Fatal(err)
		}
		var columns, documented []string
		for i := range stmt.ColumnCount() {
			columns = append(columns, stmt.ColumnName(i))
		}
		if err := stmt.Finalize(); err != nil {
			t.Fatal(err)
		}
		for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_0-9]+)` \\|").FindAllStringSubmatch(sections[view], -1) {
			documented = append(documented, row[1])
		}
		if got, want := strings.Join(documented, " "), strings.Join(columns, " "); got != want {
			t.Errorf("docs/schema.md, %s:\n has  %s\n view %s", view, got, want)
		}
	}
}

// README's table and the first sentence of docs/schema.md name each view.
func TestViewsAreIntroduced(t *testing.T) {
	for doc, form := range map[string]string{"../../README.md": "\n| `%s` | ", "../../docs/schema.md": "`%s`"} {
		text, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		introduction, _, _ := strings.Cut(string(text), "\n- **Times.**")
		for _, view := range ask.ViewNames() {
			if !strings.Contains(introduction, fmt.Sprintf(form, view)) {
				t.Errorf("%s does not introduce %s", doc, view)
			}
		}
	}
}

// docs/usage.md says of each canned query what the query says of itself. Links and code may be marked up there.
func TestCannedQueriesAreDocumented(t *testing.T) {
	sections := sectionsOf(t, "usage.md", "## conntape query ")
	markup := regexp.MustCompile("`| \\(\\[[^]]*\\]\\([^)]*\\)\\)")
	library, err := report.Library()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range library {
		text := markup.ReplaceAllString(sections[c.Name], "")
		for _, words := range slices.Concat([]string{c.Purpose, c.FalsePositives}, c.Notes, c.Examples) {
			if !strings.Contains(text, markup.ReplaceAllString(words, "")) {
				t.Errorf("docs/usage.md does not say of query %s: %s", c.Name, words)
			}
		}
	}
}

// docs/schema.md lists exactly the added SQL functions, with their number of arguments.
func TestFunctionsAreDocumented(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	if err := writeFixture(dir, "empty"); err != nil {
		t.Fatal(err)
	}
	documented := make(map[string]bool)
	for _, row := range query.Schema() {
		name, arguments, ok := strings.Cut(strings.TrimSuffix(row.Name, ")"), "(")
		if row.In == "functions" && ok {
			documented[fmt.Sprint(name, ",", strings.Count(arguments, ",")+1)] = true
		}
	}
	h, stdout, stderr := world("")
	const sql = "select name || ',' || narg from pragma_function_list where type = 's' and not builtin"
	if code := h.report(h.run(context.Background(), []string{"query", "sql", sql, "--dir", dir})); code != exitDone {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	rows, err := csv.NewReader(stdout).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows[1:] {
		if name, _, _ := strings.Cut(row[0], ","); slices.Contains(builtin(t), name) {
			continue
		}
		if !documented[row[0]] {
			t.Errorf("docs/schema.md lacks the function %s", row[0])
		}
		delete(documented, row[0])
	}
	for name := range documented {
		t.Errorf("docs/schema.md documents the function %s, which there is not", name)
	}
}

// builtin returns the functions that the driver has.
func builtin(t *testing.T) []string {
	t.Helper()
	list, err := os.ReadFile("../../store/testdata/functions.txt")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(list))
}

// Every link from the documents to a file of the repository leads somewhere.
func TestLinksLead(t *testing.T) {
	docs, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, doc := range append(docs, "../../README.md") {
		text, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		for _, link := range regexp.MustCompile(`\]\(([^)#]+)[^)]*\)`).FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(link[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(doc), link[1])); err != nil {
				t.Errorf("%s: %v", doc, err)
			}
		}
	}
}

// Every test named in a document exists. A name that ends in … stands for all with this prefix.
func TestNamedTestsExist(t *testing.T) {
	var tests strings.Builder
	err := filepath.WalkDir("../..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		tests.Write(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	docs, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(docs) == 0 {
		t.Fatalf("%v: no documents", err)
	}
	named := 0
	for _, doc := range append(docs, "../../README.md", "../../SECURITY.md") {
		text, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Z]\\w*)(…?)`").FindAllStringSubmatch(string(text), -1) {
			begins := "\nfunc " + name[1]
			if name[2] == "" {
				begins += "("
			}
			if named++; !strings.Contains(tests.String(), begins) {
				t.Errorf("%s: there is no %s", doc, name[1])
			}
		}
	}
	if named < 50 {
		t.Errorf("%d tests are named", named)
	}
}

// Each claim about proof and security has a test: every row of a table with a column of tests names one, or says why there is none.
func TestClaimsHaveTests(t *testing.T) {
	rows := 0
	for _, doc := range []string{"integrity.md", "security.md"} {
		column := 0 // of the table's tests; 0: it has none
		for line := range strings.Lines(readDoc(t, doc)) {
			cells := strings.Split(strings.TrimSpace(line), " | ")
			switch {
			case !strings.HasPrefix(line, "| "):
				column = 0
			case column == 0 && strings.HasSuffix(strings.TrimSpace(line), "| test |"):
				column = len(cells) - 1
			case column > 0 && !strings.HasPrefix(line, "| --- |"):
				if rows++; len(cells) != column+1 || !strings.Contains(cells[column], "`Test") && !strings.HasPrefix(cells[column], "none: ") {
					t.Errorf("%s: no test: %s", doc, line)
				}
			}
		}
	}
	if rows < 60 {
		t.Errorf("%d claims have tests", rows)
	}
}

func readDoc(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../docs", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// sectionsOf returns the text below each heading with this prefix, by the rest of the heading.
func sectionsOf(t *testing.T, doc, heading string) map[string]string {
	t.Helper()
	sections := make(map[string]string)
	name := ""
	for line := range strings.Lines(readDoc(t, doc)) {
		if strings.HasPrefix(line, "## ") {
			name = ""
			if rest, ok := strings.CutPrefix(line, heading); ok {
				name = strings.TrimSpace(rest)
			}
		}
		if name != "" {
			sections[name] += line
		}
	}
	return sections
}
