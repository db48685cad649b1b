package main

import (
	"bytes"
	"context"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// A silent guest must never pass for a successful one: the matrix depends on it.
func TestGuest(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: boots a guest, and -short was given")
	}
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip("SKIPPED: no qemu-system-x86_64; test/setup installs it")
	}
	kernels, err := fetchKernels(context.Background(), "amd64-5.10")
	if err != nil {
		t.Fatal(err)
	}
	boot := func(timeout time.Duration, script string) (*result, string, error) {
		var output bytes.Buffer
		g := guest{
			kernel: kernels[0], args: []string{"sh", "-c", script}, env: []string{"WORD=tape"}, get: []string{"/tmp/left"},
			cpus: 1, memory: 256, timeout: timeout, output: &output,
		}
		res, err := g.run(context.Background())
		return res, output.String(), err
	}

	t.Run("exit status, output and files come back", func(t *testing.T) {
		// The child that stays behind holds the pipe open.
		res, out, err := boot(time.Minute, "sleep 600 & echo said $WORD; echo kept >/tmp/left; exit 7")
		if err != nil {
			t.Fatal(err)
		}
		if res.Exit != 7 || out != "said tape\n" || len(res.files) != 1 || string(res.files[0].Data) != "kept\n" {
			t.Errorf("exit %d, output %q, files %v", res.Exit, out, res.files)
		}
	})
	t.Run("a signal is no success", func(t *testing.T) {
		res, _, err := boot(time.Minute, "kill -KILL $$")
		if err != nil || res.Exit != 137 {
			t.Errorf("got %+v, %v; want exit 137", res, err)
		}
	})
	t.Run("a panic is an error with the console", func(t *testing.T) {
		res, _, err := boot(time.Minute, "echo c >/proc/sysrq-trigger")
		if err == nil || !strings.Contains(err.Error(), "sysrq triggered crash") {
			t.Errorf("got %+v, %v", res, err)
		}
	})
	t.Run("a hang is an error", func(t *testing.T) {
		res, _, err := boot(10*time.Second, "sleep 600")
		if err == nil || !strings.Contains(err.Error(), "no result within 10s") {
			t.Errorf("got %+v, %v", res, err)
		}
	})
}

func TestComplaints(t *testing.T) {
	log := `<6>[    0.1] Linux version 6.1
<4>[    1.0] WARNING: CPU: 0 PID: 1 at kernel/bpf/verifier.c:1 check+0x1
<0>[    2.0] watchdog: BUG: soft lockup - CPU#0 stuck for 22s!
<1>[    3.0] BUG: kernel NULL pointer dereference, address: 0
`
	got := complaints(log)
	if len(got) != 2 || !strings.Contains(got[0], "verifier.c") || !strings.Contains(got[1], "NULL pointer") {
		t.Errorf("got %q", got)
	}
}

func TestParseCoverage(t *testing.T) {
	got := parseCoverage([]byte(`=== RUN TestX
COVERAGE tcp4 seen fexit errno=0
    x_test.go:3: COVERAGE unspec n/a fexit: not a connect
COVERAGE tcp4 seen fexit errno=0
COVERAGE raw seen fexit
COVERAGE raw failed fexit 2 rows
COVERAGE
`))
	want := []coverage{
		{"tcp4", "seen", "fexit", "errno=0"}, {"unspec", "n/a", "fexit", "not a connect"}, {"raw", "failed", "fexit", "2 rows"},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// What the docs promise is a list of its own: a cell that is lost by mistake is a kernel that nobody tests.
func TestEveryKernelHasItsCells(t *testing.T) {
	var got []string
	for _, c := range cells {
		got = append(got, c.kernel+" "+c.backendName())
	}
	want := []string{
		"amd64-5.10 fexit (auto)", "amd64-5.10 kprobe", "amd64-6.1 fexit", "amd64-6.1 kprobe",
		"amd64-6.12 fexit", "amd64-6.12 kprobe", "amd64-6.12 cgroup", "amd64-6.12 fexit preempt=full",
		"amd64-7.3 fexit", "amd64-7.3 kprobe", "amd64-7.3 cgroup", "arm64-6.1 kprobe (auto)", "arm64-6.12 fexit",
	}
	if !slices.Equal(got, want) {
		t.Errorf("the matrix has %q, want %q", got, want)
	}
}

// A table from a part of the tests or cells would silently lose the rows and columns of the rest.
func TestPartOfTheTableIsRefused(t *testing.T) {
	for _, c := range []struct {
		run  string
		only []string
	}{{run: "^TestCases$"}, {run: "^TestNames$"}, {run: "TestCase("}, {only: []string{"amd64-6.1"}}} {
		file := filepath.Join(t.TempDir(), "coverage.md")
		if status, err := runMatrix(context.Background(), matrixOptions{coverage: file, run: c.run}, c.only); status != 2 || err == nil {
			t.Errorf("-run %q %q: status %d, %v; want it refused", c.run, c.only, status, err)
		}
	}
	if !matchesAll(regexp.MustCompile("^Test(Cases|Names)$"), tableTests) || !matchesAll(regexp.MustCompile(""), tableTests) {
		t.Error("all tests of the table are refused")
	}
}
