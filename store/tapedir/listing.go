package tapedir

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Names describes a tape's segments by the names in its directory.
type Names struct {
	Files   []int          // regular files, in order
	Inodes  map[int]uint64 // of Files, as the directory has them: on some file systems others than those of the files
	Others  []Other
	Wals    map[int]bool // by number: there is a -wal
	Highest int          // number in any name, a lone -wal included
}

// Other is an entry with the name of a segment that is not a regular file. A recorder makes none.
type Other struct {
	Number int
	kind   string
}

func (o Other) Error() string {
	return fmt.Sprintf("there is %s in place of the segment", o.kind)
}

// ReadNames lists the segments in dir.
func ReadNames(dir string) (s Names, err error) {
	d, err := os.Open(dir)
	if err != nil {
		return s, fmt.Errorf("list segments: %w", err)
	}
	defer d.Close()
	s.Inodes = map[int]uint64{}
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.ReadDirent(int(d.Fd()), buf) // os.File tells no inode but by a stat of each
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return s, fmt.Errorf("list segments: %w", &fs.PathError{Op: "readdir", Path: dir, Err: err})
		}
		if n == 0 {
			break
		}
		if err := s.add(dir, buf[:n]); err != nil {
			return s, fmt.Errorf("list segments: %w", err)
		}
	}
	slices.Sort(s.Files)
	slices.SortFunc(s.Others, func(a, b Other) int { return cmp.Compare(a.Number, b.Number) })
	return s, nil
}

// Of struct linux_dirent64 (getdents64(2)), in bytes and in the byte order of the processor.
const (
	direntLength = 16 // u16
	direntType   = 18 // u8
	direntName   = 19 // ends with NUL
)

// add adds the entries of a directory that getdents64 returned.
func (s *Names) add(dir string, entries []byte) error {
	for len(entries) >= direntName {
		inode, length := binary.NativeEndian.Uint64(entries), int(binary.NativeEndian.Uint16(entries[direntLength:]))
		if length < direntName || length > len(entries) {
			return fmt.Errorf("%s: an entry of %d bytes", dir, length)
		}
		name, _, _ := bytes.Cut(entries[direntName:length], []byte{0})
		if err := s.addName(dir, string(name), inode, entries[direntType]); err != nil {
			return err
		}
		entries = entries[length:]
	}
	return nil
}

func (s *Names) addName(dir, entry string, inode uint64, kind byte) error {
	name, _, _ := strings.Cut(entry, "-") // 00000001.db-wal
	n, ok := ParseSegmentName(name)
	if !ok {
		return nil
	}
	s.Highest = max(s.Highest, n)
	switch {
	case entry == name+"-wal":
		if s.Wals == nil {
			s.Wals = map[int]bool{}
		}
		s.Wals[n] = true
		return nil
	case name != entry:
		return nil
	case kind == unix.DT_UNKNOWN: // some file systems do not tell
		info, err := os.Lstat(dir + "/" + entry)
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil {
			return err
		}
		kind = byte(info.Sys().(*syscall.Stat_t).Mode >> 12)
	}
	if kind == unix.DT_REG {
		s.Files, s.Inodes[n] = append(s.Files, n), inode
	} else {
		s.Others = append(s.Others, Other{n, kindOfFile(kind)})
	}
	return nil
}

// kindOfFile names the type of a file that is not regular.
func kindOfFile(kind byte) string {
	switch kind {
	case unix.DT_DIR:
		return "a directory"
	case unix.DT_LNK:
		return "a link"
	case unix.DT_FIFO:
		return "a pipe"
	case unix.DT_SOCK:
		return "a socket"
	default:
		return "a device"
	}
}

// List returns the numbers of the segments in dir in order, and the highest number in any name there, a lone -wal
// included.
func List(dir string) (numbers []int, highest int, err error) {
	names, err := ReadNames(dir)
	return names.Files, names.Highest, err
}
