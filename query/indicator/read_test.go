package indicator

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// told returns what was read, in a form to compare.
func told(r *Reading) string {
	var all []string
	for _, list := range r.Set.ranges.All() {
		for _, i := range list {
			all = append(all, fmt.Sprintf("%d %s %s | %s", i.Line, i.Kind, i, i.Label))
		}
	}
	for _, words := range r.Set.words {
		for _, list := range words {
			for _, i := range list {
				all = append(all, fmt.Sprintf("%d %s %s | %s", i.Line, i.Kind, i, i.Label))
			}
		}
	}
	slices.SortFunc(all, func(a, b string) int {
		var x, y int
		fmt.Sscan(a, &x)
		fmt.Sscan(b, &y)
		if x != y {
			return x - y
		}
		return strings.Compare(a, b)
	})
	for _, p := range r.Problems {
		all = append(all, fmt.Sprintf("PROBLEM %d %q: %s", p.Line, p.Text, p.Why))
	}
	for why, n := range r.LeftOut {
		all = append(all, fmt.Sprintf("LEFT OUT %d %s", n, why))
	}
	slices.SortFunc(all[len(all)-len(r.LeftOut):], strings.Compare)
	return fmt.Sprintf("%s: %d entries, %d duplicates\n%s\n", r.Format, r.Entries, r.Duplicates, strings.Join(all, "\n"))
}

// Every list of testdata is read as the file beside it says. UPDATE_SCRIPTS=1
// rewrites them.
func TestReadLists(t *testing.T) {
	lists, err := filepath.Glob("testdata/*.list")
	if err != nil || len(lists) < 8 {
		t.Fatalf("%d lists, %v", len(lists), err)
	}
	for _, name := range lists {
		file, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		r, err := Read(file)
		file.Close()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		golden := strings.TrimSuffix(name, ".list") + ".golden"
		if os.Getenv("UPDATE_SCRIPTS") != "" {
			if err := os.WriteFile(golden, []byte(told(r)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if told(r) != string(want) {
			t.Errorf("%s:\n%s", name, told(r))
		}
	}
}

// Nothing of a list is lost: each line is an indicator, a duplicate, or a problem.
func TestEveryLineIsAccounted(t *testing.T) {
	var b strings.Builder
	for i := range 3000 {
		switch i % 3 {
		case 0:
			fmt.Fprintf(&b, "10.%d.%d.%d\n", i>>16, i>>8&255, i&255)
		case 1:
			fmt.Fprintf(&b, "host%d.example\n", i)
		default:
			fmt.Fprintf(&b, "nonsense %d\n", i)
		}
	}
	r, err := Read(strings.NewReader(b.String() + b.String()))
	if err != nil || r.Entries != 4000 || r.Duplicates != 2000 || len(r.Problems) != 2000 || r.Set.Len() != 2000 {
		t.Errorf("%d entries, %d duplicates, %d problems, %d in the set, %v", r.Entries, r.Duplicates, len(r.Problems), r.Set.Len(), err)
	}
}

// Whatever a list holds, reading it ends, and what it gives can be looked up.
func FuzzRead(f *testing.F) {
	lists, err := filepath.Glob("testdata/*.list")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range lists {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := Read(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if r.Set.Len() != r.Entries-r.Duplicates {
			t.Errorf("%d in the set, of %d entries with %d duplicates", r.Set.Len(), r.Entries, r.Duplicates)
		}
		for _, list := range r.Set.ranges.All() {
			for _, i := range list {
				if again, ok := Parse(i.String()); !ok || again.Text != i.Text || again.Port != i.Port {
					t.Errorf("%q was read, and reads again as %v", i, again)
				}
			}
		}
	})
}
