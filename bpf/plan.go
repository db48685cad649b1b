package bpf

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/cilium/ebpf"
)

// A hook is a program and where it is attached.
type hook struct {
	program string
	how     how
	group   string // of a tracepoint
	target  string // symbol or tracepoint
	attach  ebpf.AttachType
	mayFail bool   // a kernel without this hook is still of use
	unseen  string // what nobody sees then
	unless  string // another program: if that is attached this is not; otherwise unseen is what this does not see
}

type how int

const (
	tracing how = iota // fexit and tp_btf: the target is in the program
	lsm                // likewise
	kprobe
	kretprobe
	tracepoint
	cgroup
)

// A plan is what a backend attaches.
type plan struct {
	hooks      []hook // in the order in which they are attached
	storage    bool   // attempts in flight are in task storage
	inRow      bool   // the programs at the return come in a row of several
	afterLSM   bool   // lsm_connect runs before fexit_connect
	classic    bool   // exec, fork and exit are programs of classic tracepoints
	returns    []hook // attached as well when the hooks turn out not to see connect(2) return
	blindSpots []string
}

// processHooks are those of exec, fork and exit.
func processHooks(classic bool) []hook {
	if !classic {
		return []hook{
			{program: "process_fork"},
			{program: "process_exec"},
			{program: "process_exit"},
		}
	}
	return []hook{
		{program: "process_fork_classic", how: tracepoint, group: "sched", target: "sched_process_fork"},
		{program: "process_fork_again"},
		{program: "process_exec_prepare"},
		{program: "process_exec_classic", how: tracepoint, group: "sched", target: "sched_process_exec"},
		{program: "process_exec_again"},
		{program: "process_exit_classic", how: tracepoint, group: "sched", target: "sched_process_exit"},
	}
}

// outcomeHooks are those of what becomes of a connection: of TCP a second program where the kernel may leave one out, since
// another thread is preempted inside it.
func outcomeHooks(k *kernel) []hook {
	hooks := []hook{{program: "state_changed"}}
	if k.version >= 5<<16|14<<8 { // the tracepoint came with it (e6a3e4434000)
		hooks = append(hooks, hook{program: "socket_error"})
	}
	if k.version >= 7<<16 && mayPreempt() {
		hooks = append(hooks, hook{program: "state_changed_again"})
	}
	return hooks
}

// mayBeClassic tells whether programs of classic tracepoints can do all that ours have to.
func mayBeClassic(k *kernel) bool {
	return k.version >= 6<<16|12<<8 && k.hasFunc("bpf_task_from_pid")
}

