package store

import (
	"strings"
	"testing"
)

func TestAncestry(t *testing.T) {
	systemd := &Process{Key: ProcessKey{Tgid: 1}, Comm: "systemd"}
	sshd := &Process{Key: ProcessKey{Tgid: 812}, Comm: "sshd", PPID: 1, Parent: systemd}
	curl := &Process{Key: ProcessKey{Tgid: 950}, Comm: "curl", PPID: 812, Parent: sshd}
	liar := &Process{Key: ProcessKey{Tgid: 7}, Comm: " a(1) > b ", PPID: 1, Parent: systemd}
	orphan := &Process{Key: ProcessKey{Tgid: 8}, Comm: "?", PPID: 44}
	nobody := &Process{Key: ProcessKey{Tgid: 9}}
	for p, want := range map[*Process]string{
		curl:   "systemd(1) > sshd(812) > curl(950)",
		liar:   `systemd(1) > \x20a\x281\x29 \x3e b\x20(7)`,
		orphan: `?(44) > \x3f(8)`,
		nobody: "?(9)",
	} {
		if got := ancestry(p); got != want {
			t.Errorf("ancestry = %q, want %q", got, want)
		}
	}
	deep := systemd
	for i := uint32(2); i < 1000; i++ {
		deep = &Process{Key: ProcessKey{Tgid: i}, Comm: "x", PPID: i - 1, Parent: deep}
	}
	if got := ancestry(deep); !strings.HasPrefix(got, "… > x(968) > ") || strings.Count(got, "(") != maxAncestors {
		t.Errorf("deep ancestry = %q", got)
	}
}

func TestProcessID(t *testing.T) {
	// Written once; must never change, or processes of one boot fall apart
	// between segments.
	const boot = "6f1c5c0e-0000-4000-8000-000000000001"
	if got, want := processID(boot, ProcessKey{Tgid: 950, StartBoot: 123456789, Exec: 2}), int64(7875171304521459); got != want {
		t.Errorf("processID = %d, want %d", got, want)
	}
	seen := map[int64]bool{}
	for i := uint32(0); i < 1000; i++ {
		id := processID(boot, ProcessKey{Tgid: i})
		if id <= 0 || id >= 1<<53 || seen[id] {
			t.Fatalf("id %d of tgid %d", id, i)
		}
		seen[id] = true
	}
	if nextProcessID(1<<53-1) != 1 || nextProcessID(5) != 6 {
		t.Error("nextProcessID does not wrap")
	}
}
