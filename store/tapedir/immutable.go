package tapedir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// The immutable flag of ext4, xfs, btrfs and others (chattr +i). While a file has it, nobody can write, rename, link or
// unlink the file, not even root, without clearing it first. It is a hurdle and leaves a trace, but is no proof.

const immutableFlag = 0x10 // FS_IMMUTABLE_FL, linux/fs.h

// SetImmutable sets the flag on a file that this process does not have open.
func SetImmutable(path string) error {
	return changeFlags(path, func(flags int) int { return flags | immutableFlag })
}

// ClearImmutable clears the flag. A missing file, flag or support of the file system is no error.
func ClearImmutable(path string) error {
	if !ClosedFile(path) {
		return nil // this process may have it open: opening and closing it here would drop its locks
	}
	err := changeFlags(path, func(flags int) int { return flags &^ immutableFlag })
	if errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func changeFlags(path string, change func(int) int) error {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("read flags: %w", err)
	}
	defer f.Close()
	flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil {
		return fmt.Errorf("read flags: %w", err)
	}
	to := change(flags)
	if to == flags {
		return nil
	}
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, to); err != nil {
		return fmt.Errorf("set flags: %w", err)
	}
	return nil
}
