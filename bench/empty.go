package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"

	"github.com/conntape/conntape/bpf"
)

// kretprobeInstances is the recorder's number of kretprobe instances.
const kretprobeInstances = 4096

// startEmpty attaches empty programs to the backend's hooks for one IPv4 connect(2), its socket's states, a UDP datagram without connect and what a
// socket receives: the least cost of any recorder on these hooks.
func startEmpty(b bpf.Backend) (stop func() error, err error) {
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, err
	}
	var closers []func() error
	stop = func() error {
		var errs []error
		for _, c := range closers {
			errs = append(errs, c())
		}
		return errors.Join(errs...)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, stop())
		}
	}()
	add := func(spec ebpf.ProgramSpec, result int32, attach func(*ebpf.Program) (link.Link, error)) {
		if err != nil {
			return
		}
		spec.License = "Dual MIT/GPL"
		spec.Instructions = asm.Instructions{asm.Mov.Imm(asm.R0, result), asm.Return()}
		var p *ebpf.Program
		if p, err = ebpf.NewProgram(&spec); err != nil {
			err = fmt.Errorf("load empty program: %w", err)
			return
		}
		closers = append(closers, p.Close)
		var l link.Link
		if l, err = attach(p); err != nil {
			err = fmt.Errorf("attach empty program: %w", err)
			return
		}
		closers = append(closers, l.Close)
	}
	exitConnect := func() {
		add(ebpf.ProgramSpec{Type: ebpf.TracePoint}, 0, func(p *ebpf.Program) (link.Link, error) {
			return link.Tracepoint("syscalls", "sys_exit_connect", p, nil)
		})
	}
	add(ebpf.ProgramSpec{Type: ebpf.Tracing, AttachType: ebpf.AttachTraceRawTp, AttachTo: "inet_sock_set_state"}, 0, func(p *ebpf.Program) (link.Link, error) {
		return link.AttachTracing(link.TracingOptions{Program: p})
	})
	onCgroup := func(kind ebpf.ProgramType, at ebpf.AttachType) {
		add(ebpf.ProgramSpec{Type: kind, AttachType: at}, 1, func(p *ebpf.Program) (link.Link, error) {
			root, err := cgroup2()
			if err != nil {
				return nil, err
			}
			return link.AttachCgroup(link.CgroupOptions{Path: root, Attach: at, Program: p})
		})
	}
	onCgroup(ebpf.CGroupSockAddr, ebpf.AttachCGroupUDP4Sendmsg)
	onCgroup(ebpf.CGroupSKB, ebpf.AttachCGroupInetIngress)
	switch b {
	case bpf.Fexit:
		for _, symbol := range []string{"security_socket_connect", "__sys_connect_file"} {
			spec := ebpf.ProgramSpec{Type: ebpf.Tracing, AttachType: ebpf.AttachTraceFExit, AttachTo: symbol}
			add(spec, 0, func(p *ebpf.Program) (link.Link, error) {
				return link.AttachTracing(link.TracingOptions{Program: p})
			})
		}
	case bpf.Kprobe:
		exitConnect()
		for _, symbol := range []string{"__sys_connect_file", "security_socket_connect"} {
			add(ebpf.ProgramSpec{Type: ebpf.Kprobe}, 0, func(p *ebpf.Program) (link.Link, error) {
				o := &link.KprobeOptions{RetprobeMaxActive: kretprobeInstances, TraceFSPrefix: "empty"}
				return link.Kretprobe(symbol, p, o)
			})
		}
		add(ebpf.ProgramSpec{Type: ebpf.Kprobe}, 0, func(p *ebpf.Program) (link.Link, error) {
			return link.Kprobe("security_socket_connect", p, nil)
		})
	case bpf.Cgroup:
		exitConnect()
		onCgroup(ebpf.CGroupSockAddr, ebpf.AttachCGroupInet4Connect)
	}
	return stop, err
}

// cgroup2 returns the mount point of cgroup v2.
func cgroup2() (string, error) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 2 && f[2] == "cgroup2" {
			return f[1], nil
		}
	}
	return "", errors.New("cgroup v2 is not mounted")
}

// attachedHooks counts the BPF links of this machine that a connect may run.
func attachedHooks() (int, error) {
	n := 0
	var it link.Iterator
	defer it.Close()
	for it.Next() {
		info, err := it.Link.Info()
		if err != nil {
			continue // gone meanwhile
		}
		switch info.Type {
		case link.CgroupType:
			switch ebpf.AttachType(info.Cgroup().AttachType) {
			case ebpf.AttachCGroupInet4Connect, ebpf.AttachCGroupInet6Connect, ebpf.AttachCgroupUnixConnect,
				ebpf.AttachCGroupUDP4Sendmsg, ebpf.AttachCGroupUDP6Sendmsg:
				n++
			}
		case link.TracingType, link.PerfEventType, link.KprobeMultiType:
			n++
		}
	}
	return n, it.Err()
}
