package capture

import (
	"net"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pinDir mounts a BPF file system for a test alone, and returns where pins may be.
func pinDir(t *testing.T) string {
	t.Helper()
	at := tempDir(t)
	if err := unix.Mount("bpf", at, "bpf", 0, "mode=700"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return filepath.Join(at, "conntape")
}

// A recorder that is stopped, or killed, and started again loses no connect while they are made all the time, and has none twice:
// with --pin the kernel keeps what happens meanwhile. Nor does one that replaces the programs of the last, as an upgrade does, and so
// does another size of the ring. The gaps between the recorders are of no length, and say so.
func TestRestartLosesNothing(t *testing.T) {
	dir, pins := tempDir(t), pinDir(t)
	every := 5 * time.Millisecond
	if env.inGuest {
		every = 20 * time.Millisecond // it may take half a minute to start a recorder there
	}
	tick := startTicker(t, every)
	defer tick.stop()
	tape := record(t, dir, "--pin", "--pin-dir", pins)
	if strings.Contains(tape.said(), "nothing can be pinned") {
		t.Skipf("SKIPPED: this kernel cannot pin what the backend attaches: %s", tape.said())
	}
	begin := tick.count() + 1
	type restart struct {
		end  syscall.Signal
		ring string // of the next
	}
	restarts := []restart{{syscall.SIGKILL, "8MiB"}, {syscall.SIGKILL, "4MiB"}, {syscall.SIGTERM, "8MiB"}}
	switch {
	case env.inGuest && runtime.GOARCH == "amd64": // one alone, since a start takes so long
		restarts = restarts[1:2]
	case env.inGuest:
		restarts = restarts[:1]
	}
	var open []connection // connected while nobody recorded, closed when somebody does
	for _, next := range restarts {
		time.Sleep(300 * time.Millisecond)
		if next.end == syscall.SIGKILL {
			tape.kill(t)
		} else {
			tape.end(t, next.end)
		}
		time.Sleep(100 * time.Millisecond)
		open = append(open, connectTCP(t))
		tape = record(t, dir, "--pin", "--pin-dir", pins, "--ring", next.ring)
	}
	last := tick.count() - 1
	eventually(t, "all connects until then are on the tape", func() bool { return len(tick.onTape(t, dir)) > last-begin })
	for _, c := range open {
		c.client.Close()
		c.server.Close()
	}
	wantClosed(t, dir, open)
	tape.end(t, syscall.SIGTERM)
	for _, args := range [][]string{{"unpin", "--pin-dir", pins}, {"verify"}} {
		if out, err := exec.Command(env.conntape, append(args, "--dir", dir)...).CombinedOutput(); err != nil {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
	found := tick.onTape(t, dir)
	var missing, twice []int
	for n := begin; n < last; n++ {
		switch {
		case found[n] == 0:
			missing = append(missing, n)
		case found[n] > 1:
			twice = append(twice, n)
		}
	}
	missed := missedProbes(t, dir)
	for _, g := range rows(t, dir, `SELECT * FROM gaps WHERE to_ns IS NOT NULL ORDER BY from_ns`) {
		t.Logf("gap of %d ns: %s, lost %v: %s", g.int("to_ns")-g.int("from_ns"), g.text("cause"), g["lost"], g.text("detail"))
		between := slices.Contains([]string{"stopped", "crash"}, g.text("cause"))
		if between && (g.int("to_ns") != g.int("from_ns") || g["lost"] != int64(0) || !strings.Contains(g.text("detail"), "nothing was lost")) {
			t.Errorf("the gap between two recorders: %v", g)
		}
	}
	t.Logf("of %d connects during %d restarts %d are missing and %d there twice; programs were left out %d times", last-begin, len(restarts), len(missing), len(twice), missed)
	if int64(len(missing)) > missed || len(twice) > 0 {
		t.Errorf("missing: %v, twice: %v", missing, twice)
	}
	for _, n := range twice {
		a := tickAddress(n).Addr
		for _, r := range rows(t, dir, `SELECT time, address_source, hook_errno, errno FROM connections WHERE pid = ? AND remote_address = ?`, unix.Getpid(), net.IP(a[:]).String()) {
			t.Logf("twice: %v", r)
		}
	}
	if a := readAccount(t, dir); a.lost != missed {
		t.Errorf("account: %+v, %d of the lost were programs that the kernel did not run", a, missed)
	}
}

// A connection has two ends.
type connection struct{ client, server net.Conn }

// connectTCP connects to a listener of its own, which accepts.
func connectTCP(t *testing.T) connection {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return connection{client, server}
}

// wantClosed wants one row of each connection, which says that it was closed. Where connects have no cookies a socket that was connected
// while nobody recorded cannot be told from one that nobody saw: it may have a second row, of what was open at the start.
func wantClosed(t *testing.T, dir string, open []connection) {
	t.Helper()
	for _, c := range open {
		port := c.client.RemoteAddr().(*net.TCPAddr).Port
		eventually(t, "the end of a connection that outlived a restart", func() bool {
			of := map[string][]row{} // by via
			for _, r := range rows(t, dir, `SELECT duration_ns, via, coalesce(cookie, 0) AS cookie FROM connections WHERE pid = ? AND remote_port = ?`, unix.Getpid(), port) {
				of[r.text("via")] = append(of[r.text("via")], r)
			}
			connects := of["connect"]
			if len(connects) != 1 {
				return false
			}
			if connects[0].int("cookie") == 0 {
				return true
			}
			if len(of) > 1 {
				t.Fatalf("a connection that outlived a restart has a row of its own: %v", of)
			}
			return connects[0]["duration_ns"] != nil
		})
	}
}
