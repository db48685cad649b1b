package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/conntape/conntape/test/tally"
)

// defaultModules make sockets that a kernel does not have by itself: AF_VSOCK and SCTP on the loopback, and devices that
// swallow packets, so that a connect stays in progress, or lose some of them, and have the kernel connect for itself (NVMe over TCP).
const defaultModules = "vsock_loopback,dummy,veth,sctp,overlay,tun,sch_netem,nvme_tcp"

// A matrixCell is one kernel with one backend. With auto, conntape chooses, and must choose this backend. boot is added
// to the kernel's command line. With run, only tests that match it run there.
type matrixCell struct {
	kernel, backend string
	auto            bool
	boot            string
	run             string
}

var cells = []matrixCell{
	{kernel: "amd64-5.10", backend: "fexit", auto: true}, {kernel: "amd64-5.10", backend: "kprobe"},
	{kernel: "amd64-6.1", backend: "fexit"}, {kernel: "amd64-6.1", backend: "kprobe"},
	{kernel: "amd64-6.12", backend: "fexit"}, {kernel: "amd64-6.12", backend: "kprobe"}, {kernel: "amd64-6.12", backend: "cgroup"},
	// Where kernel code is preemptible, programs may be skipped (bpf/attempt.h). 7.3 always is.
	{kernel: "amd64-6.12", backend: "fexit", boot: "preempt=full", run: "^Test(Cases|Names|ShortLived|Blocked5000|InFlightAtStop|Floods?|MillionRefused|Rewrite)$"},
	{kernel: "amd64-7.3", backend: "fexit"}, {kernel: "amd64-7.3", backend: "kprobe"}, {kernel: "amd64-7.3", backend: "cgroup"},
	// On arm64 before 6.4, fexit loads and does not attach: conntape must find that out by itself.
	{kernel: "arm64-6.1", backend: "kprobe", auto: true}, {kernel: "arm64-6.12", backend: "fexit"},
}

func (c matrixCell) backendName() string {
	switch {
	case c.auto:
		return c.backend + " (auto)"
	case c.boot != "":
		return c.backend + " " + c.boot
	}
	return c.backend
}

// onlyNative matches tests that do not depend on the kernel: locks, signals, files. They restart the recorder often,
// which takes seconds under emulation, so they only run natively.
const onlyNative = "^Test(HostileReaders|Kill9|SecondRecorder|Signals|SignalAtStart|StderrGone|Sends|Clients|ReusedPorts)$"

// behindRing matches tests of what becomes of events in the rings and behind them, where a backend has no part any more: natively and in
// one cell is enough.
const (
	behindRing = "^Test(Floods|Syslog|StolenRing|StolenDescriptions|Excluded|NoPayload|Wakes|Service|LossyBytes|Resolved|RecorderSendsNothing)$"
	onlyKernel = "amd64-6.12"
)

// anyBackend matches tests that depend on the kernel, and hardly on the backend, since late names, iterators of sockets and processes, and the
// watch over the recorder itself are the same programs everywhere: each kernel's first cell is enough. TestNames is not among them, since
// docs/coverage.md has a row for each cell. These are of fexit and, on arm64
// before 6.4, of kprobe; natively it is cgroup.
const anyBackend = "^Test(Doctor|ScriptBehindAnotherTracer|Container|Touched|OpenConnections|AlreadyRunning|NamesAfterRestart|LateHello|FloodOfAnswers|FloodOfHellos)$"

// eachBackend matches tests of how a backend is attached, kept over a restart, silenced, and waited for, which take a third of a cell's time. Each
// backend has them on the oldest kernel and on two newer ones (arm64 has one kernel for each), so that between lies little. What systemd does
// to the service is tried on that kernel (TestServiceUnderSystemd).
const (
	eachBackend = "^Test(RestartLosesNothing|HooksSilenced|Blocked5000|Flood|MillionRefused|InFlightAtStop)$"
	between     = "amd64-6.1"
)

// skipped matches the tests that do not run in a cell.
func (c matrixCell) skipped() string {
	skip := onlyNative
	if c.run == "" && !c.runsBehindRing() {
		skip += "|" + behindRing
	}
	if !c.isFirst() {
		skip += "|" + anyBackend
	}
	if c.kernel == between {
		skip += "|" + eachBackend
	}
	return skip
}

// isFirst tells the first cell of a kernel.
func (c matrixCell) isFirst() bool {
	return cells[slices.IndexFunc(cells, func(o matrixCell) bool { return o.kernel == c.kernel })] == c
}

// runsBehindRing tells the cell that tests of behindRing run in.
func (c matrixCell) runsBehindRing() bool { return c.kernel == onlyKernel && c.isFirst() }

const (
	parallel    = 4                // guests at a time: each of them waits 60% of its time
	cellTimeout = 45 * time.Minute // on a busy machine; 4 to 8 on a quiet one
)

