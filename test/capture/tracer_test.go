package capture

import (
	"os/exec"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// TestScriptBehindAnotherTracer: another tool's programs on the tracepoints of exec, which were there before ours and so run
// first, change nothing in what the tape says of a script.
func TestScriptBehindAnotherTracer(t *testing.T) {
	for _, c := range []struct {
		name   string
		attach func(t *testing.T) (link.Link, error)
	}{
		{"classic", func(t *testing.T) (link.Link, error) {
			const tracefs = "/sys/kernel/tracing"
			if err := unix.Access(tracefs+"/events", unix.R_OK); err != nil {
				if err := unix.Mount("tracefs", tracefs, "tracefs", 0, ""); err != nil {
					t.Fatalf("mount tracefs: %v", err)
				}
			}
			return link.Tracepoint("sched", "sched_process_exec", doNothing(t, ebpf.TracePoint), nil)
		}},
		{"raw", func(t *testing.T) (link.Link, error) {
			return link.AttachRawTracepoint(link.RawTracepointOptions{Name: "sched_process_exec", Program: doNothing(t, ebpf.RawTracepoint)})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			other, err := c.attach(t)
			if err != nil {
				t.Fatal(err)
			}
			defer other.Close()
			dir, place := tempDir(t), tempDir(t)
			script := writeFile(t, place, "run.sh", "#!"+env.connects+" script\n")
			tape := record(t, dir)
			for range 20 {
				if out, err := exec.Command(script, "argument").CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
			}
			tape.stop(t)

			all := rows(t, dir, `SELECT DISTINCT p.process_id, p.exe, p.script, p.cmdline, p.source FROM processes p
				JOIN connections c USING (process_id) WHERE p.exe = ?`, env.connects)
			if len(all) != 20 {
				t.Errorf("want 20 processes, got %d", len(all))
			}
			for _, r := range all {
				match(t, "process", r, want{"script": script, "cmdline": env.connects + " script " + script + " argument", "source": "exec"})
			}
		})
	}
}

func doNothing(t *testing.T, kind ebpf.ProgramType) *ebpf.Program {
	t.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: kind, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}
