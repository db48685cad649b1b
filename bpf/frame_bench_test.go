package bpf

import (
	"os"
	"runtime"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// emptyFrameProgram attaches a program at the queue of devices that does nothing.
func emptyFrameProgram(b *testing.B) func() {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.Tracing, AttachType: ebpf.AttachTraceRawTp, AttachTo: "net_dev_queue", License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	if err != nil {
		b.Fatal(err)
	}
	l, err := link.AttachTracing(link.TracingOptions{Program: p})
	if err != nil {
		b.Fatal(err)
	}
	return func() { l.Close(); p.Close() }
}

// frameProgram attaches the program at the queue of devices alone.
func frameProgram(b *testing.B) func() {
	spec, err := loadConnect()
	if err != nil {
		b.Fatal(err)
	}
	spec.Programs = map[string]*ebpf.ProgramSpec{"frame_queued": spec.Programs["frame_queued"]}
	c, err := ebpf.NewCollection(spec)
	if err != nil {
		b.Fatal(err)
	}
	l, err := link.AttachTracing(link.TracingOptions{Program: c.Programs["frame_queued"]})
	if err != nil {
		b.Fatal(err)
	}
	return func() { l.Close(); c.Close() }
}

// BenchmarkFrames shows what packets pay that are no frames of a packet socket, in CPU of the thread that sends them, and receives them.
//
//	go test ./bpf -run XXX -bench Frames -benchtime 100000x -count 5
func BenchmarkFrames(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("SKIPPED: loading programs takes root")
	}
	if err := allowLockedMemory(); err != nil {
		b.Fatal(err)
	}
	for _, run := range []struct {
		name string
		kind int
		run  func(*testing.B, int)
	}{
		{"datagram", unix.SOCK_DGRAM, benchDatagrams}, {"ping-pong", unix.SOCK_STREAM, benchStream(1)}, {"64 KiB", unix.SOCK_STREAM, benchStream(64 << 10)},
	} {
		for _, v := range []struct {
			name  string
			start func(*testing.B) func()
		}{{"bare", func(*testing.B) func() { return func() {} }}, {"empty", emptyFrameProgram}, {"frames", frameProgram}} {
			b.Run(run.name+"/"+v.name, func(b *testing.B) {
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				stop := v.start(b)
				defer stop()
				receiver, err := unix.Socket(unix.AF_INET, run.kind|unix.SOCK_CLOEXEC, 0)
				if err != nil {
					b.Fatal(err)
				}
				defer unix.Close(receiver)
				if err := unix.Bind(receiver, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
					b.Fatal(err)
				}
				if run.kind == unix.SOCK_STREAM {
					if err := unix.Listen(receiver, 8); err != nil {
						b.Fatal(err)
					}
				}
				run.run(b, receiver)
			})
		}
	}
}

// benchDatagrams sends one byte by a connected socket and receives it.
func benchDatagrams(b *testing.B, receiver int) {
	at, err := unix.Getsockname(receiver)
	if err != nil {
		b.Fatal(err)
	}
	sender, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Close(sender)
	if err := unix.Connect(sender, at); err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 1)
	var each []int64
	for range b.N {
		begin := threadCPU(b)
		if _, err := unix.Write(sender, buf); err != nil {
			b.Fatal(err)
		}
		if _, err := unix.Read(receiver, buf); err != nil {
			b.Fatal(err)
		}
		each = append(each, threadCPU(b)-begin)
	}
	report(b, each)
}
