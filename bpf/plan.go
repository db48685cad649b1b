package bpf

import (
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// A hook is a program and where it is attached.
type hook struct {
	program string
	how     how
	group   string // of a tracepoint
	target  string // symbol or tracepoint
	attach  ebpf.AttachType
	mayFail bool // a kernel without this hook is still of use
}

type how int

const (
	tracing how = iota // fexit and tp_btf: the target is in the program
	kprobe
	kretprobe
	tracepoint
	cgroup
)

// A plan is what a backend attaches.
type plan struct {
	hooks      []hook
	storage    ebpf.ProgramType // of the hooks: whether task storage is allowed depends on it
	returns    []hook           // attached as well when the hooks turn out not to see connect(2) return
	blindSpots []string
}

func processHooks() []hook {
	return []hook{
		{program: "process_fork"},
		{program: "process_exec"},
		{program: "process_exit"},
	}
}

func planFor(b Backend) (plan, error) {
	switch b {
	case Fexit:
		return plan{
			storage: ebpf.Tracing,
			hooks: []hook{
				{program: "fexit_connect"},
				{program: "fexit_return"},
			},
			returns:    []hook{{program: "exit_connect", how: tracepoint, group: "syscalls", target: "sys_exit_connect"}},
			blindSpots: lsmBlindSpots(),
		}, nil
	case Kprobe:
		p := plan{
			storage: ebpf.Kprobe,
			hooks: []hook{
				{program: "exit_connect", how: tracepoint, group: "syscalls", target: "sys_exit_connect"},
				{program: "kretprobe_return", how: kretprobe, target: "__sys_connect_file", mayFail: true},
			},
			blindSpots: append(lsmBlindSpots(), "socket cookies that nobody else has asked for"),
		}
		known, err := kernelHasFunc("security_socket_connect")
		if err != nil {
			return plan{}, err
		}
		if known {
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
			storage: ebpf.CGroupSockAddr,
			hooks: []hook{
				{program: "exit_connect_unseen", how: tracepoint, group: "syscalls", target: "sys_exit_connect"},
				{program: "cgroup_connect4", how: cgroup, attach: ebpf.AttachCGroupInet4Connect},
				{program: "cgroup_connect6", how: cgroup, attach: ebpf.AttachCGroupInet6Connect},
			},
			blindSpots: []string{
				"the verdict of security modules (a refusal shows by its errno)",
				"what connect returned, for io_uring, for 32-bit processes and for MSG_FASTOPEN",
				"through io_uring or from a 32-bit process: AF_UNSPEC, raw, netlink, vsock and other families, a short address, a socket that is connected already",
				"the kernel's copy of those addresses (address_source user: the caller's memory, read when connect returned; the local address too is that of then)",
				"whether seccomp refused such a connect before it was one: it is recorded all the same",
			},
		}
		unix, err := kernelHasEnum("bpf_attach_type", "BPF_CGROUP_UNIX_CONNECT")
		if err != nil {
			return plan{}, err
		}
		if unix {
			p.hooks = append(p.hooks, hook{program: "cgroup_connect_unix", how: cgroup, attach: ebpf.AttachCgroupUnixConnect})
		} else {
			p.blindSpots = append(p.blindSpots, "UNIX sockets through io_uring or from a 32-bit process, and the kernel's copy of a UNIX address (before Linux 6.7)")
		}
		return p, nil
	}
	return plan{}, fmt.Errorf("unknown backend %q", b)
}

// lsmBlindSpots are those of a hook in security_socket_connect.
func lsmBlindSpots() []string {
	return []string{
		"sendto(2) with MSG_FASTOPEN",
		"connects that the kernel makes for itself (network file systems)",
		"how an io_uring connect that had to wait ended, where the kernel does not issue it again (it stays in progress)",
		"a connect whose program the kernel skips because another thread was preempted inside it on that CPU (counted as missed, and lost)",
	}
}

func kernelHasFunc(name string) (bool, error) {
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		return false, fmt.Errorf("read kernel types: %w", err)
	}
	var fn *btf.Func
	return spec.TypeByName(name, &fn) == nil, nil
}

func kernelHasEnum(enum, value string) (bool, error) {
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		return false, fmt.Errorf("read kernel types: %w", err)
	}
	var e *btf.Enum
	if err := spec.TypeByName(enum, &e); err != nil {
		return false, fmt.Errorf("find enum %s: %w", enum, err)
	}
	for _, v := range e.Values {
		if v.Name == value {
			return true, nil
		}
	}
	return false, nil
}
