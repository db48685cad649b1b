package bpf

import (
	"errors"
	"io/fs"
	"os"

	"github.com/cilium/ebpf/btf"
)

// tunLayout is where a file of /dev/net/tun has its device: offsets in bytes, in struct tun_file and struct tun_struct.
type tunLayout struct{ tun, flags, device uint32 }

// tunLayout returns false if the kernel does not tell. Without the module tun there is no device, and so nothing to be known: all is 0.
func (k *kernel) tunLayout() (l tunLayout, known bool) {
	types := k.types
	var file, device *btf.Struct
	if types.TypeByName("tun_file", &file) != nil {
		var err error
		if types, err = k.cache.Module("tun"); err != nil {
			return l, errors.Is(err, fs.ErrNotExist) && !isModule("tun")
		}
		if types.TypeByName("tun_file", &file) != nil {
			return l, false
		}
	}
	if types.TypeByName("tun_struct", &device) != nil {
		return l, false
	}
	sock, begins := offsetOf(file, "sk")
	l.tun, known = offsetOf(file, "tun")
	flags, hasFlags := offsetOf(device, "flags")
	dev, hasDevice := offsetOf(device, "dev")
	if !begins || sock != 0 || !known || !hasFlags || !hasDevice {
		return tunLayout{}, false
	}
	l.flags, l.device = flags, dev
	return l, true
}

// offsetOf returns where a struct has a member, in bytes.
func offsetOf(s *btf.Struct, member string) (uint32, bool) {
	for _, m := range s.Members {
		if m.Name == member {
			return m.Offset.Bytes(), true
		}
	}
	return 0, false
}

// isModule reports whether the kernel has loaded a module.
func isModule(name string) bool {
	_, err := os.Stat("/sys/module/" + name)
	return err == nil
}
