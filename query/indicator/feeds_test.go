package indicator

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// Reads feeds, firewall rules, logs and reports in their usual forms. feeds.golden has each one's indicators, reasons for
// leaving out, problems and assumptions. UPDATE_SCRIPTS=1 rewrites it; read the difference: everything not understood
// must be reported, and nothing may match more than the list says.
func TestReadFeeds(t *testing.T) {
	lists, err := txtar.ParseFile("testdata/feeds.txtar")
	if err != nil || len(lists.Files) < 120 {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, list := range lists.Files {
		r, err := Read(strings.NewReader(string(list.Data)))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&all, "%s: %s\n", list.Name, got(r).indicators)
		for _, p := range r.Problems {
			fmt.Fprintf(&all, "    line %d: %s: %s\n", p.Line, p.Text, p.Why)
		}
		for _, counts := range []map[string]int{r.LeftOut, r.Notes} {
			for _, why := range slices.Sorted(maps.Keys(counts)) {
				fmt.Fprintf(&all, "    %d × %s\n", counts[why], why)
			}
		}
		if r.said() == 0 {
			t.Errorf("%s: no entry, problem or reason", list.Name)
		}
	}
	const golden = "testdata/feeds.golden"
	if os.Getenv("UPDATE_SCRIPTS") != "" {
		if err := os.WriteFile(golden, []byte(all.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil || all.String() != string(want) {
		t.Errorf("%v, differs from %s:\n%s", err, golden, all.String())
	}
}