// An outcome is the result of a cell.
type outcome struct {
	matrixCell
	tally.Tally
	result *result // nil when the guest did not get to its end
	err    error
	report []byte // what go test prints
	seen   []coverage
	took   time.Duration
}

func (o *outcome) ok() bool { return o.err == nil && o.Failed == 0 && o.Passed > 0 }

// tableTests are the tests that print the lines of the coverage table in guests.
var tableTests = []string{"TestCases", "TestNames"}

// runMatrix runs the capture tests in every cell whose name, such as amd64-6.1/fexit, contains one of only. It fails if
// one guest does not boot or one test fails.
func runMatrix(ctx context.Context, o matrixOptions, only []string) (int, error) {
	pattern, err := regexp.Compile(o.run)
	if err != nil {
		return 2, fmt.Errorf("-run: %w", err)
	}
	if o.coverage != "" && (len(only) > 0 || !matchesAll(pattern, tableTests)) {
		return 2, fmt.Errorf("-coverage writes the whole table: it needs every cell, and a -run that matches %s, or none", strings.Join(tableTests, " and "))
	}
	chosen := slices.DeleteFunc(slices.Clone(cells), func(c matrixCell) bool {
		return len(only) > 0 && !slices.ContainsFunc(only, func(s string) bool { return strings.Contains(c.kernel+"/"+c.backendName(), s) })
	})
	if len(chosen) == 0 {
		return 2, fmt.Errorf("no cell of the matrix is named like %s", strings.Join(only, " "))
	}
	var names []string
	for _, c := range chosen {
		if !slices.Contains(names, c.kernel) {
			names = append(names, c.kernel)
		}
	}
	kernels, err := fetchKernels(ctx, names...)
	if err != nil {
		return 1, err
	}
	byName := map[string]kernel{}
	payloads := map[string][]guestFile{}
	for _, k := range kernels {
		byName[k.name] = k
		if payloads[k.arch] == nil {
			if payloads[k.arch], err = buildPayload(ctx, k.arch); err != nil {
				return 1, err
			}
		}
	}

	outcomes := make([]*outcome, len(chosen))
	var wait sync.WaitGroup
	var print sync.Mutex
	slots := make(chan struct{}, parallel)
	for i, c := range slices.Backward(chosen) { // the slowest, arm64, are last there, and must not be left alone at the end
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			k := byName[c.kernel]
			outcomes[i] = runCell(ctx, c, k, payloads[k.arch], o)
			print.Lock()
			defer print.Unlock()
			outcomes[i].print(os.Stdout)
		})
	}
	wait.Wait()

	printTable(os.Stdout, outcomes)
	var total tally.Tally
	failed := false
	for _, out := range outcomes {
		total.Add(out.Tally)
		failed = failed || !out.ok()
	}
	fmt.Printf("The longest tests, in seconds of all guests together: %s\n", total.Slowest(20))
	total.WriteFaults(os.Stdout)
	fmt.Println()
	if o.coverage != "" {
		if err := writeCoverage(o.coverage, outcomes); err != nil {
			return 1, err
		}
	}
	if o.tally != "" {
		text, err := json.Marshal(total)
		if err == nil {
			err = os.WriteFile(o.tally, text, 0o644)
		}
		if err != nil {
			return 1, err
		}
	}
	if failed {
		return 1, errors.New("the kernel matrix failed")
	}
	return 0, nil
}

func matchesAll(pattern *regexp.Regexp, names []string) bool {
	return !slices.ContainsFunc(names, func(name string) bool { return !pattern.MatchString(name) })
}

type matrixOptions struct {
	coverage string // file for the coverage table, in Markdown
	tally    string // JSON file for the counts
	run      string // only tests that match
}

// buildPayload compiles what a guest runs: the capture tests, conntape, and the workload.
func buildPayload(ctx context.Context, arch string) ([]guestFile, error) {
	dir := filepath.Join(cacheDir(), "payload", arch)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	const module = "github.com/conntape/conntape/"
	capture, binary := filepath.Join(dir, "capture.test"), filepath.Join(dir, "conntape")
	if err := goTool(ctx, arch, "test", "-c", "-o", capture, module+"test/capture"); err != nil {
		return nil, err
	}
	if err := goTool(ctx, arch, "build", "-trimpath", "-o", binary, module+"cmd/conntape"); err != nil {
		return nil, err
	}
	root, err := moduleRoot(ctx)
	if err != nil {
		return nil, err
	}
	bin := filepath.Join(dir, "bin")
	workload := filepath.Join(bin, "connects-"+arch)
	compile := exec.CommandContext(ctx, "make", "-s", "-C", filepath.Join(root, "test/connects"), "OUT="+bin, workload)
	if text, err := compile.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("compile test/connects: %w\n%s", err, text)
	}
	return []guestFile{
		{capture, "/bin/capture.test"}, {binary, "/bin/conntape"}, {workload, "/bin/connects"},
	}, nil
}

