// Command bench measures the budgets of conntape in one run, and writes docs/performance.md:
//
//	make bench                 installs the Debian packages that it needs, then measures everything
//	go run ./bench             everything, as root
//	go run ./bench -only cost  a part, printed to the terminal only: cost, pipeline, disk, store, budget, idle, guests
//	go run ./bench -only budget -cell 2048,400000   one row of the table of budgets
//	go run ./bench -only soak  fills the recorder's caches, then 20 minutes among processes, cgroups, rotations and queries; fails if memory,
//	                           descriptors or goroutines grow, or the tape's account does not balance (-soak 3m: shorter)
//	go run ./bench -results FILE, then -render FILE: writes the report again after a change of its words
//
// Machines are shared and noisy, so each time is measured in turns with the time that it is compared with, in the same
// run. Look at the ratios.
package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/conntape/conntape/bpf"
	"github.com/conntape/conntape/generate"
)

// roles are the program's functions when it runs itself.
func roles() map[string]func([]string) error {
	return map[string]func([]string) error{"worker": runWorker, "burst": runBurst, "record": runRecord, "floor": runFloor, "costs": runCosts}
}

func main() {
	args := os.Args[1:]
	run := runBench
	if len(args) > 0 && roles()[args[0]] != nil {
		run, args = roles()[args[0]], args[1:]
	}
	err := run(args)
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench: error:", err)
		os.Exit(1)
	}
}

func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...) }

var sections = []string{"cost", "pipeline", "disk", "store", "budget", "idle", "guests"}

// alone are the parts that run only when asked for: they judge, and take long.
var alone = []string{"soak"}

func runBench(args []string) error {
	set := flag.NewFlagSet("bench", flag.ContinueOnError)
	only := set.String("only", "", "parts to run, separated by commas: "+strings.Join(slices.Concat(sections, alone), ", "))
	rounds := set.Int("rounds", 7, "rounds of the cost of a connect")
	file := set.String("output", "docs/performance.md", "file to write when everything was measured")
	profiles := set.String("profiles", "", "directory in which to keep the CPU profiles of the pipeline")
	cell := set.String("cell", "", "the only `SIZE,RATE` of budget, in MiB and connections a second: 2048,400000")
	soak := set.Duration("soak", 20*time.Minute, "how long -only soak takes")
	results := set.String("results", "", "JSON `file` to keep the numbers in")
	render := set.String("render", "", "print the report of such a `file`; measure nothing")
	if err := set.Parse(args); err != nil {
		return err
	}
	if *render != "" {
		return renderFile(*render)
	}
	asked := sections
	if *only != "" {
		asked = strings.Split(*only, ",")
	}
	for _, s := range asked {
		if !slices.Contains(sections, s) && !slices.Contains(alone, s) {
			return fmt.Errorf("no part %q: there are %s", s, strings.Join(slices.Concat(sections, alone), ", "))
		}
	}
	if os.Geteuid() != 0 {
		return errors.New("measuring needs root: sudo make bench")
	}
	sizes, rates, err := budgetCells(*cell)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("/var/tmp", "conntape-bench-") // a disk; /tmp may be memory
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{ctx: ctx, dir: dir, rounds: *rounds, profiles: cmp.Or(*profiles, dir), soakFor: *soak, sizes: sizes, rates: rates, report: report{Host: readHost(), Command: "make bench"}}
	if err := b.build(); err != nil {
		return err
	}
	for _, s := range asked {
		progress("%s", s)
		if err := b.run(s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	if *results != "" {
		data, err := json.Marshal(b.report)
		if err != nil {
			return err
		}
		if err := os.WriteFile(*results, data, 0o644); err != nil {
			return err
		}
	}
	var text bytes.Buffer
	if err := b.report.write(&text); err != nil {
		return err
	}
	if *only != "" {
		_, err := os.Stdout.Write(text.Bytes())
		return err
	}
	return os.WriteFile(*file, text.Bytes(), 0o644)
}

func renderFile(file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var r report
	if err := json.Unmarshal(data, &r); err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	return r.write(os.Stdout)
}

// bench is one run.
type bench struct {
	ctx    context.Context
	dir    string // temporary files
	rounds int
	rig    rig
	report report

	profiles string // directory
	soakFor  time.Duration
	sizes    []int64 // of budget
	rates    []int
}

// build builds conntape and finds out its backend here.
func (b *bench) build() error {
	binary := filepath.Join(b.dir, "conntape")
	cmd := exec.CommandContext(b.ctx, "make", "-s", "build", "OUT="+binary)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build conntape: %w", err)
	}
	capture, err := bpf.Open(bpf.Options{})
	if err != nil {
		return fmt.Errorf("start capture: %w", err)
	}
	b.rig = rig{conntape: binary, backend: capture.Backend(), dir: b.dir, cpu: 0}
	b.report.Backend = string(b.rig.backend)
	return capture.Close()
}

func (b *bench) run(section string) (err error) {
	switch section {
	case "cost":
		b.report.Costs, err = measureCosts(b.ctx, &b.rig, b.rounds, 100, workerCPU())
	case "pipeline":
		err = b.pipeline()
	case "disk":
		err = b.disk()
	case "store":
		b.report.Store, err = measureStore(b.dir, generate.Options{
			Seed: 2, Connections: 8_000_000, Processes: 500, Images: 60, Endpoints: 5000, Begin: uint64(time.Hour), Span: 24 * time.Hour,
		})
	case "budget":
		err = b.budget()
	case "idle":
		b.report.Idle, err = measureIdle(b.ctx, &b.rig, 30*time.Second)
	case "soak":
		if b.report.Soak, err = b.soak(b.soakFor); err != nil && b.report.Soak.For > 0 { // what grew is of interest then
			err = errors.Join(err, b.report.write(os.Stdout))
		}
	case "guests":
		err = b.guests()
	}
	return err
}

// workerCPU differs from the rig's processor if there are two.
func workerCPU() int { return min(1, cpus()-1) }

// runCosts measures only the costs and prints them. It is the program of a guest.
func runCosts(args []string) error {
	set := flag.NewFlagSet("costs", flag.ContinueOnError)
	binary := set.String("conntape", "/bin/conntape", "program to measure")
	backend := set.String("backend", "", "which")
	rounds := set.Int("rounds", 3, "rounds")
	scale := set.Int("scale", 10, "percent of the calls")
	if err := set.Parse(args); err != nil {
		return err
	}
	r := &rig{conntape: *binary, backend: bpf.Backend(*backend), dir: "/tmp", cpu: 0}
	c, err := measureCosts(context.Background(), r, *rounds, *scale, workerCPU())
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(c)
}
