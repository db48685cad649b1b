package capture

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

const (
	stranger  = 54331 // a user that no file belongs to
	readGroup = 54332 // the group that may read the tape
)

// TestHostileReaders: a stranger and a member of the reading group take every lock and read transaction they can get,
// over and over, from before the recorder makes its files until after it has ended, through a restart. Nothing is lost.
func TestHostileReaders(t *testing.T) {
	dir := filepath.Join(tempDir(t), "tape")
	if err := os.Mkdir(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	// The directory hands its group to the files in it, so that the member can read them at once.
	for _, err := range []error{os.Chown(dir, 0, readGroup), os.Chmod(dir, os.ModeSetgid|0o750)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	holders := []*holder{startHolder(t, dir, nil), startHolder(t, dir, []uint32{readGroup})}

	tick := startTicker(t, time.Millisecond)
	defer tick.stop()
	for round := range 3 {
		tape := record(t, dir)
		from := tick.count()
		time.Sleep(2500 * time.Millisecond) // two batches and more
		to := tick.count() - 1
		tape.stop(t)
		t.Logf("round %d: %v", round, segmentStates(t, dir))
		tick.wantAll(t, dir, from, to)
	}
	if lost := readAccount(t, dir).lost; lost != 0 {
		t.Errorf("%d lost", lost)
	}
	for _, h := range holders {
		t.Log(h.stop(t))
	}
	if strings.Contains(holders[1].last, "locks 0,") {
		t.Errorf("the member of the group could lock nothing, so this test shows nothing: %s", holders[1].last)
	}
	for _, g := range rows(t, dir, `SELECT * FROM gaps ORDER BY from_ns`) {
		t.Logf("gap %s to %s: %s %s", g.text("from_time"), g.text("to_time"), g.text("cause"), g.text("detail"))
	}
}

func segmentStates(t *testing.T, dir string) []string {
	var states []string
	for _, r := range rows(t, dir, `SELECT segment, state, stored FROM segments ORDER BY segment`) {
		states = append(states, fmt.Sprintf("segment %d %s, %d stored", r.int("segment"), r.text("state"), r.int("stored")))
	}
	return states
}

type holder struct {
	cmd  *exec.Cmd
	stop func(t *testing.T) string
	last string
}

// startHolder runs holdEverything as the stranger, perhaps in a group.
func startHolder(t *testing.T, dir string, groups []uint32) *holder {
	t.Helper()
	h := &holder{cmd: helperCommand("hold", dir)}
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: stranger, Gid: stranger, Groups: groups}}
	h.cmd.Path = readableSelf(t)
	h.cmd.Stderr = os.Stderr
	release, said := startWaiting(t, h.cmd)
	h.stop = func(t *testing.T) string {
		release()
		if err := h.cmd.Wait(); err != nil {
			t.Errorf("holder: %v: %s", err, said())
		}
		h.last = said()
		return h.last
	}
	return h
}

// readableSelf is a copy of this binary that every user may run.
func readableSelf(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(tempDir(t), "reader")
	copyFile(t, self, path)
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// grip is what one round of a hostile reader got hold of.
type grip struct {
	files   []*os.File
	conns   []*sqlite.Conn
	locks   int
	reading int
}

// holdEverything takes what it can, keeps it a while, and takes it anew, until stdin ends.
func holdEverything(dir string) error {
	ended := make(chan struct{})
	go func() {
		bufio.NewReader(os.Stdin).ReadByte()
		close(ended)
	}()
	fmt.Println(`{"waiting":true}`)
	rounds, locks, reads := 0, 0, 0
	for {
		g := take(dir)
		rounds, locks, reads = rounds+1, locks+g.locks, reads+g.reading
		select {
		case <-ended:
			g.letGo()
			fmt.Printf("uid %d groups %v: rounds %d, locks %d, reads %d, then\n", os.Getuid(), groups(), rounds, locks, reads)
			return nil
		case <-time.After(20 * time.Millisecond):
		}
		g.letGo()
	}
}

func groups() []int {
	g, _ := os.Getgroups()
	return g
}

func take(dir string) *grip {
	g := &grip{}
	names := []string{dir}
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		names = append(names, filepath.Join(dir, e.Name()))
	}
	for _, name := range append(names, filepath.Join(dir, "lock"), filepath.Join(dir, "00000001.db"), filepath.Join(dir, "00000002.db-wal")) {
		g.lock(name)
		if strings.HasSuffix(name, ".db") {
			g.read(name)
		}
	}
	return g
}

// lock opens a file, or tries to make it, and takes whatever lock there is for one who may only read.
func (g *grip) lock(name string) {
	fd, err := unix.Open(name, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o666)
	if err != nil {
		fd, err = unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return
	}
	f := os.NewFile(uintptr(fd), name)
	g.files = append(g.files, f)
	got := func(err error) {
		if err == nil && strings.HasSuffix(name, ".db") {
			g.locks++
		}
	}
	for _, kind := range []int16{unix.F_WRLCK, unix.F_RDLCK} {
		whole := unix.Flock_t{Type: kind}
		got(unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &whole))
		got(unix.FcntlFlock(f.Fd(), unix.F_SETLK, &whole))
	}
	got(unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB))
	_, err = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_RDLCK)
	got(err)
}

// read begins a read transaction and stays in it.
func (g *grip) read(name string) {
	conn, err := sqlite.OpenConn("file:"+name+"?mode=ro", sqlite.OpenReadOnly|sqlite.OpenURI)
	if err != nil {
		return
	}
	conn.SetBusyTimeout(0)
	g.conns = append(g.conns, conn)
	if sqlitex.ExecuteTransient(conn, `BEGIN`, nil) == nil && sqlitex.ExecuteTransient(conn, `SELECT count(*) FROM sqlite_schema`, nil) == nil {
		g.reading++
	}
}

func (g *grip) letGo() {
	for _, c := range g.conns {
		c.Close()
	}
	for _, f := range g.files {
		f.Close()
	}
}
