package bpf

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// A Touch is what somebody did to this process: of several of a kind since the last look, the last.
type Touch struct {
	Count  uint64 // of the kind, since the last look
	Last   uint64 // when, ns CLOCK_BOOTTIME
	Tgid   uint32 // who, in the initial pid namespace
	UID    uint32
	Comm   string      // raw
	Signal unix.Signal // that was sent; 0: our memory was opened, or a tracer wanted to attach
	Kernel bool        // the kernel sent the signal by itself, for a terminal or for lack of memory
}

// touchSize is that of struct touch in record.h, in bytes.
const touchSize = 48

// The values of enum touch_kind.
const (
	touchSignal = iota
	touchMemory
	touchKinds
)

// touchHooks see what is done to the recorder. Without them it records all the same.
func touchHooks(b Backend, k *kernel) []hook {
	hooks := []hook{{program: "touch_signal", mayFail: true}}
	if b == Cgroup {
		return append(hooks,
			hook{program: "exit_ptrace", how: tracepoint, group: "syscalls", target: "sys_exit_ptrace", mayFail: true},
			hook{program: "exit_process_vm", how: tracepoint, group: "syscalls", target: "sys_exit_process_vm_readv", mayFail: true},
			hook{program: "exit_process_vm", how: tracepoint, group: "syscalls", target: "sys_exit_process_vm_writev", mayFail: true})
	}
	if !k.hasFunc("security_ptrace_access_check") {
		return hooks
	}
	switch b {
	case Fexit:
		hooks = append(hooks, hook{program: "touch_memory", mayFail: true})
	case Kprobe:
		hooks = append(hooks, hook{program: "touch_memory_kprobe", how: kprobe, target: "security_ptrace_access_check", mayFail: true})
	}
	return hooks
}

// decode reads a struct touch.
func (t *Touch) decode(b []byte) {
	n := binary.NativeEndian
	*t = Touch{Count: n.Uint64(b[0:]), Last: n.Uint64(b[8:]), Tgid: n.Uint32(b[16:]), UID: n.Uint32(b[20:]), Kernel: n.Uint32(b[28:]) != 0, Comm: cString(b[32:48])}
}

// Touched returns what was done to this process since it was last called, from [Capture.Snapshot] on. Which hooks see that
// depends on the backend: a signal each, a tracer or an open memory those with trampolines or kprobes; cgroup sees ptrace(2),
// process_vm_readv(2) and process_vm_writev(2) that succeeded.
func (c *Capture) Touched() ([]Touch, error) {
	var raw [touchKinds * touchSize]byte
	if err := c.collection.Variables["touches"].Get(&raw); err != nil {
		return nil, fmt.Errorf("read touches: %w", err)
	}
	var news []Touch
	for kind := range touchKinds {
		var t Touch
		t.decode(raw[kind*touchSize:])
		if kind == touchSignal {
			t.Signal = unix.Signal(binary.NativeEndian.Uint32(raw[kind*touchSize+24:]))
		}
		before := c.touched[kind]
		c.touched[kind] = t.Count
		if t.Count -= before; t.Count > 0 {
			news = append(news, t)
		}
	}
	return news, nil
}
