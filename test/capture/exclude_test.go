package capture

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// TestExcluded: connects that a rule excludes have no row, each answer says how many they are, and verify's account holds.
func TestExcluded(t *testing.T) {
	dir := tempDir(t)
	tape := record(t, dir, "--exclude", "family=unix user=4294967294; to=127.0.0.1 port=4242")
	const n = 20
	flood := mustRun(t, "flood", fmt.Sprint(n), "1") // to port 4242
	other := mustRun(t, "fresh", "5", "1")
	tape.stop(t)
	if !strings.Contains(tape.said(), " excluded, 0 lost") || !strings.Contains(tape.said(), "EXCLUDED, counted and not kept: family=unix user=4294967294; to=127.0.0.1 port=4242\n") {
		t.Errorf("it said: %s", tape.said())
	}
	for pid, want := range map[int64]int64{flood.number("pid"): 0, other.number("pid"): 5} {
		if got := number(t, dir, `SELECT count(*) FROM connections WHERE pid = ?`, pid); got != want {
			t.Errorf("process %d has %d rows, want %d", pid, got, want)
		}
	}
	out, err := exec.Command(env.conntape, "status", "--dir", dir, "--json").Output()
	var status struct {
		Excluded []struct {
			Rule     string
			Connects int64
		}
		Unaccounted int64
		Lost        int64    `json:"lost_in_gaps"`
		BlindSpots  []string `json:"blind_spots"`
	}
	if json.Unmarshal(out, &status) != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if len(status.Excluded) != 1 || status.Excluded[0].Connects != n || status.Unaccounted != 0 || status.Lost != 0 {
		t.Errorf("status: %+v", status)
	}
	for _, args := range [][]string{{"query", "recent"}, {"verify"}} {
		out, err := exec.Command(env.conntape, append(args, "--dir", dir)...).CombinedOutput()
		if err != nil {
			t.Errorf("%v: %v: %s", args, err, out)
		}
		if args[0] == "query" && !strings.Contains(string(out), fmt.Sprintf("coverage: EXCLUDED by to=127.0.0.1 port=4242: %d connects", n)) {
			t.Errorf("the answer does not tell what was excluded: %s", out)
		}
	}
}
