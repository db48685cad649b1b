package tapedir

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/trusted"
)

// remoteFileSystems are refused, by their magic numbers of statfs(2). Their locks are not seen by other hosts or are
// lost with the connection, and their fsync may do nothing.
var remoteFileSystems = map[int64]string{
	unix.NFS_SUPER_MAGIC: "NFS", unix.SMB_SUPER_MAGIC: "SMB", unix.CIFS_SUPER_MAGIC: "SMB", unix.SMB2_SUPER_MAGIC: "SMB",
	unix.AFS_SUPER_MAGIC: "AFS", unix.AFS_FS_MAGIC: "AFS", unix.CODA_SUPER_MAGIC: "Coda", unix.NCP_SUPER_MAGIC: "NCP",
	unix.CEPH_SUPER_MAGIC: "Ceph", unix.OCFS2_SUPER_MAGIC: "OCFS2",
	0x0bd00bd0: "Lustre", 0x47504653: "GPFS", 0x786f4256: "VirtualBox shared folders", 0xbacbacbc: "VMware shared folders",
}

// CheckFileSystem refuses a directory where locks or fsync cannot be relied on.
func CheckFileSystem(dir string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return &failure.Error{Op: "look at file system", Path: dir, Err: err}
	}
	const hint = "put the tape on a disk of this host, and copy sealed segments from there"
	if name := RemoteFileSystem(int64(st.Type)); name != "" {
		return &failure.Error{Op: "open tape", Path: dir, Hint: hint,
			Err: fmt.Errorf("it is on %s, where locks and fsync cannot be relied on", name)}
	}
	if st.Flags&unix.ST_RDONLY != 0 {
		return &failure.Error{Op: "open tape", Path: dir, Err: unix.EROFS, Hint: "the file system is mounted read-only"}
	}
	if err := checkLocks(dir); err != nil {
		return &failure.Error{Op: "open tape", Path: dir, Hint: hint, Err: fmt.Errorf("locks do not work here: %w", err)}
	}
	return nil
}

// RemoteFileSystem returns the name of a refused file system by its magic number, "" for a suitable one.
func RemoteFileSystem(magic int64) string { return remoteFileSystems[magic&0xffffffff] }

// checkLocks tests with a temporary file that locks exclude each other. Open-file-description locks conflict even within
// one process.
func checkLocks(dir string) error {
	f, err := os.CreateTemp(dir, ".locks-")
	if err != nil {
		return nil // taking the tape's lock reports it better
	}
	defer f.Close()
	other, err := os.OpenFile(f.Name(), os.O_RDWR|unix.O_NOFOLLOW, 0)
	os.Remove(f.Name())
	if err != nil {
		return nil
	}
	defer other.Close()
	lock := unix.Flock_t{Type: unix.F_WRLCK, Start: LockBytesStart, Len: LockBytesLen}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lock); err != nil {
		return err
	}
	lock = unix.Flock_t{Type: unix.F_WRLCK, Start: LockBytesStart, Len: LockBytesLen}
	if err := unix.FcntlFlock(other.Fd(), unix.F_OFD_GETLK, &lock); err != nil {
		return err
	}
	if lock.Type == unix.F_UNLCK {
		return errors.New("one who holds a lock is not seen by another")
	}
	return nil
}

// CheckTapeDir refuses a directory in which somebody else could add or swap files: a link, a directory of another user,
// or one that others may write to. It checks the files that the writer opens by name, too.
func CheckTapeDir(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return &failure.Error{Op: "open tape", Path: dir, Err: failure.Bare(err)}
	}
	if info.Mode()&os.ModeSymlink != 0 {
		// A link is followed if nobody else could have made it.
		if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 && int(st.Uid) != os.Geteuid() {
			return &failure.Error{Op: "open tape", Path: dir, Err: fmt.Errorf("it is a link of user %d", st.Uid), Hint: "name the directory itself with --dir"}
		}
		if dir, err = filepath.EvalSymlinks(dir); err != nil {
			return &failure.Error{Op: "open tape", Path: dir, Err: failure.Bare(err)}
		}
	}
	if err := trusted.Check(filepath.Dir(dir)); err != nil {
		return &failure.Error{Op: "open tape", Path: dir, Err: fmt.Errorf("somebody else could put another tape in its place: %w", err),
			Hint: "record below directories that only root can write to, such as /var/lib/conntape"}
	}
	if err := CheckOwn(dir, 0o002); err != nil {
		return &failure.Error{Op: "open tape", Path: dir, Err: failure.Bare(err), Hint: "somebody else could swap its files: chown it to who records, and chmod 0750"}
	}
	return nil
}
