package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/store/proof"
	"github.com/conntape/conntape/store/tapedir"
)

// Whoever may write to a tape may make its files as large as he likes, without a
// byte on the disk. Verifying it takes no longer for that, and no more room.
func TestSparseFiles(t *testing.T) {
	s := recordTape(t, filepath.Join(t.TempDir(), "tape"), 2)
	for name, c := range map[string]struct {
		file    string
		problem string
	}{
		"sealed segment":   {tapedir.SegmentName(1), "it was altered since"},
		"active segment":   {tapedir.SegmentName(2), ""}, // SQLite goes by the number of pages in the header
		"WAL":              {tapedir.SegmentName(2) + "-wal", ""},
		"WAL of a sealed":  {tapedir.SegmentName(1) + "-wal", ""},
		"NULs in the log":  {filepath.Join(tapedir.LogDir, "00000001.log"), "from here on the file is no log"},
		"an unsealed copy": {tapedir.SegmentName(3), "the log does not know this segment"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := copyTape(t, s.dir)
			temp := t.TempDir()
			t.Setenv("TMPDIR", temp)
			path := filepath.Join(dir, c.file)
			f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o640)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := f.Truncate(20 << 30); err != nil {
				t.Skip(err) // a file system without holes, or with smaller files
			}
			var before, after runtime.MemStats
			var disk, now unix.Statfs_t
			if err := unix.Statfs(temp, &disk); err != nil {
				t.Fatal(err)
			}
			runtime.ReadMemStats(&before)
			least, start := disk.Bfree, cpuTime(t)
			v := (&sealedTape{dir: dir}).verify(t, proof.Options{Key: s.key, Progress: func(int64, int64) {
				if unix.Statfs(temp, &now) == nil {
					least = min(least, now.Bfree)
				}
			}})
			runtime.ReadMemStats(&after)
			if took, memory := cpuTime(t)-start, after.TotalAlloc-before.TotalAlloc; took > 10*time.Second || memory > 256<<20 {
				t.Errorf("%v, %d MB of memory", took, memory>>20)
			}
			if used := int64(disk.Bfree-least) * disk.Bsize; used > 1<<30 {
				t.Errorf("%d MB of TMPDIR", used>>20)
			}
			if text := problems(v); !strings.Contains(text, c.problem) || c.problem == "" && text != "" {
				t.Errorf("problems: %s", text)
			}
		})
	}
}

// Who gives up does not wait.
func TestVerifyIsStopped(t *testing.T) {
	s := recordTape(t, filepath.Join(t.TempDir(), "tape"), 3)
	ctx, stop := context.WithCancel(t.Context())
	_, err := proof.Verify(ctx, s.dir, proof.Options{Progress: func(int64, int64) { stop() }})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("stopped while segments are read: %v", err)
	}
	if _, err := proof.Verify(ctx, s.dir, proof.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("stopped while the log is read: %v", err)
	}
}
