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

// Feeds, firewall rules, logs and reports as people hand them on, each with what is read of it, left out, not understood and
// assumed, in feeds.golden. UPDATE_SCRIPTS=1 rewrites that, to be read before it is believed: what is not understood is
// said, and nothing is read wider than it is written.
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
			t.Errorf("%s: nothing is said", list.Name)
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
