package bpf

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/features"
)

// A kernel is the running kernel while Open chooses programs and loads them. Its types are decoded once, which takes a tenth of a
// second, and go with it when Open ends: they take some 20 MB.
type kernel struct {
	version uint32 // as KERNEL_VERSION makes it
	types   *btf.Spec
	cache   *btf.Cache // of the same types, for those who load programs
}

// runningKernel describes the kernel, which must have what every backend needs. The error may wrap ErrKernel or ErrPrivilege.
func runningKernel() (*kernel, error) {
	if err := features.HaveMapType(ebpf.RingBuf); errors.Is(err, ebpf.ErrNotSupported) {
		return nil, fmt.Errorf("%w: it has no BPF ring buffer, which came with Linux 5.8", ErrKernel)
	} else if errors.Is(err, os.ErrPermission) {
		return nil, fmt.Errorf("%w: %w", ErrPrivilege, err)
	}
	cache := btf.NewCache()
	types, err := cache.Kernel()
	if err != nil {
		return nil, fmt.Errorf("%w: it does not publish its types in /sys/kernel/btf/vmlinux (CONFIG_DEBUG_INFO_BTF): %w", ErrKernel, err)
	}
	version, err := features.LinuxVersionCode()
	if err != nil {
		return nil, fmt.Errorf("read kernel version: %w", err)
	}
	return &kernel{version, types, cache}, nil
}

// hasFunc reports whether the kernel has a function under this name. One that the compiler put into all its callers is none.
func (k *kernel) hasFunc(name string) bool {
	var fn *btf.Func
	return k.types.TypeByName(name, &fn) == nil
}

// hasValue reports whether an enumeration of the kernel has a value.
func (k *kernel) hasValue(enum, value string) bool {
	var e *btf.Enum
	if k.types.TypeByName(enum, &e) != nil {
		return false
	}
	return slices.ContainsFunc(e.Values, func(v btf.EnumValue) bool { return v.Name == value })
}
