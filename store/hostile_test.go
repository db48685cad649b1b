package store

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/tapedir"
)

// playHostile opens every file of a tape that it may read, again and again, maps
// it, takes each kind of lock on it that a reader can get, opens it with SQLite
// and keeps read transactions. It lets nothing go. Argument: directory.
func playHostile(args []string) error {
	fmt.Println("ready")
	tried, got := 0, 0
	for range 50 {
		entries, err := os.ReadDir(args[0])
		if err != nil {
			return err
		}
		for _, e := range entries {
			path := filepath.Join(args[0], e.Name())
			for _, how := range []func(string) (int, int){lockEverything, beginReading} {
				a, b := how(path)
				tried, got = tried+a, got+b
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	fmt.Println("holds", got, "of", tried)
	time.Sleep(time.Hour)
	return nil
}

// lockEverything takes flock, POSIX and open-file-description locks, on the
// whole file and on the bytes that SQLite uses. The descriptor is kept.
func lockEverything(path string) (tried, got int) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return 1, 0
	}
	count := func(err error) {
		tried++
		if err == nil {
			got++
		}
	}
	count(unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB))
	count(unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB))
	for _, cmd := range []int{unix.F_SETLK, unix.F_OFD_SETLK} {
		for _, span := range [][2]int64{{0, 0}, {tapedir.LockBytesStart, 512}, {tapedir.LockBytesStart + 2, 510}, {120, 8}} {
			lk := unix.Flock_t{Type: unix.F_RDLCK, Whence: io.SeekStart, Start: span[0], Len: span[1]}
			count(unix.FcntlFlock(uintptr(fd), cmd, &lk))
		}
	}
	_, err = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK)
	count(err)
	_, err = unix.Mmap(fd, 0, pageSize, unix.PROT_READ, unix.MAP_SHARED)
	count(err)
	return tried, got
}

// beginReading opens the file with SQLite in every way and begins to read.
func beginReading(path string) (tried, got int) {
	for _, uri := range []string{"?mode=ro", "?mode=ro&nolock=1", "?immutable=1", "?mode=rw"} {
		tried++
		conn, err := sqlite.OpenConn("file:"+path+uri, sqlite.OpenReadWrite|sqlite.OpenURI)
		if err != nil {
			continue
		}
		conn.SetBusyTimeout(0)
		stmt, _, err := conn.PrepareTransient("SELECT * FROM connection")
		if err != nil {
			continue
		}
		if _, err := stmt.Step(); err == nil {
			got++ // and keep it
		}
	}
	return tried, got
}

// Another user who may read the tape does his worst: recording goes on, nothing
// is lost, and no segment had to be set aside.
func TestHostileReader(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to become another user")
	}
	const nobody, group = 65534, 65533
	for name, credential := range map[string]*syscall.Credential{
		"of the reading group": {Uid: nobody, Gid: group},
		"of no group":          {Uid: nobody, Gid: nobody},
	} {
		t.Run(name, func(t *testing.T) {
			parent, err := os.MkdirTemp("", "hostile")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(parent) })
			if err := os.Chmod(parent, 0o755); err != nil {
				t.Fatal(err)
			}
			self := copySelf(t, parent)
			dir := filepath.Join(parent, "tape")
			writer := childCommand(t, "write", dir, "200")
			progress := startReady(t, writer)
			last := make(chan uint64, 1)
			go func() { last <- lastNumber(progress) }()
			for _, file := range append(files(t, dir), ".") { // as if that were group conntape
				if file != tapedir.LockName {
					if err := os.Chown(filepath.Join(dir, file), -1, group); err != nil {
						t.Fatal(err)
					}
				}
			}
			hostile := exec.Command(self, dir)
			hostile.Env = append(os.Environ(), partVariable+"=hostile")
			hostile.SysProcAttr = &syscall.SysProcAttr{Credential: credential, Pdeathsig: syscall.SIGKILL}
			report := startReady(t, hostile)
			line, err := report.ReadString('\n')
			if credential.Gid == group {
				if err != nil || !strings.HasPrefix(line, "holds ") || strings.HasPrefix(line, "holds 0 ") {
					t.Fatalf("the hostile reader got nothing: %q, %v", line, err)
				}
			} else if !strings.HasPrefix(line, "error:") {
				t.Fatalf("somebody outside the group got in: %q, %v", line, err)
			}
			t.Logf("hostile reader: %s", strings.TrimSpace(line))
			before := checkWhole(t, dir)
			time.Sleep(time.Second)
			after := checkWhole(t, dir)
			if after <= before {
				t.Errorf("recording stands still: %d rows, a second ago %d", after, before)
			}
			writer.Process.Kill()
			reported := <-last
			if stored := checkWhole(t, dir); stored < reported {
				t.Errorf("%d rows of %d", stored, reported)
			}
			for _, file := range files(t, dir) {
				if strings.HasPrefix(file, "00000002") {
					t.Errorf("a segment was set aside: %v", files(t, dir))
				}
			}
		})
	}
}

// copySelf makes the test binary readable for another user.
func copySelf(t *testing.T, dir string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	binary, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(dir, "test.binary")
	if err := os.WriteFile(to, binary, 0o755); err != nil {
		t.Fatal(err)
	}
	return to
}

func lastNumber(r *bufio.Reader) (last uint64) {
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return last
		}
		if n, err := strconv.ParseUint(strings.TrimSpace(line), 10, 64); err == nil {
			last = n
		}
	}
}

func readAll(r io.Reader) string {
	all, _ := io.ReadAll(r)
	return string(all)
}