func planFor(b Backend, k *kernel) (plan, error) {
	switch b {
	case Fexit:
		p := plan{
			storage:    mayUseTaskStorage(ebpf.Tracing),
			hooks:      []hook{{program: "fexit_connect"}, {program: "fexit_return"}},
			returns:    []hook{{program: "exit_connect", how: tracepoint, group: "syscalls", target: "sys_exit_connect"}},
			blindSpots: lsmBlindSpots(),
		}
		if k.version < 5<<16|12<<8 || !p.storage || !mayPreempt() { // before that, programs of trampolines were not preemptible
			return p, nil
		}
		p.inRow = true
		// A trampoline runs first what was attached last.
		p.hooks = append(p.hooks, hook{program: "fexit_mark_again"}, hook{program: "fexit_mark"})
		if p.afterLSM = k.hasFunc("bpf_lsm_socket_connect"); p.afterLSM {
			p.hooks = append(p.hooks, hook{program: "lsm_connect", how: lsm})
		} else {
			p.blindSpots = append(p.blindSpots, "until it returns, a connect whose program the kernel left out because another thread was preempted inside it (the kernel has no CONFIG_BPF_LSM)")
		}
		return p, nil
	case Kprobe:
		if !hasKprobes() {
			return plan{}, errors.New("this kernel has no kprobes (CONFIG_KPROBE_EVENTS)")
		}
		p := plan{
			storage: mayUseTaskStorage(ebpf.Kprobe),
			hooks: []hook{
				{program: "exit_connect", how: tracepoint, group: "syscalls", target: "sys_exit_connect"},
				{program: "kretprobe_return", how: kretprobe, target: "__sys_connect_file", mayFail: true},
			},
			blindSpots: append(lsmBlindSpots(), "socket cookies that nobody else has asked for"),
		}
		if k.hasFunc("security_socket_connect") {
			p.hooks = append(p.hooks,
				hook{program: "kretprobe_connect", how: kretprobe, target: "security_socket_connect"},
				hook{program: "kprobe_connect", how: kprobe, target: "security_socket_connect"})
		} else {
			p.hooks = append(p.hooks, hook{program: "kprobe_connect_file", how: kprobe, target: "__sys_connect_file"})
			p.blindSpots = append(p.blindSpots, "the verdict of security modules (the kernel has no CONFIG_SECURITY_NETWORK)")
		}
		return p, nil
	case Cgroup:
		p := plan{
			storage: mayUseTaskStorage(ebpf.CGroupSockAddr),
			hooks: []hook{
				{program: "exit_connect_unseen", how: tracepoint, group: "syscalls", target: "sys_exit_connect"},
				{program: "cgroup_connect4", how: cgroup, attach: ebpf.AttachCGroupInet4Connect},
				{program: "cgroup_connect6", how: cgroup, attach: ebpf.AttachCGroupInet6Connect},
			},
			blindSpots: []string{
				"the verdict of security modules (a refusal shows by its errno)",
				"through io_uring or socketcall: the address that the caller asked for, where another cgroup program sent a connect elsewhere before",
				"where a program of the root that runs later sends such a connect, or one that fails at once",
				"the name of a UNIX socket that the caller asked for, where another cgroup program sent a connect elsewhere before",
				"what connect returned, for io_uring, for 32-bit processes and for MSG_FASTOPEN",
				"through io_uring or from a 32-bit process: AF_UNSPEC, raw, netlink, vsock and other families, a short address, a socket that is connected already",
				"the kernel's copy of those addresses (address_source user: the caller's memory, read when connect returned; the local address too is that of then)",
				"whether seccomp refused such a connect before it was one: it is recorded all the same",
				"of what is done to the recorder: who opens its memory in /proc, takes its files with pidfd_getfd, or traces it from a 32-bit process for less than a few seconds",
			},
		}
		if p.inRow = p.storage && k.hasFunc("trace_call_bpf_faultable"); p.inRow { // a tracepoint runs first what was attached first
			p.hooks = append([]hook{
				{program: "exit_mark", how: tracepoint, group: "syscalls", target: "sys_exit_connect"},
				{program: "exit_mark_again", how: tracepoint, group: "syscalls", target: "sys_exit_connect"},
			}, p.hooks...)
		}
		if k.hasValue("bpf_attach_type", "BPF_CGROUP_UNIX_CONNECT") {
			p.hooks = append(p.hooks, hook{program: "cgroup_connect_unix", how: cgroup, attach: ebpf.AttachCgroupUnixConnect})
		} else {
			p.blindSpots = append(p.blindSpots, "UNIX sockets through io_uring or from a 32-bit process, and the kernel's copy of a UNIX address (before Linux 6.7)")
		}
		return p, nil
	}
	return plan{}, fmt.Errorf("unknown backend %q", b)
}

// hasKprobes tells whether there is a way to make a kprobe: by a perf event (e12f03d7031a, 4.17), or through tracefs. Where there is
// none, no program needs to be loaded to find out.
func hasKprobes() bool {
	return slices.ContainsFunc([]string{
		"/sys/bus/event_source/devices/kprobe", "/sys/kernel/tracing/kprobe_events", "/sys/kernel/debug/tracing/kprobe_events",
	}, func(path string) bool {
		_, err := os.Stat(path)
		return err == nil
	})
}

// lsmBlindSpots are those of a hook in security_socket_connect.
func lsmBlindSpots() []string {
	return []string{
		"where a connect to a UNIX socket went that a cgroup program sent elsewhere",
		"connects that the kernel makes for itself (network file systems) and MSG_FASTOPEN: what they returned, the address that was asked for where a cgroup program sent them elsewhere, those that fail before a SYN is sent, and the kernel's own by other protocols than TCP",
		"how an io_uring connect that had to wait ended, where the kernel does not issue it again and the socket is not TCP",
	}
}

// first returns the program that tells whether an attempt may have been seen by nobody, and whether that program is at
// the return: there the first of a row, whose misses the others make up for, or where there is no row the only one.
func (p plan) first() (program string, atReturn bool) {
	for _, candidate := range []struct {
		program  string
		atReturn bool
	}{
		{"fexit_mark", true}, {"fexit_connect", false}, {"kprobe_connect", false}, {"kprobe_connect_file", false},
		{"exit_mark", true}, {"exit_connect_unseen", true},
	} {
		if slices.ContainsFunc(p.hooks, func(h hook) bool { return h.program == candidate.program }) {
			return candidate.program, candidate.atReturn
		}
	}
	return "", false
}

// mayPreempt tells whether kernel code may be preempted outside of interrupts, which nobody need have decided for good:
// without debugfs, where the kernel tells (sched_dynamic_show, kernel/sched/debug.c), it may.
func mayPreempt() bool {
	mode, err := os.ReadFile("/sys/kernel/debug/sched/preempt") // such as "none (voluntary) full lazy"
	return err != nil || !bytes.Contains(mode, []byte("(none)")) && !bytes.Contains(mode, []byte("(voluntary)"))
}
