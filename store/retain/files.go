package retain

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/conntape/conntape/store/sqlitefile"
	"github.com/conntape/conntape/store/tapedir"
)

// Allocated returns the disk space of a file in bytes: the larger of its size, which may have unallocated blocks, and of
// its blocks, which may lie beyond its end.
func Allocated(info fs.FileInfo) int64 {
	size := (info.Size() + sqlitefile.PageSize - 1) / sqlitefile.PageSize * sqlitefile.PageSize
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return max(size, st.Blocks*512)
	}
	return size
}

// BlocksOf returns the size of a file's blocks, in bytes.
func BlocksOf(info fs.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * 512
	}
	return Allocated(info)
}

// AllocatedAt is Allocated for the file at path, 0 if there is none.
func AllocatedAt(path string) int64 {
	info, err := os.Lstat(path)
	if err != nil {
		return 0
	}
	return Allocated(info)
}

// SegmentSuffixes are the suffixes of the files that a segment can have.
var SegmentSuffixes = []string{"", "-wal", "-journal", tapedir.SealingSuffix + "-journal", tapedir.SealingSuffix, tapedir.DamagedSuffix + "-wal", tapedir.DamagedSuffix, tapedir.ExpiringSuffix}

// Measure adds up the files of the tape; other is the part that is neither segments nor reserve: log, lock, requests.
// Segments under legal hold are not counted: they have their own limit.
func Measure(dir string) (all, other int64) {
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return nil
		case d.IsDir() && path == filepath.Join(dir, tapedir.HeldDir):
			return filepath.SkipDir
		case d.IsDir():
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return nil
		}
		all += Allocated(info)
		name, _, _ := strings.Cut(d.Name(), "-")
		for _, suffix := range []string{tapedir.SealingSuffix, tapedir.DamagedSuffix, tapedir.ExpiringSuffix} {
			name = strings.TrimSuffix(name, suffix)
		}
		if _, ok := tapedir.ParseSegmentName(name); (ok || name == tapedir.ReserveName) && filepath.Dir(path) == dir {
			return nil
		}
		other += Allocated(info)
		return nil
	})
	return all, other
}

// RemoveFiles removes every file of a segment that was at path. Last it removes the file that marks an unfinished
// removal, even if a power loss reorders unsynced removals.
func RemoveFiles(path string) error {
	if err := tapedir.SyncDir(filepath.Dir(path)); err != nil {
		return err
	}
	var errs []error
	others := false
	for _, suffix := range SegmentSuffixes {
		if suffix == "" || suffix == tapedir.ExpiringSuffix {
			continue
		}
		err := os.Remove(path + suffix)
		others = others || err == nil
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	if others {
		errs = append(errs, tapedir.SyncDir(filepath.Dir(path)))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := os.Remove(path + tapedir.ExpiringSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// FinishRemovals finishes interrupted removals.
func FinishRemovals(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), tapedir.ExpiringSuffix)
		path := filepath.Join(dir, name)
		if _, known := tapedir.ParseSegmentName(name); ok && known && !tapedir.IsThere(path) {
			err = errors.Join(err, RemoveFiles(path))
		}
	}
	return err
}
