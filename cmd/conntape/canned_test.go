package main

import (
	"context"
	"encoding/csv"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/conntape/conntape/query/report"
	"github.com/jedib0t/go-pretty/v6/text"
)

// askAt runs a command line on a tape at 20:00, after the incident.
func askAt(t *testing.T, tape, line string) (stdout, stderr string) {
	t.Helper()
	h, out, messages := world("")
	h.now = func() time.Time { return time.Date(2026, 7, 1, 20, 0, 0, 0, time.UTC) }
	words := append(strings.Fields(line)[1:], "--dir", tape)
	if code := h.report(h.run(context.Background(), words)); code != exitDone {
		t.Errorf("%s: exit %d: %s", line, code, messages)
	}
	return out.String(), messages.String()
}

// Runs every example of every canned query, and again with --all. The answers on the incident are in testdata/canned and
// have the columns of the query's header. On an empty tape there are no rows, and a gap is reported. UPDATE_SCRIPTS=1
// rewrites the files.
func TestCannedQueries(t *testing.T) {
	library, err := report.Library()
	if err != nil {
		t.Fatal(err)
	}
	tape, empty, gap := filepath.Join(t.TempDir(), "tape"), filepath.Join(t.TempDir(), "empty"), filepath.Join(t.TempDir(), "gap")
	for kind, dir := range map[string]string{"incident": tape, "empty": empty, "gap": gap} {
		if err := writeFixture(dir, kind); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range library {
		t.Run(c.Name, func(t *testing.T) {
			var got strings.Builder
			lines := c.Examples
			if c.Has("all") {
				lines = append(lines, c.Examples[0]+" --all")
			}
			for _, line := range lines {
				answer, _ := askAt(t, tape, line+" --quiet --format table")
				fmt.Fprintf(&got, "$ %s\n%s\n", line, answer)
				checkColumns(t, c, tape, line)
				if answer, messages := askAt(t, empty, line+" --format csv"); strings.Count(answer, "\n") != 1 && c.Name != "gaps" || !strings.Contains(messages, "coverage: ") {
					t.Errorf("%s: on an empty tape: %q, %q", line, answer, messages)
				}
			}
			_, messages := askAt(t, gap, c.Examples[0]+" --since 2026-07-01T12:00:00Z --format csv")
			if !strings.Contains(messages, "coverage: 1 gap, together 5s long, 7 connections lost") {
				t.Errorf("%s: of the gap is said %q", c.Name, messages)
			}
			golden := filepath.Join("testdata", "canned", c.Name+".golden")
			if os.Getenv("UPDATE_SCRIPTS") != "" {
				if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got.String() != string(want) {
				t.Errorf("differs from %s (UPDATE_SCRIPTS=1)\n%s", golden, &got)
			}
		})
	}
}

// Every canned query gives the same answer on a tape of ten segments as on one segment.
func TestCannedQueriesOverSegments(t *testing.T) {
	library, err := report.Library()
	if err != nil {
		t.Fatal(err)
	}
	one, ten := filepath.Join(t.TempDir(), "one"), filepath.Join(t.TempDir(), "ten")
	for kind, dir := range map[string]string{"incident": one, "segments": ten} {
		if err := writeFixture(dir, kind); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range library {
		line := c.Examples[0] + " --quiet --format csv"
		inOne, _ := askAt(t, one, line)
		inTen, _ := askAt(t, ten, line)
		switch c.Name {
		case "gaps": // there is one between each two segments
		case "beacons", "timeline", "rare", "recent", "sockets", "metadata", "denied":
			if c.Name != "timeline" && inOne != inTen || strings.Count(inOne, "\n") != strings.Count(inTen, "\n") {
				t.Errorf("%s: in ten segments\n%s\nin one\n%s", line, inTen, inOne)
			}
		default: // a process that lives on over a reboot is two, which no host has
			if strings.Count(inTen, "\n") < strings.Count(inOne, "\n") {
				t.Errorf("%s: in ten segments\n%s\nin one\n%s", line, inTen, inOne)
			}
		}
	}
}

// The answers on terminals of 80 and 200 columns are in testdata/at80 and testdata/at200. No line of a table is wider
// than the terminal. UPDATE_SCRIPTS=1 rewrites the files.
func TestCannedQueriesAtWidth(t *testing.T) {
	library, err := report.Library()
	if err != nil {
		t.Fatal(err)
	}
	tape := filepath.Join(t.TempDir(), "tape")
	if err := writeFixture(tape, "incident"); err != nil {
		t.Fatal(err)
	}
	lines := map[string]string{"list": "query list"}
	for _, c := range library {
		lines[c.Name] = strings.TrimPrefix(c.Examples[0], "conntape ") + " --quiet --limit 12 --dir " + tape
	}
	for _, width := range []int{80, 200} {
		for name, line := range lines {
			h, stdout, stderr := world("")
			h.now = func() time.Time { return time.Date(2026, 7, 1, 20, 0, 0, 0, time.UTC) }
			h.width = func() (int, bool) { return width, true }
			h.getenv = func(name string) string { return map[string]string{"NO_COLOR": "1"}[name] }
			if code := h.report(h.run(context.Background(), strings.Fields(line))); code != exitDone {
				t.Errorf("%s: exit %d: %s", line, code, stderr)
			}
			for line := range strings.Lines(stdout.String()) {
				if n := text.StringWidthWithoutEscSequences(strings.TrimSuffix(line, "\n")); n > width && strings.Contains(stdout.String(), "──") {
					t.Errorf("%s at %d: %d columns: %s", name, width, n, line)
				}
			}
			golden := filepath.Join("testdata", fmt.Sprint("at", width), name+".golden")
			if os.Getenv("UPDATE_SCRIPTS") != "" {
				if err := os.WriteFile(golden, stdout.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if stdout.String() != string(want) {
				t.Errorf("%s differs from %s (UPDATE_SCRIPTS=1)\n%s", line, golden, stdout)
			}
		}
	}
}

// A status breaks between words, and only there.
func TestStatusWraps(t *testing.T) {
	tape := filepath.Join(t.TempDir(), "tape")
	if err := writeFixture(tape, "gap"); err != nil {
		t.Fatal(err)
	}
	status := func(width int) string {
		h, stdout, stderr := world("")
		h.width = func() (int, bool) { return width, width > 0 }
		if code := h.report(h.run(context.Background(), []string{"status", "--dir", tape})); code != exitDone {
			t.Fatalf("exit %d: %s", code, stderr)
		}
		return stdout.String()
	}
	wide, narrow := status(0), status(60)
	if strings.Join(strings.Fields(wide), " ") != strings.Join(strings.Fields(narrow), " ") {
		t.Errorf("wide\n%s\nnarrow\n%s", wide, narrow)
	}
	if strings.Count(narrow, "\n") <= strings.Count(wide, "\n") || !strings.Contains(narrow, "\n             ") {
		t.Errorf("not broken: %s", narrow)
	}
}

// checkColumns compares the columns of a query's answer with its header.
func checkColumns(t *testing.T, c *report.Canned, tape, line string) {
	t.Helper()
	var documented []string
	for _, column := range c.Columns {
		documented = append(documented, column.Name)
	}
	answer, _ := askAt(t, tape, line+" --quiet --format csv")
	if header, _, _ := strings.Cut(answer, "\n"); header != strings.Join(documented, ",") {
		t.Errorf("%s: columns\n %s\nand the header says\n %s", line, header, strings.Join(documented, ","))
	}
}

// The score of the planted beacon is as documented, computed here from the planted times; random arrivals are not taken
// for a beacon.
func TestBeaconScore(t *testing.T) {
	tape := filepath.Join(t.TempDir(), "tape")
	if err := writeFixture(tape, "incident"); err != nil {
		t.Fatal(err)
	}
	answer, _ := askAt(t, tape, "conntape query beacons --score 0 --quiet --format csv")
	rows, err := csv.NewReader(strings.NewReader(answer)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	column := func(name string) int { return slices.Index(rows[0], name) }
	scores := make(map[string][]string)
	for _, row := range rows[1:] {
		scores[row[column("remote")]] = row // by remote
	}
	for remote, address := range map[string]string{"198.51.100.66:443": "198.51.100.66", "192.0.2.123:123": "192.0.2.123", "203.0.113.10:443": "203.0.113.10"} {
		var gaps []float64
		last := uint64(0)
		for _, c := range incidentConnections() {
			if c.Remote.Address != address || c.Remote.Port == 0 {
				continue
			}
			if last > 0 {
				gaps = append(gaps, float64(c.BootTime-last))
			}
			last = c.BootTime
		}
		gaps = betweenBeats(gaps)
		q1, q2, q3 := nearestRank(gaps, 0.25), nearestRank(gaps, 0.5), nearestRank(gaps, 0.75)
		away := make([]float64, len(gaps))
		for i, gap := range gaps {
			away[i] = math.Abs(gap - q2)
		}
		mad := nearestRank(away, 0.5)
		skew := 1.0
		if q3-q1 > max(1e9, q2/10) && q2 != q1 && q2 != q3 {
			skew = 1 - math.Abs(q1+q3-2*q2)/(q3-q1)
		}
		want := fmt.Sprintf("%.1f %.1f", 50*(skew+max(0, 1-mad/q2)), q2/1e9)
		row := scores[remote]
		if row == nil {
			t.Errorf("%s has no score", remote)
			continue
		}
		interval, err := strconv.ParseFloat(row[column("interval")], 64)
		if got := fmt.Sprintf("%s %.1f", row[column("times")], interval); err != nil || got != want {
			t.Errorf("%s: times and interval %s, want %s", remote, got, want)
		}
	}
	if chance, err := strconv.ParseFloat(scores["203.0.113.10:443"][column("score")], 64); err != nil || chance >= 80 {
		t.Errorf("arrivals by chance score %v, %v", chance, err)
	}
}

// betweenBeats removes gaps shorter than a tenth of the upper quartile: they are within a beat.
func betweenBeats(gaps []float64) []float64 {
	least := nearestRank(gaps, 0.75) / 10
	kept, within := []float64{}, 0.0
	for _, gap := range gaps {
		if within += gap; gap >= least {
			kept, within = append(kept, within), 0
		}
	}
	return kept
}

// nearestRank returns the value at a share of the sorted values.
func nearestRank(values []float64, share float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[int(math.Round(float64(len(sorted)-1)*share))]
}
