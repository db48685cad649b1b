package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/conntape/conntape/bpf"
)

// A guestRun is the cost of a connect under an emulated kernel, in instructions.
type guestRun struct {
	Kernel  string
	Backend bpf.Backend
	Costs   *costs
}

// Kernels and backends that this machine may not have.
var guestCells = []struct {
	kernel  string
	backend bpf.Backend
}{
	{"amd64-5.10", bpf.Fexit},
	{"amd64-5.10", bpf.Kprobe},
	{"amd64-6.1", bpf.Fexit},
	{"amd64-6.1", bpf.Kprobe},
	{"amd64-6.12", bpf.Fexit},
	{"amd64-6.12", bpf.Kprobe},
	{"amd64-6.12", bpf.Cgroup},
	{"amd64-7.3", bpf.Fexit},
	{"amd64-7.3", bpf.Kprobe},
	{"amd64-7.3", bpf.Cgroup},
}

// guests boots kernels in qemu, with a clock that counts instructions: exact, but not a time.
func (b *bench) guests() error {
	program := filepath.Join(b.dir, "bench")
	build := exec.CommandContext(b.ctx, "go", "build", "-o", program, "./bench")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("build bench: %w", err)
	}
	path, err := b.countingQEMU()
	if err != nil {
		return err
	}
	for _, cell := range guestCells {
		cmd := exec.CommandContext(b.ctx, "go", "run", "./test/guest", "-kernel", cell.kernel,
			"-smp", "1", "-append", "nokaslr", "-file", program, "-file", b.rig.conntape, "--", "bench", "costs", "-backend", string(cell.backend))
		cmd.Env = append(os.Environ(), "PATH="+path+":"+os.Getenv("PATH"))
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s, %s: %w: %s", cell.kernel, cell.backend, err, out.String())
		}
		run := guestRun{Kernel: strings.TrimPrefix(cell.kernel, "amd64-"), Backend: cell.backend}
		start := bytes.LastIndex(out.Bytes(), []byte("{\"Names\""))
		if start < 0 {
			return fmt.Errorf("%s, %s: no result in %s", cell.kernel, cell.backend, out.String())
		}
		if err := json.NewDecoder(bytes.NewReader(out.Bytes()[start:])).Decode(&run.Costs); err != nil {
			return fmt.Errorf("%s, %s: %w", cell.kernel, cell.backend, err)
		}
		b.report.Guests = append(b.report.Guests, run)
	}
	return nil
}

// countingQEMU writes a qemu command for test/guest whose clock is one nanosecond an instruction. It returns its directory.
func (b *bench) countingQEMU() (string, error) {
	real, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		return "", err
	}
	script := `#!/bin/bash
args=("${@/tcg,thread=multi/tcg,thread=single}")
exec ` + real + ` "${args[@]}" -icount shift=0,sleep=off -rtc clock=vm -seed 1
`
	dir := filepath.Join(b.dir, "path")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	return dir, os.WriteFile(filepath.Join(dir, "qemu-system-x86_64"), []byte(script), 0o755)
}
