package bpf

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestExecs: an exec is in the ring once, and whole in spite of a program that the kernel left out, or that did not know yet
// whether it is a script.
func TestExecs(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: loading programs takes root")
	}
	for _, without := range []string{"", "process_exec_prepare", "process_exec_classic", "process_exec_again"} {
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
			sent, last := execsOf(t, c, script)
			if without != "process_exec_prepare" && sent != n || len(last) != n {
				t.Errorf("%d execs are %d records of %d", n, sent, len(last))
			}
			for _, p := range last {
				if p.Filename != script || p.Flags&Script == 0 || string(p.Argv) != "/bin/true\x00"+script+"\x00" {
					t.Errorf("%+v", p)
				}
			}
		})
	}
}

// execsOf returns how many records there are of a script's execs, and the last of each.
func execsOf(t *testing.T, c *Capture, script string) (sent int, last map[ProcessKey]Process) {
	t.Helper()
	last = map[ProcessKey]Process{}
	for {
		var p Process
		ok, err := c.ReadProcess(&p)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return sent, last
		}
		if p.Kind == KindExec && bytes.Contains(p.Argv, []byte(script)) {
			sent++
			last[p.Key] = p
		}
	}
}
