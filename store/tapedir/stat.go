package tapedir

import (
	"io/fs"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Stat is what the kernel says of a file, for thousands of them: an [os.FileInfo] without a copy of its own for each.
type Stat struct {
	name string
	unix.Stat_t
}

// StatIn sets it to that of a name in a directory that is open. It does not follow a link.
func (s *Stat) StatIn(dir int, name string) error {
	s.name = name
	for {
		if err := unix.Fstatat(dir, name, &s.Stat_t, unix.AT_SYMLINK_NOFOLLOW); err != unix.EINTR {
			return err
		}
	}
}

// SetSealed sets it to that of a sealed file, of which somebody has noted the size, the id and the time of modification, in ns.
func (s *Stat) SetSealed(name string, id FileID, size, modified int64) {
	s.name = name
	s.Stat_t = unix.Stat_t{Mode: unix.S_IFREG | ClosedMode, Dev: id.Device, Ino: id.Inode, Size: size, Nlink: 1,
		Mtim: unix.NsecToTimespec(modified), Ctim: unix.NsecToTimespec(id.Changed)}
}

func (s *Stat) Name() string       { return s.name }
func (s *Stat) Size() int64        { return s.Stat_t.Size }
func (s *Stat) ModTime() time.Time { return time.Unix(s.Mtim.Unix()) }
func (s *Stat) IsDir() bool        { return s.Mode().IsDir() }

// Mode returns the permissions, and what kind of file it is.
func (s *Stat) Mode() fs.FileMode {
	mode := fs.FileMode(s.Stat_t.Mode & 0o777)
	switch s.Stat_t.Mode & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFDIR:
		mode |= fs.ModeDir
	case unix.S_IFLNK:
		mode |= fs.ModeSymlink
	default:
		mode |= fs.ModeIrregular
	}
	return mode
}

// Sys returns the [unix.Stat_t].
func (s *Stat) Sys() any { return &s.Stat_t }

// FileID is which file it is, and when its content or mode was changed last.
type FileID struct {
	Device, Inode uint64
	Changed       int64 // ns
}

// IDOf returns the id of a file.
func IDOf(info os.FileInfo) (id FileID, ok bool) {
	switch st := info.Sys().(type) {
	case *unix.Stat_t:
		return FileID{uint64(st.Dev), st.Ino, st.Ctim.Nano()}, true
	case *syscall.Stat_t:
		return FileID{uint64(st.Dev), st.Ino, st.Ctim.Nano()}, true
	}
	return id, false
}

// SameFile is [os.SameFile], for a [Stat] too.
func SameFile(a, b os.FileInfo) bool {
	is, known := IDOf(a)
	other, alsoKnown := IDOf(b)
	return known && alsoKnown && is.Device == other.Device && is.Inode == other.Inode
}
