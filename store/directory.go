package store

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Modes of what is in a tape. A closed segment loses the write bits: readers
// take it by that for a file that is never written again.
const (
	dirMode    = 0o750
	birthMode  = 0o600 // until the recorder has locked it: nobody gets in before
	fileMode   = 0o640
	closedMode = 0o440
	lockName   = "lock"
	heldDir    = "held"
	groupName  = "conntape"
)

// segmentName returns the file name of segment n.
func segmentName(n int) string { return fmt.Sprintf("%08d.db", n) }

// parseSegmentName returns the number of a segment file name.
func parseSegmentName(name string) (int, bool) {
	digits, ok := strings.CutSuffix(name, ".db")
	if !ok || len(digits) < 8 {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || n < 1 || len(digits) > 8 && digits[0] == '0' {
		return 0, false // none that segmentName gives
	}
	return int(n), true
}

// segmentNames is what the names in a tape's directory say of its segments.
type segmentNames struct {
	files   []int // regular files, in order
	others  []otherFile
	wals    map[int]bool // by number: there is a -wal
	highest int          // that any name uses, a -wal left alone included
}

// otherFile is something with the name of a segment that is no regular file, which
// no recorder makes.
type otherFile struct {
	number int
	kind   string
}

func (o otherFile) Error() string {
	return fmt.Sprintf("there is %s in place of the segment", o.kind)
}

// readSegmentNames lists the segments in dir.
func readSegmentNames(dir string) (s segmentNames, err error) {
	d, err := os.Open(dir)
	if err != nil {
		return s, fmt.Errorf("list segments: %w", err)
	}
	defer d.Close()
	entries, err := d.ReadDir(-1) // in no order, which takes half as long
	if err != nil {
		return s, fmt.Errorf("list segments: %w", err)
	}
	for _, e := range entries {
		name, _, _ := strings.Cut(e.Name(), "-") // 00000001.db-wal
		n, ok := parseSegmentName(name)
		if !ok {
			continue
		}
		s.highest = max(s.highest, n)
		switch {
		case e.Name() == name+"-wal":
			if s.wals == nil {
				s.wals = map[int]bool{}
			}
			s.wals[n] = true
		case name != e.Name():
		case e.Type().IsRegular():
			s.files = append(s.files, n)
		default:
			s.others = append(s.others, otherFile{n, kindOfFile(e.Type())})
		}
	}
	slices.Sort(s.files)
	slices.SortFunc(s.others, func(a, b otherFile) int { return cmp.Compare(a.number, b.number) })
	return s, nil
}

// kindOfFile names what is no regular file.
func kindOfFile(mode fs.FileMode) string {
	switch {
	case mode.IsDir():
		return "a directory"
	case mode&fs.ModeSymlink != 0:
		return "a link"
	case mode&fs.ModeNamedPipe != 0:
		return "a pipe"
	case mode&fs.ModeSocket != 0:
		return "a socket"
	default:
		return "a device"
	}
}

// listSegments returns the numbers of the segments in dir in order, and the
// highest number that any file there uses, a -wal left alone included.
func listSegments(dir string) (numbers []int, highest int, err error) {
	names, err := readSegmentNames(dir)
	return names.files, names.highest, err
}

// makeDir makes the tape directory when there is none, and gives it to the
// reading group.
func makeDir(dir string) error {
	parent := filepath.Dir(dir)
	if err := makeParents(parent); err != nil {
		return &Error{Op: "make tape directory", Path: dir, Err: bare(err)}
	}
	err := os.Mkdir(dir, dirMode)
	switch {
	case err == nil:
		if err := giveToGroup(dir, dirMode); err != nil {
			return err
		}
		return syncParent(parent)
	case errors.Is(err, fs.ErrExist):
		info, err := os.Stat(dir)
		if err != nil {
			return &Error{Op: "open tape", Path: dir, Err: bare(err)}
		}
		if !info.IsDir() {
			return &Error{Op: "open tape", Path: dir, Err: errors.New("not a directory"),
				Hint: "name the directory of the tape with --dir"}
		}
		return nil
	default:
		return &Error{Op: "make tape directory", Path: dir, Err: bare(err),
			Hint: "the recorder must be able to write there; run it as root or choose another --dir"}
	}
}

// makeParents is os.MkdirAll whose names are durable: a tape that is synced is
// lost all the same when the name of its directory is not.
func makeParents(dir string) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(dir)
	if err := makeParents(parent); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncParent(parent)
}

// syncParent is syncDir for a directory that need not be ours: whoever may make a
// name in it but not read it cannot sync it.
func syncParent(dir string) error {
	if err := syncDir(dir); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}

// checkOwn makes sure that path is a directory of ours, without the permissions in
// without, and that no group but our own may write to it: nobody else can have put
// anything into it.
func checkOwn(path string, without fs.FileMode) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.IsDir():
		return errors.New("not a directory")
	case ok && int(st.Uid) != os.Geteuid() && st.Uid != 0:
		return fmt.Errorf("it belongs to user %d", st.Uid)
	case info.Mode().Perm()&without != 0, ok && info.Mode().Perm()&0o020 != 0 && int(st.Gid) != os.Getegid():
		return fmt.Errorf("others may write to it (mode %o)", info.Mode().Perm())
	}
	return nil
}

// giveToGroup sets the mode and, when there is a group conntape and we may, the
// group of path. It works by name: opening an active segment again, and closing
// it, would drop the recorder's locks.
func giveToGroup(path string, mode fs.FileMode) error {
	if g, err := user.LookupGroup(groupName); err == nil && os.Geteuid() == 0 {
		gid, err := strconv.Atoi(g.Gid)
		if err != nil {
			return fmt.Errorf("parse group id: %w", err)
		}
		if err := os.Lchown(path, -1, gid); err != nil {
			return fmt.Errorf("set group: %w", err)
		}
	}
	if err := os.Chmod(path, mode); err != nil { // after chown, and despite the umask
		return fmt.Errorf("set mode: %w", err)
	}
	return nil
}

// syncDir makes names created in or removed from dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("open directory: %w", err)
	}
	if err := d.Sync(); err != nil {
		d.Close()
		return fmt.Errorf("sync directory: %w", err)
	}
	return d.Close()
}

// bare strips the path that package os puts into its errors: Error has it.
func bare(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
