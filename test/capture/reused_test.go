package capture

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// reuse connects again and again from few ports, and often by one socket. Each connection goes to an address of 127.0.0.0/8 of its own, by
// which its row is found, whatever its port, its socket and its time are.
type reuse struct {
	listens, closed uint16 // ports: of one nobody listens
	next            atomic.Uint32
	stop            atomic.Bool
	ports           sync.Map // local port, by number of the connection
}

// number tells which connection goes to an address, addressOf where one goes.
func (*reuse) number(a netip.Addr) uint32 {
	b := a.As4()
	return uint32(b[1]-1)<<16 | uint32(b[2])<<8 | uint32(b[3])
}

func (*reuse) addressOf(n uint32) [4]byte {
	return [4]byte{127, byte(n>>16) + 1, byte(n >> 8), byte(n)}
}

// refused and bytes are what becomes of a connection.
func (*reuse) refused(n uint32) bool { return n%5 == 4 }
func (*reuse) bytes(n uint32) int64  { return int64(1 + n%97) }

// work connects until it is told to stop.
func (r *reuse) work() error {
	port, err := freePort()
	if err != nil {
		return err
	}
	fd := -1
	defer func() { unix.Close(fd) }()
	for !r.stop.Load() {
		if fd < 0 {
			var err error
			if fd, err = boundTo(port); err != nil {
				return err
			}
		}
		n := r.next.Add(1) - 1
		r.ports.Store(n, int64(port))
		if err := r.one(fd, n); err != nil {
			return fmt.Errorf("connection %d: %w", n, err)
		}
		if n%2 == 0 { // the next one has another socket
			unix.Close(fd)
			fd = -1
		}
		time.Sleep(5 * time.Millisecond)
	}
	return nil
}

// freePort returns a port that nobody has.
func freePort() (int, error) {
	fd, err := boundTo(0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	name, err := unix.Getsockname(fd)
	if err != nil {
		return 0, fmt.Errorf("getsockname: %w", err)
	}
	return name.(*unix.SockaddrInet4).Port, nil
}

// boundTo returns a TCP socket of a port that others had before.
func boundTo(port int) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return -1, fmt.Errorf("reuse port: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: port}); err != nil {
		return -1, fmt.Errorf("bind to port %d: %w", port, err)
	}
	return fd, nil
}

// one is a connection from its connect to its end. The socket can connect again then.
func (r *reuse) one(fd int, n uint32) error {
	to := &unix.SockaddrInet4{Addr: r.addressOf(n), Port: int(r.listens)}
	if r.refused(n) {
		to.Port = int(r.closed)
		if err := unix.Connect(fd, to); err != unix.ECONNREFUSED {
			return fmt.Errorf("connect to a closed port: %v", err)
		}
		return nil
	}
	if err := unix.Connect(fd, to); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	if _, err := unix.Write(fd, make([]byte, r.bytes(n))); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	if err := unix.Shutdown(fd, unix.SHUT_WR); err != nil {
		return fmt.Errorf("shutdown: %w", err)
	}
	if _, err := unix.Read(fd, make([]byte, 8)); err != nil {
		return fmt.Errorf("read: %w", err)
	}
	if n%2 == 0 {
		return nil
	}
	unspec := unix.RawSockaddrInet4{Family: unix.AF_UNSPEC}
	if _, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&unspec)), unix.SizeofSockaddrInet4); errno != 0 {
		return fmt.Errorf("disconnect: %w", errno)
	}
	return nil
}

// TestReusedPorts: with ports and sockets that connect again and again, 16 at a time, segments that are closed every second and a recorder that
// is killed once and stopped once, each connect has one row, with its own outcome and bytes. An outcome may be unknown only if it was lost, and
// that is counted.
func TestReusedPorts(t *testing.T) {
	least := uint32(6000)
	if os.Getenv("CONNTAPE_TEST_LONG") != "" {
		least = 100_000
	}
	listens, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listens.Close()
	go drainAll(listens)
	closed, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &reuse{listens: portOf(listens), closed: portOf(closed)}
	closed.Close()
	dir, pins := tempDir(t), pinDir(t)
	tape := record(t, dir, "--pin", "--pin-dir", pins)
	if strings.Contains(tape.said(), "nothing can be pinned") {
		t.Skipf("SKIPPED: this kernel cannot pin what the backend attaches: %s", tape.said())
	}
	var workers sync.WaitGroup
	for range 16 {
		workers.Go(func() {
			if err := r.work(); err != nil {
				t.Error(err)
			}
		})
	}
	ended, recording := make(chan struct{}), sync.Mutex{}
	workers.Go(func() { rotateEverySecond(t, dir, &recording, ended) })
	for i, end := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		part := least / 3 * uint32(i+1)
		eventually(t, "connects are made", func() bool { return t.Failed() || r.next.Load() >= part })
		recording.Lock()
		if end == syscall.SIGKILL {
			tape.kill(t)
		} else {
			tape.end(t, end)
		}
		tape = record(t, dir, "--pin", "--pin-dir", pins)
		recording.Unlock()
	}
	eventually(t, "all are made", func() bool { return t.Failed() || r.next.Load() >= least })
	r.stop.Store(true)
	close(ended)
	workers.Wait()
	time.Sleep(2 * time.Second) // what is in the rings is left to the next recorder, and unpin removes them
	tape.end(t, syscall.SIGTERM)
	if out, err := exec.Command(env.conntape, "unpin", "--pin-dir", pins, "--dir", dir).CombinedOutput(); err != nil {
		t.Errorf("unpin: %v\n%s", err, out)
	}
	r.verify(t, dir)
}

