package metrics

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// fakeConntape is a program that answers "status --format json" with text, and exits with a code.
func fakeConntape(t *testing.T, text, code string) source {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "answer"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\n[ \"$*\" = 'status --format json --dir /tape' ] || exit 9\ncat " + dir + "/answer\necho 'conntape: error: no such tape' >&2\nexit " + code + "\n"
	program := filepath.Join(dir, "conntape")
	if err := os.WriteFile(program, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return source{program, "/tape"}
}

const answer = `{"recording": true, "since": "2026-07-01T12:00:00Z", "from": "2026-06-01T00:00:00.5Z", "committed": "2026-07-01T13:00:00Z",
"tape_id": "ab", "kernel": "6.1", "version": "0.1.0\u001b[31m\n", "backends": ["fexit"], "segments": 3, "segments_sealed": 2, "bytes": 4096,
"room_bytes": 8192, "reserved_bytes": null, "well": true, "unaccounted": 2,
"counters": {"seen": 999}, "run_counters": {"seen": 20, "stored": 10, "coalesced": 4, "lost": 3, "lost_ring": 2, "lost_store": 1, "in_flight": 1, "own": 5, "batch_ns": 1500000000, "batches": 6},
"gaps": [{"cause": "ring full"}, {"cause": "ring full"}, {"cause": "hook gone"}],
"removed": [{"cause": "size", "connections": 7}, {"cause": "size", "connections": 8}, {"cause": "age", "connections": null}], "left_out": ["x"]}`

// TestMetrics: what a status says has the names and numbers that a dashboard wants, and passes the linter of Prometheus.
func TestMetrics(t *testing.T) {
	for _, code := range []string{"0", "5"} { // 5: part of the tape is damaged
		c := &collector{read: fakeConntape(t, answer, code).read, log: func(err error) { t.Error(err) }}
		want := `# HELP conntape_attempts_lost_total Attempts that are on the tape as a number only, by reason.
# TYPE conntape_attempts_lost_total counter
conntape_attempts_lost_total{reason="memory"} 0
conntape_attempts_lost_total{reason="missed"} 0
conntape_attempts_lost_total{reason="ring"} 2
conntape_attempts_lost_total{reason="share"} 0
conntape_attempts_lost_total{reason="stolen"} 0
conntape_attempts_lost_total{reason="store"} 1
conntape_attempts_lost_total{reason="unread"} 0
# HELP conntape_attempts_seen_total Attempts to connect that the kernel counted.
# TYPE conntape_attempts_seen_total counter
conntape_attempts_seen_total 20
# HELP conntape_batch_seconds_total Time that batches took, retries included.
# TYPE conntape_batch_seconds_total counter
conntape_batch_seconds_total 1.5
# HELP conntape_gaps Times for which the record is incomplete, by cause.
# TYPE conntape_gaps gauge
conntape_gaps{cause="hook gone"} 1
conntape_gaps{cause="ring full"} 2
# HELP conntape_info Always 1. What recorded last, and where.
# TYPE conntape_info gauge
conntape_info{backend="fexit",kernel="6.1",tape_id="ab",version="0.1.0?[31m?"} 1
# HELP conntape_oldest_timestamp_seconds Since when the tape has all that it recorded.
# TYPE conntape_oldest_timestamp_seconds gauge
conntape_oldest_timestamp_seconds 1.7802720005e+09
# HELP conntape_removed_connections Connections that retention removed, by cause, as far as the tape still knows.
# TYPE conntape_removed_connections gauge
conntape_removed_connections{cause="size"} 15
# HELP conntape_room_bytes What the tape can still get from the disk, its reserve included.
# TYPE conntape_room_bytes gauge
conntape_room_bytes 8192
# HELP conntape_segments Segments of the tape, by state.
# TYPE conntape_segments gauge
conntape_segments{state="open"} 1
conntape_segments{state="sealed"} 2
# HELP conntape_well 1: all is as it should be, by the rules of conntape status --check.
# TYPE conntape_well gauge
conntape_well 1
`
		names := []string{"conntape_attempts_lost_total", "conntape_attempts_seen_total", "conntape_batch_seconds_total", "conntape_gaps", "conntape_info",
			"conntape_oldest_timestamp_seconds", "conntape_removed_connections", "conntape_reserved_bytes", "conntape_room_bytes", "conntape_segments", "conntape_well"}
		if err := testutil.CollectAndCompare(c, strings.NewReader(want), names...); err != nil {
			t.Error(err)
		}
		problems, err := testutil.CollectAndLint(c)
		if err != nil || len(problems) > 0 {
			t.Error(err, problems)
		}
	}
}

// TestUnreadable: of a tape that cannot be read no number is given, and why is said once.
func TestUnreadable(t *testing.T) {
	for name, s := range map[string]source{
		"no tape":         fakeConntape(t, "", "1"),
		"another version": fakeConntape(t, "status: fine", "0"),
		"no program":      {"/nowhere/conntape", "/tape"},
	} {
		t.Run(name, func(t *testing.T) {
			var said strings.Builder
			registry, err := newRegistry(s, (&latest{w: &said}).say)
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				families, err := registry.Gather()
				if err != nil || len(families) != 1 || families[0].GetName() != "conntape_scrape_success" || families[0].GetMetric()[0].GetGauge().GetValue() != 0 {
					t.Fatal(families, err)
				}
			}
			if strings.Count(said.String(), "\n") != 1 {
				t.Errorf("it said %q", said.String())
			}
		})
	}
}

// TestServe: the loopback and a UNIX socket are served, also where a killed server left its socket; nothing else is.
func TestServe(t *testing.T) {
	registry, err := newRegistry(fakeConntape(t, answer, "0"), func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "socket")
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	left.Close()
	for _, where := range []string{"127.0.0.1:0", "[::1]:0", unixPrefix + socket} {
		l, err := openListener(where)
		if err != nil && strings.HasPrefix(where, "[::1]") {
			t.Logf("SKIPPED: no IPv6 here: %v", err)
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- serve(ctx, l, registry) }()
		client := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
			return net.Dial(l.Addr().Network(), l.Addr().String())
		}}}
		answered, err := client.Get("http://conntape/metrics")
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(answered.Body)
		answered.Body.Close()
		if err != nil || !strings.Contains(string(text), "\nconntape_attempts_seen_total 20\n") {
			t.Errorf("%s: %v: %s", where, err, text)
		}
		client.CloseIdleConnections()
		stop()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("it does not stop")
		}
	}
	for _, where := range []string{"0.0.0.0:9741", "[::]:9741", "192.0.2.1:9741", "localhost:9741", ":9741", "9741", ""} {
		if l, err := openListener(where); !errors.Is(err, errUsage) {
			t.Errorf("%q: %v", where, err)
			if err == nil {
				l.Close()
			}
		}
	}
}

