package bpf

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// emptyProgram attaches a program to the root cgroup that does nothing.
func emptyProgram(kind ebpf.ProgramType, at ebpf.AttachType) func(*testing.B) func() {
	return func(b *testing.B) func() {
		p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: kind, AttachType: at, License: "MIT", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()}})
		if err != nil {
			b.Skipf("SKIPPED: %v", err)
		}
		root, err := openCgroupRoot()
		if err != nil {
			b.Skipf("SKIPPED: %v", err)
		}
		defer root.close()
		l, err := link.AttachCgroup(link.CgroupOptions{Path: root.path, Attach: at, Program: p})
		if err != nil {
			b.Fatal(err)
		}
		return func() { l.Close(); p.Close() }
	}
}

func capturing(e Events) func(*testing.B) func() {
	return func(b *testing.B) func() {
		c, err := Open(Options{Events: e})
		if err != nil {
			b.Skipf("SKIPPED: %v", err)
		}
		return func() { c.Close() }
	}
}

// BenchmarkHello shows what looking at first bytes costs, in CPU of the thread that has both ends: by callbacks of single sockets, as
// this package does, and what nobody would pay less than by a program on each packet. The variants take turns.
//
//	go test ./bpf -run XXX -bench Hello -benchtime 20000x -count 3
func BenchmarkHello(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("SKIPPED: loading programs takes root")
	}
	if err := allowLockedMemory(); err != nil {
		b.Fatal(err)
	}
	for _, v := range []struct {
		name  string
		start func(*testing.B) func()
	}{
		{"bare", func(*testing.B) func() { return func() {} }},
		{"empty sockops", emptyProgram(ebpf.SockOps, ebpf.AttachCGroupSockOps)},
		{"empty egress", emptyProgram(ebpf.CGroupSKB, ebpf.AttachCGroupInetEgress)},
		{"conntape", capturing(Events{})},
		{"conntape with names", capturing(Events{TLS: true, HTTP: true})},
	} {
		for name, run := range map[string]func(*testing.B, int){"connection": benchConnections, "ping-pong": benchStream(1), "64 KiB": benchStream(64 << 10)} {
			b.Run(name+"/"+v.name, func(b *testing.B) {
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				stop := v.start(b)
				defer stop()
				listener, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
				if err != nil {
					b.Fatal(err)
				}
				defer unix.Close(listener)
				if err := unix.Bind(listener, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
					b.Fatal(err)
				}
				if err := unix.Listen(listener, 8); err != nil {
					b.Fatal(err)
				}
				run(b, listener)
			})
		}
	}
}

func threadCPU(b *testing.B) int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		b.Fatal(err)
	}
	return t.Nano()
}

func pair(b *testing.B, listener int) (client, server int) {
	at, err := unix.Getsockname(listener)
	if err != nil {
		b.Fatal(err)
	}
	if client, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
		b.Fatal(err)
	}
	if err = unix.Connect(client, at); err != nil {
		b.Fatal(err)
	}
	if server, _, err = unix.Accept4(listener, unix.SOCK_CLOEXEC); err != nil {
		b.Fatal(err)
	}
	return client, server
}

// benchConnections connects, says a ClientHello and reads it, and resets.
func benchConnections(b *testing.B, listener int) {
	hello, buf := helloOf(500), make([]byte, 1024)
	var each []int64
	for range b.N {
		begin := threadCPU(b)
		client, server := pair(b, listener)
		_, _ = unix.Write(client, hello)
		_, _ = unix.Read(server, buf)
		_ = unix.SetsockoptLinger(client, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		unix.Close(client)
		unix.Close(server)
		each = append(each, threadCPU(b)-begin)
	}
	report(b, each)
}

// benchStream writes so many bytes on a connection that is used already, and reads them; small ones come back.
func benchStream(size int) func(*testing.B, int) {
	return func(b *testing.B, listener int) {
		client, server := pair(b, listener)
		defer unix.Close(client)
		defer unix.Close(server)
		buf := make([]byte, size)
		pass := func(from, to int) {
			if _, err := unix.Write(from, buf); err != nil {
				b.Fatal(err)
			}
			for n := 0; n < size; {
				got, err := unix.Read(to, buf)
				if err != nil {
					b.Fatal(fmt.Errorf("read: %w", err))
				}
				n += got
			}
		}
		pass(client, server)
		pass(server, client)
		var each []int64
		for range b.N {
			begin := threadCPU(b)
			pass(client, server)
			if size == 1 {
				pass(server, client)
			}
			each = append(each, threadCPU(b)-begin)
		}
		report(b, each)
	}
}

// report reports the median: what else the machine does only adds.
func report(b *testing.B, each []int64) {
	slices.Sort(each)
	b.ReportMetric(float64(each[len(each)/2]), "cpu-ns/op")
	b.ReportMetric(0, "ns/op")
}
