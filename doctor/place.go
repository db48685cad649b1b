package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/store/retain"
	"github.com/conntape/conntape/store/tapedir"
	"github.com/conntape/conntape/store/trusted"
)

// readers is the group whose members may read a tape.
const readers = "conntape"

// place is the tape's directory, which need not exist yet.
type place struct {
	dir    string
	limits retain.Limits
}

func (p place) directory() Finding {
	if err := trusted.Check(filepath.Dir(p.dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return problem("directory", "put the tape below directories that only root can write to, such as /var/lib", "somebody else could put another tape in place of %s: %v", p.dir, err)
	}
	info, err := os.Stat(p.dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fine("directory", "%s is not there yet; record makes it", p.dir)
	case err != nil:
		return problem("directory", "look as root, or as a member of the group "+readers, "%v", err)
	case !info.IsDir():
		return problem("directory", "name a directory with --dir", "%s is a file", p.dir)
	case info.Mode().Perm()&0o022 != 0:
		return problem("directory", "chmod 0750 "+p.dir, "others may write to %s (mode %o)", p.dir, info.Mode().Perm())
	}
	return fine("directory", "%s, mode %o", p.dir, info.Mode().Perm())
}

func (p place) group() Finding {
	group, err := user.LookupGroup(readers)
	if err != nil {
		return note("group", "groupadd --system "+readers+", then usermod -aG "+readers+" NAME for each user who may read the tape", "there is no group %s: only root can read the tape", readers)
	}
	info, err := os.Stat(p.dir)
	if err != nil {
		return fine("group", "%s is there", readers)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if gid, err := strconv.Atoi(group.Gid); ok && err == nil && int(st.Gid) != gid {
		return note("group", fmt.Sprintf("chgrp -R %s %s && chmod -R g+rX %s", readers, p.dir, p.dir), "%s belongs to group %d and not to %s, whose members cannot read it", p.dir, st.Gid, readers)
	}
	return fine("group", "members of %s may read the tape", readers)
}

// existing returns the directory, or its nearest ancestor that exists.
func (p place) existing() string {
	dir := p.dir
	for dir != "/" && dir != "." {
		if _, err := os.Stat(dir); err == nil {
			return dir
		}
		dir = filepath.Dir(dir)
	}
	return dir
}

// fileSystems names the usual file systems by their magic number.
var fileSystems = map[int64]string{
	unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs", unix.TMPFS_MAGIC: "tmpfs",
	unix.OVERLAYFS_SUPER_MAGIC: "overlay", unix.NFS_SUPER_MAGIC: "nfs", 0x2fc12fc1: "zfs",
}

func (p place) fileSystem() Finding {
	var st unix.Statfs_t
	if err := unix.Statfs(p.existing(), &st); err != nil {
		return problem("file system", "", "%v", err)
	}
	magic := int64(st.Type) & 0xffffffff
	name, ok := fileSystems[magic]
	if !ok {
		name = fmt.Sprintf("type %#x", magic)
	}
	const disk = "put the tape on a disk of this host: dir in /etc/conntape.toml"
	switch {
	case tapedir.RemoteFileSystem(magic) != "":
		return problem("file system", disk, "%s, where locks and fsync cannot be relied on", tapedir.RemoteFileSystem(magic))
	case st.Flags&unix.ST_RDONLY != 0:
		return problem("file system", disk, "%s is mounted read-only", name)
	case name == "tmpfs" || name == "overlay":
		return note("file system", disk, "%s: the tape is lost when the host or the container stops", name)
	case st.Bfree == st.Bavail:
		return note("file system", "use ext4 with blocks kept for root (tune2fs -m 5) for the tape", "%s keeps no blocks for root: a full disk can cost history", name)
	}
	return fine("file system", "%s", name)
}

func (p place) room() Finding {
	var st unix.Statfs_t
	if err := unix.Statfs(p.existing(), &st); err != nil {
		return problem("room", "", "%v", err)
	}
	total, free := int64(st.Blocks)*st.Bsize, int64(st.Bavail)*st.Bsize
	keep := max(p.limits.KeepFree, total/100*int64(p.limits.KeepFreePercent))
	taken := p.taken()
	room := taken + max(0, free-keep)
	if room < p.limits.MaxBytes {
		return note("room", "free some disk, or set a smaller max-size", "the disk has only %s for the tape, of max-size %s, and %s to stay free for others", size(room), size(p.limits.MaxBytes), size(keep))
	}
	return fine("room", "%s free; the tape has %s and may grow to %s", size(free), size(taken), size(p.limits.MaxBytes))
}

// taken returns the tape's size on disk.
func (p place) taken() (bytes int64) {
	_ = filepath.WalkDir(p.dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			if st, ok := info.Sys().(*syscall.Stat_t); ok {
				bytes += st.Blocks * 512
			}
		}
		return nil
	})
	return bytes
}

// size formats bytes in MiB or GiB.
func size(n int64) string {
	if n >= 10<<30 {
		return fmt.Sprintf("%d GiB", n>>30)
	}
	return fmt.Sprintf("%d MiB", n>>20)
}
