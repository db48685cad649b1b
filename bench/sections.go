package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/conntape/conntape/generate"
)

// A hundred processes fill the ring with a million connects to 5,000 addresses. Ring and queue are larger than by
// default; a full queue would merge attempts into one row.
var (
	pipelineFlood  = flood{processes: 100, connects: 10_000, endpoints: 5000}
	tcpFlood       = flood{processes: 20, connects: 10_000, tcp: true}
	pipelineRing   = 256 << 20
	pipelineBuffer = 1 << 30
)

const pipelineRounds = 3

// pipeline measures the real program, for the times, in turns with a profiled one.
func (b *bench) pipeline() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	f, tcp := pipelineFlood, tcpFlood
	f.cpu, tcp.cpu = workerCPU(), workerCPU()
	profiled := b.rig
	profiled.conntape = self
	var profiles []string
	for i := range pipelineRounds {
		floor, err := measureFloor(b.ctx, &b.rig, f.total())
		if err != nil {
			return err
		}
		b.report.Floors = append(b.report.Floors, floor)
		run, err := measurePipeline(b.ctx, func() (*recording, error) {
			return b.rig.record(b.ctx, "--ring", fmt.Sprint(pipelineRing), "--buffer", fmt.Sprint(pipelineBuffer))
		}, f, false)
		if err != nil {
			return err
		}
		progress("%d of %d: %.2f µs of CPU an event (SQLite alone %.2f), %.0f a second; %s", i+1, pipelineRounds,
			run.perEvent(), micros(floor), run.rate(), run.Words)
		b.report.Pipeline = append(b.report.Pipeline, run)
		profile := filepath.Join(b.profiles, fmt.Sprintf("%d.prof", i))
		profiles = append(profiles, profile)
		_, err = measurePipeline(b.ctx, func() (*recording, error) {
			return profiled.record(b.ctx, "--ring", fmt.Sprint(pipelineRing), "--buffer", fmt.Sprint(pipelineBuffer), "--profile", profile)
		}, f, true)
		if err != nil {
			return err
		}
		if run, err = measurePipeline(b.ctx, func() (*recording, error) { return b.rig.record(b.ctx) }, tcp, false); err != nil {
			return err
		}
		progress("%d of %d: %.2f µs of CPU a TCP connection, %.0f a second; %s", i+1, pipelineRounds, run.perEvent(), run.rate(), run.Words)
		b.report.TCP = append(b.report.TCP, run)
	}
	// For whoever wants to know where a TCP connection's time goes: the table below is of connects.
	if _, err := measurePipeline(b.ctx, func() (*recording, error) {
		return profiled.record(b.ctx, "--profile", filepath.Join(b.profiles, "tcp.prof"))
	}, tcp, true); err != nil {
		return err
	}
	b.report.Shares, err = whereTimeGoes(b.ctx, profiles)
	return err
}

// perEvent is µs of CPU.
func (r pipelineRun) perEvent() float64 { return float64(r.CPU.Microseconds()) / float64(r.Events) }

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

// rate is events a second.
func (r pipelineRun) rate() float64 { return float64(r.Events) / r.Wall.Seconds() }

func (b *bench) disk() (err error) {
	b.report.Disk, err = measureDisk(b.dir, generate.Options{
		Seed: 1, Connections: 1_000_000, Processes: 500, Images: 60, Endpoints: 5000, Begin: uint64(time.Hour), Span: 24 * time.Hour,
	})
	return err
}
