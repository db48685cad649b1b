package bpf

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// attemptPrograms are those that record an attempt; all others that run for a connection tell what became of it, or who came in.
var sidesPorts atomic.Uint32

var attemptPrograms = []string{
	"fexit_connect", "fexit_return", "fexit_mark", "fexit_mark_again", "lsm_connect", "exit_connect", "kprobe_connect", "kprobe_connect_file",
	"kretprobe_connect", "kretprobe_return", "cgroup_connect4", "exit_connect_unseen", "exit_mark", "exit_mark_again",
}

// BenchmarkSides shows what the programs of each side of a TCP connection take, by the kernel's run statistics: those of connect, and beside
// them all of the client's side and of the server's, with × of connect's. Programs of states run for both sides: what they take where nobody
// accepts is the client's, less half of what they take of connections that are followed on neither side, since each side has as many states.
// The three take turns; each figure is the least of them, since other load only adds.
//
//	go test ./bpf -run XXX -bench Sides -benchtime 20000x
func BenchmarkSides(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("SKIPPED: loading programs takes root")
	}
	stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if err != nil {
		b.Skipf("SKIPPED: %v", err)
	}
	defer stats.Close()
	accept := Events{Accept: true, Listen: true}
	for _, backend := range Backends() {
		for _, reset := range []bool{false, true} {
			name := map[bool]string{false: "closed", true: "reset"}[reset]
			b.Run(fmt.Sprintf("%s/%s", backend, name), func(b *testing.B) {
				if b.N == 1 {
					return // of a few connections there is nothing to say
				}
				const rounds = 5
				each := max(b.N/rounds, 1)
				var both, client, neither map[string]float64
				for range rounds {
					both = least(both, programTimes(b, backend, accept, true, each, reset))
					client = least(client, programTimes(b, backend, Events{Listen: true}, true, each, reset))
					neither = least(neither, programTimes(b, backend, accept, false, each, reset))
				}
				states := func(of map[string]float64) float64 {
					return of["state_changed"] + of["state_changed_again"]
				}
				var connects float64
				for _, name := range attemptPrograms {
					connects += both[name]
				}
				accepts := both["fentry_accept"] + both["kprobe_accept"] + both["exit_accept"]
				clients := states(client) - states(neither)/2
				servers := states(both) - clients + accepts
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(connects, "connect-ns")
				b.ReportMetric(clients, "client-ns")
				b.ReportMetric(servers, "server-ns")
				b.ReportMetric(clients/connects, "client-×")
				b.ReportMetric(servers/connects, "server-×")
				b.ReportMetric(accepts, "accept-ns")
				b.ReportMetric(states(neither), "unfollowed-ns")
			})
		}
	}
}

func least(a, b map[string]float64) map[string]float64 {
	if a == nil {
		return b
	}
	for name, t := range a {
		a[name] = min(t, b[name])
	}
	return a
}

// programTimes returns what each program takes of a connection from connect to close, ns. Unfollowed: without the programs of connect and accept.
func programTimes(b *testing.B, backend Backend, events Events, followed bool, n int, reset bool) map[string]float64 {
	c, err := Open(Options{Backend: backend, Events: events})
	if err != nil {
		b.Skipf("SKIPPED: %v", err)
	}
	defer c.Close()
	stop, done := make(chan struct{}), sync.WaitGroup{}
	done.Go(func() { keepEmpty(c, stop) })
	defer func() { close(stop); done.Wait() }()
	if !followed {
		for _, a := range c.attached {
			if a.hook.program != "state_changed" && a.hook.program != "state_changed_again" {
				_ = a.link.Close()
			}
		}
	}
	listener, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Close(listener)
	if err := unix.Bind(listener, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, byte(1 + sidesPorts.Add(1)%200)}}); err != nil {
		b.Fatal(err)
	}
	if err := unix.Listen(listener, 8); err != nil {
		b.Fatal(err)
	}
	before := runTimes(b, c)
	for range n {
		client, server := pair(b, listener)
		if reset {
			_ = unix.SetsockoptLinger(server, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		}
		unix.Close(server)
		unix.Close(client)
	}
	after := runTimes(b, c)
	for name := range after {
		after[name] = (after[name] - before[name]) / float64(n)
	}
	return after
}

func runTimes(b *testing.B, c *Capture) map[string]float64 {
	times := map[string]float64{}
	for name, p := range c.collection.Programs {
		if !slices.Contains(attemptPrograms, name) && !slices.Contains([]string{"state_changed", "state_changed_again", "fentry_accept", "kprobe_accept", "exit_accept"}, name) {
			continue
		}
		s, err := p.Stats()
		if err != nil {
			b.Fatal(err)
		}
		times[name] = float64(s.Runtime)
	}
	return times
}

// keepEmpty empties the rings until it is stopped.
func keepEmpty(c *Capture, stop chan struct{}) {
	var rec Connect
	var o Outcome
	for {
		select {
		case <-stop:
			return
		case <-time.After(time.Millisecond):
		}
		for ok := true; ok; {
			ok, _ = c.ReadOutcome(&o)
		}
		for ok := true; ok; {
			ok, _ = c.ReadEvent(&rec)
		}
		for ok := true; ok; {
			ok = c.ReadConnect(time.Now(), &rec) == nil
		}
	}
}
