package store

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/tapedir"
)

// A tape is not recorded where others could swap its files, nor where locks and
// fsync mean nothing; the reason is said, with what to do.
func TestPlacesRefused(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to make files of others")
	}
	const nobody = 65534
	for name, c := range map[string]struct {
		make func(dir string) error
		want string
	}{
		"world-writable": {func(dir string) error {
			return errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, 0o777))
		}, "others may write to it"},
		"group-writable": {func(dir string) error {
			return errors.Join(os.Mkdir(dir, 0o700), os.Chown(dir, 0, nobody), os.Chmod(dir, 0o770))
		}, "others may write to it"},
		"of another user": {func(dir string) error {
			return errors.Join(os.Mkdir(dir, 0o700), os.Chown(dir, nobody, nobody))
		}, "it belongs to user 65534"},
		"link of another user": {func(dir string) error {
			return errors.Join(os.Mkdir(dir+".real", 0o700), os.Symlink(dir+".real", dir), os.Lchown(dir, nobody, nobody))
		}, "it is a link of user 65534"},
		"a file": {func(dir string) error { return os.WriteFile(dir, nil, 0o600) }, "not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "tape")
			if err := c.make(dir); err != nil {
				t.Fatal(err)
			}
			_, err := OpenWriter(dir, options(second))
			if err == nil || !strings.Contains(err.Error(), c.want) || failure.HintOf(err) == "" {
				t.Errorf("%v, hint %q, want %q", err, failure.HintOf(err), c.want)
			}
		})
	}
	// A link of root's is followed.
	dir := filepath.Join(t.TempDir(), "tape")
	if err := errors.Join(os.Mkdir(dir+".real", 0o700), os.Symlink(dir+".real", dir)); err != nil {
		t.Fatal(err)
	}
	mustClose(t, mustOpenWriter(t, dir, options(second)), 2*second)
}

func TestFileSystemsRefused(t *testing.T) {
	for magic, want := range map[int64]string{unix.NFS_SUPER_MAGIC: "NFS", unix.EXT4_SUPER_MAGIC: "", unix.XFS_SUPER_MAGIC: "",
		unix.BTRFS_SUPER_MAGIC: "", unix.TMPFS_MAGIC: "", unix.CIFS_SUPER_MAGIC: "SMB", 0xff534d42 - 1<<32: "SMB"} {
		if got := tapedir.RemoteFileSystem(magic); got != want {
			t.Errorf("%#x: %q, want %q", magic, got, want)
		}
	}
	if err := tapedir.CheckFileSystem(t.TempDir()); err != nil {
		t.Error(err)
	}
	mount := t.TempDir()
	if err := unix.Mount("tmpfs", mount, "tmpfs", unix.MS_RDONLY, ""); err != nil {
		t.Skipf("needs to mount a tmpfs: %v", err)
	}
	defer unix.Unmount(mount, unix.MNT_DETACH)
	if err := tapedir.CheckFileSystem(mount); !errors.Is(err, unix.EROFS) || failure.HintOf(err) == "" {
		t.Errorf("read-only: %v", err)
	}
}

// Whatever the umask is, the modes are those that the group of readers needs, and
// no others.
func TestUmask(t *testing.T) {
	for _, mask := range []int{0, 0o777} {
		dir := filepath.Join(t.TempDir(), "tape")
		func() {
			defer unix.Umask(unix.Umask(mask))
			w := mustOpenWriter(t, dir, options(second))
			mustAppend(t, w, Batch{Connections: []Connection{newWorld().connection(2 * second)}, Now: 2 * second})
			if err := w.Rotate(); err != nil {
				t.Fatal(err)
			}
			waitSealed(t, w)
			for name, want := range map[string]os.FileMode{"": 0o750, "lock": 0o600, "00000001.db": 0o440, "00000002.db": 0o640, "00000002.db-wal": 0o640, requestDir: 0o700} {
				info, err := os.Stat(filepath.Join(dir, name))
				if err != nil || info.Mode().Perm() != want {
					t.Errorf("umask %o: %q is %v, want %o (%v)", mask, name, info.Mode(), want, err)
				}
			}
			mustClose(t, w, 3*second)
		}()
	}
}
