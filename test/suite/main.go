// Command suite runs the checks of make test, all of them even after a failure, and then prints the numbers of passed,
// failed and skipped tests. The guests wait 40% of their time: what does not mind their company runs beside them.
//
//	go run ./test/suite [-only unit,fuzz] [-list]
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/conntape/conntape/test/tally"
)

// A step is one line of the summary. Its tests are counted; a step without tests, such as gofmt, counts as one.
type step struct {
	name   string
	what   string
	run    func(context.Context, io.Writer) (tally.Tally, error)
	beside bool // it runs while the step before those that are beside it does, after the others beside that
}

var steps = []step{
	{"gofmt", "every file is formatted", check(gofmt), false},
	{"modules", "go.mod and go.sum list what is imported, and no more", check(modules), false},
	{"vet", "go vet", check(vet), false},
	{"staticcheck", "staticcheck, the version in test/tools.mod", check(staticcheck), false},
	{"generate", "the committed BPF objects match their source", check(generated), false},
	{"build", "a static binary for each architecture, without clang", check(builds), false},
	{"native", "the capture tests on the kernel that runs now", native, false},
	{"matrix", "the capture tests on every kernel and backend", matrix, false},
	{"unit", "the tests of every package but test/capture", unit, true},
	{"fuzz", "every fuzz target for three thousand inputs, slow ones for one thousand", fuzz, true},
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
	chosen := steps
	if only != "" {
		chosen = nil
		for _, s := range steps {
			if slices.Contains(strings.Split(only, ","), s.name) {
				chosen = append(chosen, s)
				continue
			}
			fmt.Fprintf(&summary, "%-12s not run: -only %s\n", s.name, only)
		}
	}
	for len(chosen) > 0 {
		n := 1
		for n < len(chosen) && chosen[n].beside {
			n++
		}
		for _, r := range runTogether(ctx, chosen[:n]) {
			total.Add(r.count)
			fmt.Fprintf(&summary, "%-12s %v, %.0f s\n", r.name, r.count, r.took.Seconds())
		}
		chosen = chosen[n:]
	}
	if slowest := total.Slowest(20); slowest != "" {
		fmt.Printf("\nThe longest tests, in seconds: %s\n", slowest)
	}
	fmt.Printf("\n%s%-12s %.0f s\n\n%v\n", summary.String(), "all", time.Since(begin).Seconds(), total)
	return total.Failed == 0 && total.Passed > 0
}

// A result is what became of a step.
type result struct {
	step
	count tally.Tally
	took  time.Duration
}

// runTogether runs the first step, and the others one after another beside it. What they print comes after what it does.
func runTogether(ctx context.Context, together []step) []result {
	results := make([]result, len(together))
	var others bytes.Buffer
	var wait sync.WaitGroup
	wait.Go(func() {
		for i, s := range together[1:] {
			results[1+i] = s.finish(ctx, &others)
		}
	})
	results[0] = together[0].finish(ctx, os.Stdout)
	wait.Wait()
	_, _ = others.WriteTo(os.Stdout)
	return results
}

// finish runs a step to its end.
func (s step) finish(ctx context.Context, w io.Writer) result {
	fmt.Fprintf(w, "== %s: %s\n", s.name, s.what)
	start := time.Now()
	count, err := s.run(ctx, w)
	if err != nil {
		fmt.Fprintf(w, "--- FAIL: %s: %v\n", s.name, err)
		if count.Failed == 0 {
			count.Failed = 1
		}
	}
	return result{s, count, time.Since(start)}
}

// check makes a step of a function that fails or does not.
func check(f func(context.Context, io.Writer) error) func(context.Context, io.Writer) (tally.Tally, error) {
	return func(ctx context.Context, w io.Writer) (tally.Tally, error) {
		if err := f(ctx, w); err != nil {
			return tally.Tally{}, err
		}
		return tally.Tally{Passed: 1}, nil
	}
}
