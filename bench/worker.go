package main

import (
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A sample is the duration of one kind of call in one process, in ns a call.
type sample struct {
	Calls            int
	Min, Median, P90 float64
}

// A measure is one kind of call, timed in batches. A batch is long compared with the clock's resolution, and short
// compared with the time slices of a busy machine, so that the median is an undisturbed batch.
type measure struct {
	name    string
	batch   int           // calls between two readings of the clock
	batches int           // at most
	group   int           // batches between two pauses, 0: no pauses
	pause   time.Duration // lets the recorder catch up
	call    func()
	failed  func() error // returns the first unexpected result of a call; nil: none is possible
}

// connectPause is the pause between groups of paced connects.
const connectPause = 10 * time.Millisecond

// worstTime limits a measure that the recording program slows down.
const worstTime = 1500 * time.Millisecond

// runWorker makes the calls in this process, with its main thread pinned, and prints the samples. Each run needs a new
// process because the kernel decides at fork whether audit inspects a process.
func runWorker(args []string) error {
	set := flag.NewFlagSet("worker", flag.ContinueOnError)
	cpu := set.Int("cpu", 0, "processor to run on")
	scale := set.Int("scale", 100, "percent of the calls")
	frames := set.Bool("frames", false, "what is measured while a packet socket is open")
	if err := set.Parse(args); err != nil {
		return err
	}
	debug.SetGCPercent(-1)
	runtime.LockOSThread()
	if err := pin(*cpu); err != nil {
		return err
	}
	kind := newMeasures
	if *frames {
		kind = frameMeasures
	}
	measures, err := kind()
	if err != nil {
		return err
	}
	samples := map[string]sample{}
	for _, m := range measures {
		m.batches = max(50, m.batches**scale/100)
		samples[m.name] = m.run()
		if m.failed != nil {
			if err := m.failed(); err != nil {
				return fmt.Errorf("%s: %w", m.name, err)
			}
		}
	}
	return json.NewEncoder(os.Stdout).Encode(samples)
}

// pin binds the calling thread, and what it starts, to a processor.
func pin(cpu int) error {
	var only unix.CPUSet
	only.Set(cpu)
	if err := unix.SchedSetaffinity(0, &only); err != nil {
		return fmt.Errorf("run on processor %d: %w", cpu, err)
	}
	return nil
}

// Names of the measures except TCP. No recorder records the calls of the last three.
const (
	connectPaced = "connect, paced"
	connectFlood = "connect, flood"
	callGetppid  = "getppid"
	callRead     = "read of /dev/zero"
	callNop      = "io_uring NOP"
)

func newMeasures() ([]measure, error) {
	connect, err := connectCall()
	if err != nil {
		return nil, err
	}
	zero, err := unix.Open("/dev/zero", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/zero: %w", err)
	}
	buf := make([]byte, 1)
	measures := []measure{
		{name: connectPaced, batch: 32, batches: 640, group: 8, pause: connectPause, call: connect},
		{name: connectFlood, batch: 32, batches: 6000, call: connect},
		{name: callGetppid, batch: 64, batches: 2000, call: func() { syscall.RawSyscall(unix.SYS_GETPPID, 0, 0, 0) }},
		{name: callRead, batch: 64, batches: 2000, call: func() {
			syscall.RawSyscall(unix.SYS_READ, uintptr(zero), address(buf), 1)
		}},
	}
	tcp, err := tcpMeasures()
	if err != nil {
		return nil, err
	}
	sends, err := sendMeasures()
	if err != nil {
		return nil, err
	}
	traffic, err := trafficMeasures(pingPong, send64K)
	if err != nil {
		return nil, err
	}
	measures = slices.Concat(measures, tcp, sends, socketMeasures(), traffic)
	switch nop, err := newNop(); err {
	case nil:
		measures = append(measures, measure{name: callNop, batch: 64, batches: 2000, call: nop})
	case unix.ENOSYS, unix.EPERM: // switched off
	default:
		return nil, fmt.Errorf("set up io_uring: %w", err)
	}
	return measures, nil
}

// connectCall returns a connect of a UDP socket to the loopback's discard port. It sets the peer and sends nothing.
func connectCall() (func(), error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make a socket: %w", err)
	}
	peer := sockaddr([4]byte{127, 0, 0, 1}, 9)
	call := func() { syscall.RawSyscall(unix.SYS_CONNECT, uintptr(fd), address(peer), uintptr(len(peer))) }
	if _, _, errno := syscall.RawSyscall(unix.SYS_CONNECT, uintptr(fd), address(peer), uintptr(len(peer))); errno != 0 {
		return nil, fmt.Errorf("connect to the loopback: %w", errno)
	}
	return call, nil
}

func (m measure) run() sample {
	took := make([]float64, 0, m.batches)
	for range 4 { // warm up
		m.timeBatch()
	}
	end := time.Now().Add(worstTime)
	for n := 0; n < m.batches && time.Now().Before(end); n++ {
		if m.group > 0 && n%m.group == 0 {
			time.Sleep(m.pause)
			m.timeBatch() // the first batch after a sleep has cold caches
		}
		took = append(took, m.timeBatch())
	}
	slices.SortFunc(took, cmp.Compare)
	return sample{
		Calls:  len(took) * m.batch,
		Min:    took[0],
		Median: took[len(took)/2],
		P90:    took[len(took)*9/10],
	}
}

// timeBatch returns ns a call.
func (m measure) timeBatch() float64 {
	begin := time.Now()
	for range m.batch {
		m.call()
	}
	return float64(time.Since(begin)) / float64(m.batch)
}
