package hash

import (
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// openFile is a regular file to read.
type openFile struct {
	job    Job
	file   *os.File // nil: there is none, for the reason in source
	found  Identity
	source Source // Exec or Later, if it does not change while it is read
	fixed  bool   // it is no other file for having been changed: a process executes it, or nobody knows what it was at the exec
}

func (f openFile) close() {
	if f.file != nil {
		f.file.Close()
	}
}

// remote are file systems whose servers may never answer. A FUSE file system's is any process.
var remote = map[uint32]bool{
	unix.NFS_SUPER_MAGIC: true, unix.SMB_SUPER_MAGIC: true, unix.CIFS_SUPER_MAGIC: true, unix.SMB2_SUPER_MAGIC: true, unix.CEPH_SUPER_MAGIC: true,
	unix.AFS_SUPER_MAGIC: true, unix.AFS_FS_MAGIC: true, unix.CODA_SUPER_MAGIC: true, unix.V9FS_MAGIC: true, unix.OCFS2_SUPER_MAGIC: true,
	unix.FUSE_SUPER_MAGIC: true, 0x01161970: true /* GFS2 */, 0x0bd00bd0: true, /* Lustre */
}

// Of a file there, stat(2) does not tell the device that the kernel's inode has.
var otherDevice = map[uint32]bool{unix.OVERLAYFS_SUPER_MAGIC: true, unix.BTRFS_SUPER_MAGIC: true}

// open finds the file of a job. What a process executes is at /proc/PID/exe while it lives, also if it was deleted or never
// had a name; else a file with the same identity may be at its path.
func (h *Hasher) open(j Job) openFile {
	if remote[j.FS] {
		return openFile{source: Remote}
	}
	best := openFile{source: Gone}
	if !j.Script {
		if f := h.openAt(unix.AT_FDCWD, filepath.Join(h.o.Proc, strconv.FormatUint(uint64(j.PID), 10), "exe"), 0, &j); f.file != nil || f.source == Large || f.source == Remote {
			return f
		} else if f.source == Unreadable {
			best = f
		}
	}
	if len(j.Path) == 0 || j.Path[0] != '/' {
		return best
	}
	looked, refused := false, false
	for _, pid := range j.Roots {
		root, err := unix.Open(filepath.Join(h.o.Proc, strconv.FormatUint(uint64(pid), 10), "root"), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			refused = refused || err != unix.ENOENT && err != unix.ESRCH
			continue
		}
		f := h.openAt(root, j.Path, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS, &j)
		unix.Close(root)
		if f.source != Gone || f.file != nil {
			return f
		}
		looked = true
	}
	if refused && !looked {
		best.source = Unreadable
	}
	return best
}

// openAt opens a file by name. It first holds the file without opening it (O_PATH): to open a FIFO or a device does something.
func (h *Hasher) openAt(dir int, name string, resolve uint64, j *Job) openFile {
	held, err := unix.Openat2(dir, name, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: resolve})
	switch err {
	case nil:
	case unix.ENOENT, unix.ESRCH, unix.ENOTDIR:
		return openFile{source: Gone}
	default:
		return openFile{source: Unreadable}
	}
	defer unix.Close(held)
	f := openFile{}
	var fs unix.Statfs_t
	if unix.Fstatfs(held, &fs) != nil {
		return openFile{source: Unreadable}
	}
	if remote[uint32(fs.Type)] {
		return openFile{source: Remote}
	}
	mode := uint32(0)
	if f.found, mode, err = identify(held); err != nil || mode&unix.S_IFMT != unix.S_IFREG {
		return openFile{source: Unreadable}
	}
	if f.source = h.judge(f.found, uint32(fs.Type), j, resolve == 0); f.source != Exec && f.source != Later {
		return f
	}
	fd, err := unix.Open("/proc/self/fd/"+strconv.Itoa(held), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		f.source = Unreadable
		return f
	}
	f.file, f.fixed = os.NewFile(uintptr(fd), name), resolve == 0 || j.Want == nil
	return f
}

// judge compares a file with the one that a job wants. running: the process executes it now.
func (h *Hasher) judge(found Identity, fs uint32, j *Job, running bool) Source {
	same := j.Want != nil && (j.FS == 0 || j.FS == fs) && (j.Want.Device == found.Device || otherDevice[fs]) && j.Want.Inode == found.Inode
	switch {
	case j.Want == nil:
	case same && j.Want.Ctime == found.Ctime && j.Want.Size == found.Size:
		if found.Size > uint64(h.o.MaxSize) {
			return Large
		}
		return Exec
	case !running:
		return Changed
	case !same:
		return Gone // the process executes another program by now
	}
	if found.Size > uint64(h.o.MaxSize) {
		return Large
	}
	return Later
}

// identify returns the identity of an open file, and its mode.
func identify(fd int) (Identity, uint32, error) {
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return Identity{}, 0, err
	}
	device := unix.Major(uint64(stat.Dev))<<20 | unix.Minor(uint64(stat.Dev))
	return Identity{Device: device, Inode: stat.Ino, Ctime: uint64(stat.Ctim.Nano()), Size: uint64(stat.Size)}, stat.Mode, nil
}
