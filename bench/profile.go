package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"runtime/metrics"
	"runtime/pprof"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/conntape/conntape/bpf"
	"github.com/conntape/conntape/recorder"
	"github.com/conntape/conntape/store/retain"
)

// runRecord is conntape record with a CPU profile from one SIGUSR1 to the next, or with the number of its goroutines and its live heap in a file.
func runRecord(args []string) error {
	set := flag.NewFlagSet("record", flag.ContinueOnError)
	dir := set.String("dir", "", "tape")
	backend := set.String("backend", "", "of the capture")
	profile := set.String("profile", "", "file to write")
	ring := set.Uint("ring", 0, "bytes of the kernel's ring")
	maxSize := set.Int64("max-size", 0, "of the tape, bytes")
	goroutines := set.String("goroutines", "", "file for their number, and for the live heap")
	buffer := set.Int64("buffer", 0, "bytes of rows that may wait")
	if err := set.Parse(args); err != nil {
		return err
	}
	options := recorder.Options{
		Dir: *dir, Backend: bpf.Backend(*backend), RingBytes: uint32(*ring), Buffer: *buffer, Status: os.Stderr, Limits: retain.Limits{MaxBytes: *maxSize},
		Events: recorder.Events{Events: bpf.Events{Accept: true, Sends: true, Sockets: true, Options: true, Names: true}}, // the defaults of --events and --names
	}
	if *goroutines != "" {
		return recordCounted(options, *goroutines)
	}
	out, err := os.Create(*profile)
	if err != nil {
		return err
	}
	defer out.Close()
	begin, written := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(begin, syscall.SIGUSR1)
	go func() {
		<-begin
		if err := pprof.StartCPUProfile(out); err != nil {
			progress("no profile: %v", err)
		}
		<-begin
		pprof.StopCPUProfile()
		close(written)
	}()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err = recorder.Run(ctx, options)
	<-written
	return err
}

// recordCounted records, and writes the number of goroutines and the live heap to a file each second, and a profile of the heap beside it.
func recordCounted(o recorder.Options, file string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	go churn(ctx, time.Second, func() error {
		is := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
		metrics.Read(is)
		return os.WriteFile(file, fmt.Appendln(nil, runtime.NumGoroutine(), is[0].Value.Uint64(), is[1].Value.Uint64()-is[2].Value.Uint64()), 0o600)
	})
	go churn(ctx, 10*time.Second, func() error {
		var profile bytes.Buffer
		return errors.Join(pprof.WriteHeapProfile(&profile), os.WriteFile(file+".heap", profile.Bytes(), 0o600))
	})
	return recorder.Run(ctx, o)
}

// A share is a part of the recorder's CPU time.
type share struct {
	What string
	Part float64 // fraction
}

// parts name the work of a stack. The innermost function of the stack that is listed here names the sample.
var parts = []struct{ function, what string }{
	{"runtime.gcBgMarkWorker", "garbage collection"},
	{"runtime.gcAssistAlloc", "garbage collection"},
	{"runtime.bgsweep", "garbage collection"},
	{"bpf.(*Connect).decode", "decode"},
	{"bpf.(*Capture).ReadConnect", "read the ring"},
	{"recorder.(*resolver).resolve", "resolve: task, endpoint, shape"},
	{"recorder.(*queue)", "queue"},
	{"recorder.(*recorder).drainProcesses", "process records"},
	{"store.(*interner).resolve", "intern: number what repeats, write what is new"},
	{"store.bindRow", "insert: bind"},
	{"store.(*rowWriter).insert", "insert: SQLite"},
	{"store.(*rowWriter)", "insert: order of time"},
	{"store.(*segment).checkpoint", "checkpoint of the WAL"},
	{"store.(*segment).inTransaction", "commit: write the WAL, fsync"},
	{"recorder.", "the rest of the recorder"},
}

// whereTimeGoes sums up CPU profiles.
func whereTimeGoes(ctx context.Context, profiles []string) ([]share, error) {
	args := append([]string{"tool", "pprof", "-traces"}, profiles...)
	cmd := exec.CommandContext(ctx, "go", args...)
	text, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("read profile: %w", err)
	}
	return sumTraces(string(text))
}

// sumTraces reads the output of pprof -traces: stacks from the innermost function outwards, separated by a line of
// dashes, each with its time beside the first function.
func sumTraces(text string) ([]share, error) {
	sums := map[string]time.Duration{}
	var all time.Duration
	for _, block := range strings.Split(text, "-----------+")[1:] {
		_, stack, _ := strings.Cut(block, "\n")
		first := strings.Fields(stack)
		if len(first) < 2 {
			continue
		}
		took, err := time.ParseDuration(first[0])
		if err != nil {
			return nil, fmt.Errorf("read profile: %w", err)
		}
		sums[partOf(stack)] += took
		all += took
	}
	var shares []share
	for what, took := range sums {
		shares = append(shares, share{what, float64(took) / float64(all)})
	}
	slices.SortFunc(shares, func(a, b share) int { return cmp.Or(cmp.Compare(b.Part, a.Part), cmp.Compare(a.What, b.What)) })
	return shares, nil
}

func partOf(stack string) string {
	for function := range strings.Lines(stack) {
		for _, p := range parts {
			if strings.Contains(function, p.function) {
				return p.what
			}
		}
	}
	return "Go runtime: scheduling, timers"
}
