package recorder

import (
	"bytes"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/store"
)

// describeHost fills in what a segment says of where it was recorded. Only the boot id is needed: without it keys of
// processes mean nothing.
func describeHost(o *store.WriterOptions) error {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return fmt.Errorf("read boot id: %w", err)
	}
	o.BootID = string(bytes.TrimSpace(boot))
	if id, err := os.ReadFile("/etc/machine-id"); err == nil {
		o.MachineID = string(bytes.TrimSpace(id))
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return fmt.Errorf("read kernel release: %w", err)
	}
	o.Kernel, o.Host = unix.ByteSliceToString(u.Release[:]), unix.ByteSliceToString(u.Nodename[:])
	return nil
}
