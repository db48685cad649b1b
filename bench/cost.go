package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// costs are the samples of each round, by variant and measure. Rounds go A B C A B C, so that other load on the machine
// affects all variants alike.
type costs struct {
	Names   []string                       // of the variants, in the order of measuring
	Samples map[string][]map[string]sample // by variant, round and measure
	Notes   map[string][]string            // by variant and round: its own count of recorded and lost events
	Skipped map[string]string              // by variant: the reason
	Shared  bool                           // other programs were attached to the hooks all the time
}

// measureCosts runs the worker under each variant in turn.
func measureCosts(ctx context.Context, r *rig, rounds, scale, cpu int) (*costs, error) {
	list, skipped := r.variants()
	c := &costs{Samples: map[string][]map[string]sample{}, Notes: map[string][]string{}, Skipped: skipped}
	for _, v := range list {
		c.Names = append(c.Names, v.name)
	}
	for round := range rounds {
		for _, v := range list {
			samples, note, err := c.measureAlone(ctx, v, scale, cpu)
			if err != nil {
				return nil, fmt.Errorf("round %d, %s: %w", round+1, v.name, err)
			}
			c.Samples[v.name] = append(c.Samples[v.name], samples)
			c.Notes[v.name] = append(c.Notes[v.name], note)
			progress("round %d of %d: %-15s connect %6.0f ns, flood %6.0f, getppid %4.0f  %s", round+1, rounds, v.name,
				samples[connectPaced].Median, samples[connectFlood].Median, samples[callGetppid].Median, note)
		}
	}
	return c, nil
}

// measureAlone repeats a measurement if another program attached to the hooks during it.
func (c *costs) measureAlone(ctx context.Context, v variant, scale, cpu int) (map[string]sample, string, error) {
	for range 5 {
		if err := c.waitForQuiet(ctx); err != nil {
			return nil, "", err
		}
		stop, err := v.start(ctx)
		if err != nil {
			return nil, "", err
		}
		samples, alone, workErr := workAlone(ctx, "-scale", strconv.Itoa(scale), "-cpu", strconv.Itoa(cpu))
		beside, still, frameErr := v.workBesidePacketSocket(ctx, "-scale", strconv.Itoa(scale), "-cpu", strconv.Itoa(cpu), "-frames")
		note, stopErr := stop()
		if err := errors.Join(workErr, frameErr, stopErr); err != nil {
			return nil, "", err
		}
		if alone && still {
			maps.Copy(samples, beside)
			return samples, note, nil
		}
		progress("%s: once more, other programs were attached meanwhile", v.name)
	}
	return nil, "", errors.New("other programs come and go on the hooks")
}

// waitForQuiet waits, for a limited time, until no other program is attached to the hooks.
func (c *costs) waitForQuiet(ctx context.Context) error {
	for end := time.Now().Add(2 * time.Minute); !c.Shared; {
		n, err := attachedHooks()
		if err != nil || n == 0 {
			return err
		}
		if time.Now().After(end) {
			progress("WARNING: %d programs of others are on the hooks: bare is not bare", n)
			c.Shared = true
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(500 * time.Millisecond):
		}
	}
	return nil
}

// workAlone runs a worker. Not alone: other programs were attached meanwhile.
func workAlone(ctx context.Context, args ...string) (samples map[string]sample, alone bool, err error) {
	before, err := attachedHooks()
	if err != nil {
		return nil, false, err
	}
	if samples, err = runWorkerProcess(ctx, args...); err != nil {
		return nil, false, err
	}
	after, err := attachedHooks()
	return samples, before == after, err
}

// workBesidePacketSocket runs a worker while this process has a packet socket open, for which a recorder may attach a program.
func (v variant) workBesidePacketSocket(ctx context.Context, args ...string) (samples map[string]sample, alone bool, err error) {
	fd, err := openPacketSocket()
	if err != nil {
		return nil, false, err
	}
	defer unix.Close(fd)
	if v.frames != nil {
		stop, startErr := v.frames()
		if startErr != nil {
			return nil, false, startErr
		}
		defer func() { err = errors.Join(err, stop()) }()
	}
	time.Sleep(time.Second) // the recorder is woken
	return workAlone(ctx, args...)
}

func runWorkerProcess(ctx context.Context, args ...string) (map[string]sample, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, self, append([]string{"worker"}, args...)...)
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("worker: %w", err)
	}
	var samples map[string]sample
	return samples, json.Unmarshal(out.Bytes(), &samples)
}

// call is the undisturbed cost of a call: the least of the rounds' medians, because other load only adds.
func (c *costs) call(variant, measure string) float64 {
	best := c.Samples[variant][0][measure].Median
	for _, round := range c.Samples[variant] {
		best = min(best, round[measure].Median)
	}
	return best
}

// usual is the median of the rounds' medians. It is for the flood, where a recorder that loses events is fast.
func (c *costs) usual(variant, measure string) float64 {
	var all []float64
	for _, round := range c.Samples[variant] {
		all = append(all, round[measure].Median)
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// added is what the variant adds to a call.
func (c *costs) added(variant, measure string) float64 {
	return c.call(variant, measure) - c.call(bare, measure)
}

// ratio is the cost of a call as a multiple of bare.
func (c *costs) ratio(variant, measure string) float64 {
	return c.call(variant, measure) / c.call(bare, measure)
}

// least is the fastest batch of calls in any round.
func (c *costs) least(variant, measure string) float64 {
	least := c.Samples[variant][0][measure].Min
	for _, round := range c.Samples[variant] {
		least = min(least, round[measure].Min)
	}
	return least
}

var lostNumber = regexp.MustCompile(`([\d,]+) (?:records )?lost`)

// lost sums up the losses that a variant reports.
func (c *costs) lost(variant string) string {
	sum, said := 0, false
	for _, note := range c.Notes[variant] {
		if m := lostNumber.FindStringSubmatch(note); m != nil {
			n, err := strconv.Atoi(strings.ReplaceAll(m[1], ",", ""))
			said = err == nil
			sum += n
		}
	}
	if !said {
		return "–"
	}
	return thousands(float64(sum))
}
