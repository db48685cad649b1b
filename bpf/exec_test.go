package bpf

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestExecs: a fork and an exec are in the ring once, and whole in spite of a program that the kernel left out, or that did not
// know yet whether it is a script.
func TestExecs(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: loading programs takes root")
	}
	for _, without := range []string{"", "process_exec_prepare", "process_exec_classic", "process_exec_again", "process_fork_classic", "process_fork_again"} {
		t.Run("without "+without, func(t *testing.T) {
			c, err := Open(Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if c.collection.Programs["process_exec_classic"] == nil {
				t.Skip("SKIPPED: this kernel has one program at exec, which is not left out")
			}
			for _, a := range c.attached {
				if a.hook.program == without {
					a.link.Close()
				}
			}
			script := filepath.Join(t.TempDir(), "run.sh")
			if err := os.WriteFile(script, []byte("#!/bin/true\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			const n = 5
			for range n {
				if err := exec.Command(script).Run(); err != nil {
					t.Fatal(err)
				}
			}
			sent, last, forks := execsOf(t, c, script)
			if without != "process_exec_prepare" && sent != n || len(last) != n {
				t.Errorf("%d execs are %d records of %d", n, sent, len(last))
			}
			for _, p := range last {
				if p.Filename != script || p.Flags&Script == 0 || string(p.Argv) != "/bin/true\x00"+script+"\x00" {
					t.Errorf("%+v", p)
				}
				if n := forks[p.Key.Start]; n != 1 {
					t.Errorf("%d forks of %+v", n, p.Key)
				}
			}
		})
	}
}

// execsOf returns how many records there are of a script's execs, the last of each, and how many of each fork by the child's start.
func execsOf(t *testing.T, c *Capture, script string) (sent int, last map[ProcessKey]Process, forks map[uint64]int) {
	t.Helper()
	last, forks = map[ProcessKey]Process{}, map[uint64]int{}
	for _, p := range processesOf(t, c) {
		if p.Kind == KindFork {
			forks[p.Key.Start]++
		}
		if p.Kind == KindExec && bytes.Contains(p.Argv, []byte(script)) {
			sent++
			last[p.Key] = p
		}
	}
	return sent, last, forks
}

// processesOf reads the ring of processes to its end.
func processesOf(t *testing.T, c *Capture) (all []Process) {
	t.Helper()
	for {
		var p Process
		ok, err := c.ReadProcess(&p)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return all
		}
		all = append(all, p)
	}
}

// TestDeepPaths: the paths of a program and of its directory are whole, at whatever turn the walk ends that reads some components at once.
func TestDeepPaths(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: loading programs takes root")
	}
	c, err := Open(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	program, err := os.ReadFile("/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	at := t.TempDir()
	depths := []int{15, 16, 17, 18, 31, 32, 33, 34, 127, 128, 129, 256, 1000, 1800}
	var want []string
	for components := strings.Count(at, "/"); len(want) < len(depths); components++ {
		if slices.Contains(depths, components+1) {
			path := filepath.Join(at, "program")
			cmd := exec.Command(path)
			cmd.Dir = at
			if err := errors.Join(os.WriteFile(path, program, 0o755), cmd.Run()); err != nil {
				t.Fatal(err)
			}
			want = append(want, path)
		}
		at += "/d"
		if err := os.Mkdir(at, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	found := map[string]Process{}
	for _, p := range processesOf(t, c) {
		if p.Kind == KindExec {
			found[cString(p.Argv)] = p
		}
	}
	for _, path := range want {
		if p := found[path]; p.Exe != path || p.Cwd != filepath.Dir(path) || p.Flags&(ExeTruncated|CwdTruncated) != 0 {
			t.Errorf("%d components: exe %.60s (%d bytes), directory %.60s, flags %x", strings.Count(path, "/"), p.Exe, len(p.Exe), p.Cwd, p.Flags)
		}
	}
}