// TestUsage: a wrong command line is told in one line, with the exit code 2 behind it.
func TestUsage(t *testing.T) {
	for _, args := range [][]string{nil, {"--listen", "127.0.0.1:0", "--textfile", "x.prom"}, {"--nonsense"}, {"--textfile", "x.prom", "more"}} {
		if err := run(t.Context(), args, io.Discard, io.Discard); !errors.Is(err, errUsage) {
			t.Errorf("%q: %v", args, err)
		}
	}
	var out strings.Builder
	if err := run(t.Context(), []string{"--help"}, &out, io.Discard); err != nil || out.String() != usage {
		t.Error(err, out.String())
	}
}

// TestRules: Prometheus reads the alert rules, and every expression of them and of the dashboard; and each metric that they name
// exists.
func TestRules(t *testing.T) {
	const rules, dashboard = "../packaging/prometheus-rules.yml", "../packaging/grafana-dashboard.json"
	check := exec.Command("go", "run", "-modfile=../packaging/prometheus.mod", "../packaging/check_rules.go", rules, dashboard)
	check.Stderr = os.Stderr // where go says what it downloads
	out, err := check.Output()
	if err != nil {
		t.Fatal(err)
	}
	known := names(t)
	used := strings.Fields(string(out))
	if len(used) < 15 {
		t.Errorf("only %d metrics are used: %v", len(used), used)
	}
	for _, name := range used {
		if !slices.Contains(known, name) {
			t.Errorf("%s is used, and nobody makes it", name)
		}
	}
}

// names are those of all metrics, as a tape that has everything shows them.
func names(t *testing.T) []string {
	t.Helper()
	all := strings.Replace(answer, `"reserved_bytes": null`, `"reserved_bytes": 1`, 1)
	registry, err := newRegistry(fakeConntape(t, all, "0"), func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, f := range families {
		list = append(list, f.GetName())
	}
	return list
}
