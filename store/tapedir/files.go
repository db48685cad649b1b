package tapedir

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/store/failure"
)

// MostSmall limits the files of ReadSmall, in bytes.
const MostSmall = 64 << 10

// ReadSmall reads a small regular file.
func ReadSmall(path string) ([]byte, error) { return ReadUpTo(path, MostSmall) }

// ReadUpTo reads a regular file of at most so many bytes.
func ReadUpTo(path string, most int64) ([]byte, error) {
	f, err := OpenForCopy(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(text)) > most {
		err = errors.New("too long")
	}
	return text, err
}

// WriteWhole writes a file atomically and durably.
func WriteWhole(path string, text []byte, mode fs.FileMode) (err error) {
	temp := path + ".tmp"
	f, err := os.OpenFile(temp, os.O_CREATE|os.O_EXCL|os.O_WRONLY|unix.O_NOFOLLOW, BirthMode)
	if errors.Is(err, fs.ErrExist) { // left by a killed process
		if err := os.Remove(temp); err != nil {
			return err
		}
		f, err = os.OpenFile(temp, os.O_CREATE|os.O_EXCL|os.O_WRONLY|unix.O_NOFOLLOW, BirthMode)
	}
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(temp)
		}
	}()
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if mode != BirthMode {
		if err := GiveToGroup(temp, mode); err != nil {
			return err
		}
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// SyncFile makes the content and mode of a file durable.
func SyncFile(path string) error {
	f, err := OpenForCopy(path)
	if err != nil {
		return fmt.Errorf("sync file: %w", err)
	}
	if err := f.Sync(); err != nil {
		f.Close()
		return fmt.Errorf("sync file: %w", err)
	}
	return f.Close()
}

// changeTick is the time within which two changes may leave the same time of change: Linux before 6.13 counts it in ticks
// of up to 10 ms.
const changeTick = 20 * time.Millisecond

// JustChanged reports whether a file or directory was changed so short a time ago that another change may leave no trace
// in its times.
func JustChanged(info fs.FileInfo) bool { return time.Since(info.ModTime()).Abs() < changeTick }

// OpenForCopy opens a regular file for reading and refuses anything else.
func OpenForCopy(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%w: not a regular file", failure.ErrNotSegment)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// SyncDir makes names created in or removed from dir durable.
func SyncDir(dir string) error {
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
