package main

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/conntape/conntape/query/report"
	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/store/segment"
)

// writeConnections writes a tape of the incident with some of its connections.
func writeConnections(t *testing.T, dir string, pass func(store.Connection) bool) (n int) {
	t.Helper()
	noon, err := time.Parse(time.RFC3339, fixtureNoon)
	if err != nil {
		t.Fatal(err)
	}
	w, err := store.OpenWriter(dir, store.WriterOptions{Version: "1.2.3", Backend: "cgroup", Host: "web1", BootID: "00000000-0000-4000-8000-000000000001",
		Now: store.Anchor{Boot: fixtureBoot, Real: noon.UnixNano(), Kind: "start"}})
	if err != nil {
		t.Fatal(err)
	}
	batch := store.Batch{Now: fixtureBoot + uint64(8*time.Hour)}
	for _, c := range incidentConnections() {
		if pass(c) {
			batch.Connections = append(batch.Connections, c)
		}
	}
	err = w.Append(batch)
	if err := errors.Join(err, w.Close(store.Gap{From: batch.Now, Cause: segment.CauseStopped}, nil)); err != nil {
		t.Fatal(err)
	}
	return len(batch.Connections)
}

// A canned query with a filter gives the same answer as without it on a tape of only the passing connections.
func TestFiltersOnCannedQueries(t *testing.T) {
	library, err := report.Library()
	if err != nil {
		t.Fatal(err)
	}
	whole := filepath.Join(t.TempDir(), "whole")
	all := writeConnections(t, whole, func(store.Connection) bool { return true })
	private := netip.MustParsePrefix("10.0.0.0/8")
	list := filepath.Join(t.TempDir(), "list.txt")
	if err := os.WriteFile(list, []byte("10.0.0.0/8\n198.51.100.66\n22\n/run/docker.sock\n/usr/bin/curl\n/usr/bin/nmap\n0.0.0.0/0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for flags, pass := range map[string]func(store.Connection) bool{
		"--exe nmap":          func(c store.Connection) bool { return path.Base(c.Task.Process.Exe) == "nmap" || c.Task.Comm == "nmap" },
		"--exe /usr/bin/curl": func(c store.Connection) bool { return c.Task.Process.Exe == "/usr/bin/curl" },
		"--user www-data":     func(c store.Connection) bool { return c.Task.User == "www-data" },
		"--user 1000":         func(c store.Connection) bool { return c.Task.UID == 1000 },
		"--pid 7010":          func(c store.Connection) bool { return c.Task.Process.Key.Tgid == 7010 },
		"--port 22":           func(c store.Connection) bool { return c.Remote.Port == 22 },
		"--to 198.51.100.66":  func(c store.Connection) bool { return c.Remote.Address == "198.51.100.66" },
		"--to 10.0.5.9:22":    func(c store.Connection) bool { return c.Remote.Address == "10.0.5.9" && c.Remote.Port == 22 },
		"--to 10.0.0.0/8": func(c store.Connection) bool {
			a, err := netip.ParseAddr(c.Remote.Address)
			return err == nil && private.Contains(a)
		},
		"--to /run/docker.sock":            func(c store.Connection) bool { return c.Remote.Address == "/run/docker.sock" },
		"--container docker":               func(c store.Connection) bool { return strings.Contains(c.Task.Container, "docker") },
		"--outcome Refused":                func(c store.Connection) bool { return c.Shape.Errno == 111 && c.Shape.HookErrno <= 0 },
		"--outcome denied --user www-data": func(c store.Connection) bool { return c.Shape.HookErrno > 0 && c.Task.User == "www-data" },
	} {
		some := filepath.Join(t.TempDir(), "some")
		if n := writeConnections(t, some, pass); n == 0 || n == all {
			t.Fatalf("%s: %d of %d connections pass", flags, n, all)
		}
		for _, c := range library {
			if c.FilteredView() != report.Connections || c.Name == "tree" || c.Name == "beacons" || c.Name == "who" && strings.Contains(flags, "--port") {
				continue // a tree has processes too, a beacon is judged by the whole window, and --port is a parameter of who
			}
			line := c.Examples[0] + " --all --quiet --format csv"
			if !c.Has("all") {
				line = strings.Replace(line, " --all", "", 1)
			}
			got, _ := askAt(t, whole, line+" "+flags)
			want, _ := askAt(t, some, line)
			if got != want {
				t.Errorf("%s %s:\n%s\nwant\n%s", c.Name, flags, got, want)
			}
		}
		match := func(tape, flags string) string {
			h, out, said := world("")
			words := append([]string{"query", "match", "--dir", tape, "--indicators", list, "--all", "--quiet", "--format", "csv"}, strings.Fields(flags)...)
			if code := h.report(h.run(context.Background(), words)); code != exitFound {
				t.Errorf("match %s: exit %d: %s", flags, code, said)
			}
			return out.String()
		}
		got, want := match(whole, flags), match(some, "")
		want = regexp.MustCompile(`(?m)^[^,]*,[^,]*,0,.*\n`).ReplaceAllString(want, "") // programs that match and connected to nothing
		if got != want || strings.Count(got, "\n") < 2 {
			t.Errorf("match %s:\n%s\nwant\n%s", flags, got, want)
		}
		h, _, stderr := world("")
		file := filepath.Join(t.TempDir(), "x.csv")
		words := append([]string{"export", "--dir", whole, "--output", file}, strings.Fields(flags)...)
		if code := h.report(h.run(context.Background(), words)); code != exitDone || !strings.Contains(stderr.String(), "rows: ") {
			t.Errorf("export %s: exit %d: %s", flags, code, stderr)
		}
		h, counted, _ := world("")
		h.run(context.Background(), []string{"query", "sql", "select count(*) from connections", "--dir", some, "-q"})
		n := strings.TrimPrefix(strings.TrimSpace(counted.String()), "count(*)\n")
		if !strings.Contains(stderr.String(), "rows: "+n+"\n") {
			t.Errorf("export %s: %s, want %s rows", flags, stderr, n)
		}
	}
}

// first-seen and diff ask for the last day when nothing else is said, and say so.
func TestDefaultWindow(t *testing.T) {
	tape := filepath.Join(t.TempDir(), "tape")
	if err := writeFixture(tape, "incident"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"first-seen", "diff"} {
		got, said := askAt(t, tape, "conntape query "+name)
		want, _ := askAt(t, tape, "conntape query "+name+" --since 24h")
		if got != want || !strings.Contains(said, "asked for 2026-06-30T20:00:00Z to the end") {
			t.Errorf("%s: %s\n%s\nwant\n%s", name, said, got, want)
		}
	}
}
