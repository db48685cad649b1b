package report

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/test/testtape"
)

// Of interpreters that connect, a service comes last and a relay before it, each with why.
func TestShellsRanksTheUnusual(t *testing.T) {
	tape := testtape.Altered(t, 3_000, `UPDATE process SET exe = CASE id % 3 WHEN 0 THEN '/usr/bin/nc' WHEN 1 THEN '/usr/bin/python3' ELSE exe END, script = NULL, cmdline = NULL, parent = NULL;
		UPDATE process SET script = '/tmp/.a/x.py' WHERE exe = '/usr/bin/python3' AND id % 2 = 0;
		UPDATE process SET exe = '/usr/bin/python3', script = NULL, ancestry = 'systemd(1) > python3(' || tgid || ')' WHERE id = (SELECT max(process) FROM task);`)
	var last string
	points := 100
	for _, row := range askCanned(t, tape, "shells") {
		n, err := strconv.Atoi(row["points"])
		if err != nil || n > points || row["reason"] == "" {
			t.Fatalf("%v after %d: %v", row, points, err)
		}
		if strings.Contains(row["reason"], "where anybody can write") != strings.Contains(row["reason"], "hidden") {
			t.Errorf("%v", row)
		}
		points, last = n, row["reason"]
	}
	if !strings.HasSuffix(last, "service") {
		t.Errorf("the last is %q", last)
	}
}

// A shell that a server begot for the first time, or in a directory where anybody can write, ranks above one of the same
// kind that has been seen before, and the reason says so. What ran when recording began is not new.
func TestFirstSeenIsUnusual(t *testing.T) {
	tape := testtape.Altered(t, 3_000, `UPDATE process SET exe = '/usr/bin/bash', script = CASE id % 3 WHEN 0 THEN '/opt/x' WHEN 1 THEN '/opt/y' || id ELSE '/opt/z' || id END, cmdline = NULL, parent = NULL,
		exec_boot_ns = CASE id % 3 WHEN 2 THEN 0 ELSE (SELECT min(id) + 7200000000000 FROM connection) - (SELECT offset_ns FROM boot WHERE boot.id = process.boot) + id END;`)
	reasons := make(map[string]int)
	for _, row := range askCanned(t, tape, "shells") {
		script := "x"
		if err := ask.Each(t.Context(), tape.Conn(), "SELECT substr(script, 6, 1) FROM processes WHERE pid = "+row["pid"], func(r []format.Value) { script = string(r[0].Bytes) }); err != nil {
			t.Fatal(err)
		}
		reasons[fmt.Sprintf("%s first seen %t, the only one %t", script, strings.Contains(row["reason"], "first seen"), strings.Contains(row["reason"], "the only one"))]++
	}
	for _, want := range []string{"x first seen false, the only one false", "y first seen true, the only one true", "z first seen false, the only one true"} {
		if reasons[want] == 0 {
			t.Errorf("no row with %s: %v", want, reasons)
		}
	}
	if reasons["z first seen true, the only one true"] > 0 {
		t.Errorf("%v", reasons)
	}
}

// A shell that is described in several segments, each of which tells its start by its own clock, is asked about once: its
// connects are counted once.
func TestShellOfSeveralSegments(t *testing.T) {
	tape := testtape.Altered(t, 1_000, `UPDATE process SET exe = '/usr/bin/bash', script = '/opt/' || id, cmdline = NULL, parent = NULL,
		exec_boot_ns = start_boot_ns + 360000000000000 + 1000 * (2 - %[1]d);`)
	var told, made int64
	for _, row := range askCanned(t, tape, "shells") {
		n, err := strconv.ParseInt(row["n"], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		told += n
	}
	if err := ask.Each(t.Context(), tape.Conn(), "SELECT sum(count) FROM connections WHERE family IN ('ipv4', 'ipv6') AND NOT probe AND exe = '/usr/bin/bash'", func(r []format.Value) { made = r[0].Int }); err != nil {
		t.Fatal(err)
	}
	if told != made || made == 0 {
		t.Errorf("%d connects are told of, and there are %d", told, made)
	}
}

// A program in the directory of a user's tool ranks below one that is hidden elsewhere, and both below one in memory.
func TestSuspiciousExeRanksTheUnusual(t *testing.T) {
	tape := testtape.Altered(t, 3_000, `UPDATE process SET script = NULL, exe = CASE id % 3 WHEN 0 THEN '/home/ann/.cargo/bin/rg' WHEN 1 THEN '/opt/.x/run' ELSE '/memfd:x (deleted)' END, exe_memfd = id % 3 = 2, exe_deleted = 0;`)
	var order []string
	for _, row := range askCanned(t, tape, "suspicious-exe") {
		if len(order) == 0 || order[len(order)-1] != row["exe"] {
			order = append(order, row["exe"])
		}
	}
	if len(order) < 2 || order[len(order)-1] != "/home/ann/.cargo/bin/rg" || order[0] == "/home/ann/.cargo/bin/rg" {
		t.Errorf("%v", order)
	}
}

// A program in a mount namespace that is neither the host's nor a known container's may be another file than its path says; that
// of a service is usual, and ranks lower.
func TestSuspiciousExeInAnotherMountNamespace(t *testing.T) {
	ask := func(change string) (points map[string]int) {
		tape := testtape.Altered(t, 3_000, `UPDATE process SET script = NULL, exe_memfd = 0, exe_deleted = 0, exe = '/usr/bin/curl', mntns_is_host = 0, container = NULL;
			UPDATE task SET container = NULL; UPDATE process SET `+change)
		points = map[string]int{}
		for _, row := range askCanned(t, tape, "suspicious-exe") {
			if !strings.Contains(row["reason"], "in another mount namespace") {
				t.Fatalf("%v", row)
			}
			n, err := strconv.Atoi(row["points"])
			if err != nil {
				t.Fatal(err)
			}
			points[row["pid"]] = n
		}
		return points
	}
	apart, service := ask("unit = 'session-1.scope';"), ask("unit = 'resolved.service';")
	if len(apart) == 0 || len(apart) != len(service) {
		t.Fatalf("%d processes, and %d of services", len(apart), len(service))
	}
	for pid, n := range apart {
		if service[pid] != n-3 {
			t.Errorf("process %s has %d points, and %d as a service", pid, n, service[pid])
		}
	}
	for _, usual := range []string{"mntns_is_host = 1;", "mntns_is_host = NULL;", "container = 'docker:x';"} {
		if rows := ask(usual); len(rows) > 0 {
			t.Errorf("%s: %v", usual, rows)
		}
	}
}