// verify compares the rows with what was done.
func (r *reuse) verify(t *testing.T, dir string) {
	// As people ask, since an outcome may be in a later segment than its connection.
	asked := exec.Command(env.conntape, "query", "sql", "--dir", dir, "--quiet", "--format", "csv", fmt.Sprintf(`SELECT remote_address, local_port, outcome,
		outcome_source, coalesce(bytes_sent, -1), count, via, errno FROM connections WHERE pid = %d AND protocol = 'tcp' AND remote_port IN (%d, %d)`, os.Getpid(), r.listens, r.closed))
	out, err := asked.Output()
	if err != nil {
		t.Fatalf("ask for the rows: %v", err)
	}
	all, err := csv.NewReader(bytes.NewReader(out)).ReadAll()
	if err != nil || len(all) == 0 {
		t.Fatalf("read the rows: %d, %v", len(all), err)
	}
	all = all[1:]             // the names of the columns
	const interrupted = "512" // by a signal of Go's runtime: the kernel issues it again, and that is another row, which is connected already
	again := map[string]bool{}
	for _, row := range all {
		again[row[0]] = again[row[0]] || row[7] == interrupted
	}
	all = slices.DeleteFunc(all, func(row []string) bool { return again[row[0]] && row[3] == "connect" })
	seen := map[uint32]bool{}
	var unknown int64
	for _, row := range all {
		n := r.number(netip.MustParseAddr(row[0]))
		if seen[n] {
			t.Errorf("connection %d has two rows: %q", n, row)
		}
		seen[n] = true
		if row[2] == "unknown" {
			unknown++
			continue
		}
		port, _ := r.ports.Load(n)
		want := []string{row[0], fmt.Sprint(port), "established", "kernel", fmt.Sprint(r.bytes(n)), "1", "connect"}
		if r.refused(n) {
			want[2], want[4] = "refused", "-1"
		}
		if !slices.Equal(row[:len(want)], want) {
			t.Errorf("connection %d: %q, want %q", n, row, want)
		}
	}
	a := readAccount(t, dir)
	lost := number(t, dir, `SELECT count(*) FROM gaps WHERE cause = 'outcomes lost'`)
	segments := number(t, dir, `SELECT count(*) FROM segments`)
	t.Logf("%d connects, %d rows, %d without outcome, %d lost, %d gaps of lost outcomes, %d segments", r.next.Load(), len(all), unknown, a.lost, lost, segments)
	if missing := int64(r.next.Load()) - int64(len(all)); missing != 0 && missing > a.lost {
		t.Errorf("%d connects have no row, and %d are counted as lost", missing, a.lost)
	}
	if unknown > 0 && lost == 0 {
		t.Errorf("%d connections have no outcome, and no gap tells of lost ones", unknown)
	}
}

// rotateEverySecond closes segments while somebody records: else it would do so itself, and be in the way of who begins to.
func rotateEverySecond(t *testing.T, dir string, recording *sync.Mutex, ended <-chan struct{}) {
	for {
		select {
		case <-ended:
			return
		case <-time.After(time.Second):
			recording.Lock()
			if out, err := exec.Command(env.conntape, "rotate", "--dir", dir).CombinedOutput(); err != nil {
				t.Errorf("rotate: %v\n%s", err, out)
			}
			recording.Unlock()
		}
	}
}

func portOf(l net.Listener) uint16 { return l.Addr().(*net.TCPAddr).AddrPort().Port() }

// drainAll reads each connection to its end, and closes it.
func drainAll(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			io.Copy(io.Discard, c)
			c.Close()
		}()
	}
}