func runCell(ctx context.Context, c matrixCell, k kernel, payload []guestFile, o matrixOptions) *outcome {
	out := &outcome{matrixCell: c}
	start := time.Now()
	var output bytes.Buffer
	run := o.run
	if o.run == "" && c.run != "" {
		run = c.run
	}
	g := guest{
		kernel: k, append: c.boot, files: payload, cpus: 2, memory: 1536, timeout: cellTimeout, output: &output,
		modules: strings.Split(defaultModules, ","),
		// Emulation is some twenty times slower, and there are many cells: fewer rounds in the tests of load.
		env: []string{"CONNTAPE_BIN=/bin/conntape", "CONNECTS_BIN=/bin/connects", "CONNTAPE_SCALE=0.02", "IN_GUEST=1"},
		args: []string{"capture.test", "-test.v=test2json", "-test.run=" + run, "-test.skip=" + c.skipped(),
			"-test.timeout=" + (cellTimeout - 30*time.Second).String()},
	}
	if long := os.Getenv("CONNTAPE_TEST_LONG"); long != "" {
		g.env = append(g.env, "CONNTAPE_TEST_LONG="+long)
	}
	if !c.auto {
		g.env = append(g.env, "CONNTAPE_BACKEND="+c.backend)
	}
	if c.runsBehindRing() {
		if out.err = g.addResolved(ctx); out.err != nil {
			out.failGuest()
			return out
		}
	}
	out.result, out.err = g.run(ctx)
	out.took = time.Since(start)
	var report bytes.Buffer
	convert := exec.CommandContext(ctx, "go", "tool", "test2json", "-t", "-p", "guest/"+c.kernel+"/"+c.backend)
	convert.Stdin = bytes.NewReader(output.Bytes())
	events, err := convert.Output()
	if err == nil {
		out.Tally, err = tally.Read(bytes.NewReader(events), &report)
	}
	out.report = report.Bytes()
	out.seen = parseCoverage(output.Bytes())
	switch {
	case out.err == nil && err != nil:
		out.err = err
	case out.err == nil && out.result.Exit != 0 && out.Failed == 0:
		out.err = fmt.Errorf("exit status %d: %s", out.result.Exit, cmp.Or(out.result.Error, "no test failed"))
	case out.err == nil && len(complaints(out.result.kernelLog)) > 0:
		out.err = fmt.Errorf("the kernel complains: %s", strings.Join(complaints(out.result.kernelLog), "; "))
	case out.err == nil && out.Passed+out.Failed == 0:
		out.err = errors.New("no test ran")
	}
	for _, s := range out.seen {
		if out.err == nil && s.verdict == "seen" && s.backend != c.backend {
			out.err = fmt.Errorf("%s was recorded by backend %q, not %s", s.name, s.backend, c.backend)
		}
	}
	if out.err != nil {
		out.failGuest()
	}
	return out
}

// failGuest counts the guest itself as failed, beside its tests.
func (o *outcome) failGuest() {
	o.Failed++
	o.Faults = append(o.Faults, fmt.Sprintf("guest %s/%s: %v", o.kernel, o.backend, o.err))
}

func (o *outcome) print(w io.Writer) {
	fmt.Fprintf(w, "== guest %s, backend %s\n", o.kernel, o.backendName())
	for line := range strings.Lines(string(o.report)) {
		// What was seen is for the table; what went wrong is said by the test.
		if !strings.HasPrefix(line, "COVERAGE ") {
			io.WriteString(w, line)
		}
	}
	if o.err != nil {
		fmt.Fprintf(w, "--- FAIL: guest %s/%s: %v\n", o.kernel, o.backend, o.err)
	}
}

func printTable(w io.Writer, outcomes []*outcome) {
	fmt.Fprintf(w, "\n%-12s %-28s %-18s %-6s %6s %6s %7s  %s\n", "kernel", "release", "backend", "", "passed", "failed", "skipped", "boot / all")
	for _, o := range outcomes {
		verdict, release, boot := "ok", "", "-"
		if !o.ok() {
			verdict = "FAILED"
		}
		if o.result != nil {
			release, boot = o.result.release, fmt.Sprintf("%.1f s", o.result.Uptime)
		}
		fmt.Fprintf(w, "%-12s %-28s %-18s %-6s %6d %6d %7d  %s / %.0f s\n", o.kernel, release, o.backendName(), verdict,
			o.Passed, o.Failed, o.Skipped, boot, o.took.Seconds())
	}
	fmt.Fprintf(w, "Run natively alone, for they do not depend on the kernel: %s\nRun natively and in the first cell of %s: %s\nRun natively and in each kernel's first cell: %s\nRun natively and on every kernel but %s: %s\n",
		onlyNative, onlyKernel, behindRing, anyBackend, between, eachBackend)
	for _, o := range outcomes {
		if o.run != "" {
			fmt.Fprintf(w, "Run on %s, %s: %s\n", o.kernel, o.backendName(), o.run)
		}
	}
	fmt.Fprintln(w)
}
