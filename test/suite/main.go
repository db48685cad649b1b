// Command suite runs the checks of make test in turn, all of them even after a failure, and then prints the numbers of
// passed, failed and skipped tests.
//
//	go run ./test/suite [-only unit,fuzz] [-list]
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/conntape/conntape/test/tally"
)

// A step is one line of the summary. Its tests are counted; a step without tests, such as gofmt, counts as one.
type step struct {
	name string
	what string
	run  func(context.Context) (tally.Tally, error)
}

var steps = []step{
	{"gofmt", "every file is formatted", check(gofmt)},
	{"modules", "go.mod and go.sum list what is imported, and no more", check(modules)},
	{"vet", "go vet", check(vet)},
	{"staticcheck", "staticcheck, the version in test/tools.mod", check(staticcheck)},
	{"generate", "the committed BPF objects match their source", check(generated)},
	{"build", "a static binary for each architecture, without clang", check(builds)},
	{"unit", "the tests of every package but test/capture", unit},
	{"duckdb", "the questions of docs/fleet.md, asked in DuckDB", duckdb},
	{"fuzz", "every fuzz target for three thousand inputs, slow ones for one thousand", fuzz},
	{"native", "the capture tests on the kernel that runs now", native},
	{"matrix", "the capture tests on every kernel and backend", matrix},
}

func main() {
	only := flag.String("only", "", "the `steps` to run, separated by commas")
	list := flag.Bool("list", false, "list the steps")
	flag.Parse()
	if *list {
		for _, s := range steps {
			fmt.Printf("%-12s %s\n", s.name, s.what)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if !run(ctx, *only) {
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, only string) bool {
	var total tally.Tally
	var summary strings.Builder
	begin := time.Now()
	for _, s := range steps {
		if only != "" && !slices.Contains(strings.Split(only, ","), s.name) {
			fmt.Fprintf(&summary, "%-12s not run: -only %s\n", s.name, only)
			continue
		}
		fmt.Printf("== %s: %s\n", s.name, s.what)
		start := time.Now()
		count, err := s.run(ctx)
		if err != nil {
			fmt.Printf("--- FAIL: %s: %v\n", s.name, err)
			if count.Failed == 0 {
				count.Failed = 1
				count.Faults = []string{fmt.Sprintf("%s: %v", s.name, err)}
			}
		}
		total.Add(count)
		fmt.Fprintf(&summary, "%-12s %v, %.0f s\n", s.name, count, time.Since(start).Seconds())
	}
	if slowest := total.Slowest(20); slowest != "" {
		fmt.Printf("\nThe longest tests, in seconds: %s\n", slowest)
	}
	total.WriteFaults(os.Stdout)
	fmt.Printf("\n%s%-12s %.0f s\n\n%v\n", summary.String(), "all", time.Since(begin).Seconds(), total)
	return total.Failed == 0 && total.Passed > 0
}

// check makes a step of a function that fails or does not.
func check(f func(context.Context) error) func(context.Context) (tally.Tally, error) {
	return func(ctx context.Context) (tally.Tally, error) {
		if err := f(ctx); err != nil {
			return tally.Tally{}, err
		}
		return tally.Tally{Passed: 1}, nil
	}
}
