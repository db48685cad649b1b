package capture

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// netem loses 2% of what the loopback sends, at random, where the kernel has it and the machine is the test's own.
func netem(t *testing.T) bool {
	t.Helper()
	if !env.inGuest {
		return false
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	n := binary.NativeEndian
	ask := func(kind, flags uint16, attributes ...byte) error {
		const loopback, root = 1, 0xffffffff
		m := n.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+20+len(attributes)))
		m = n.AppendUint16(n.AppendUint16(m, kind), unix.NLM_F_REQUEST|unix.NLM_F_ACK|flags)
		for _, word := range []uint32{1, 0, unix.AF_UNSPEC, loopback, 0, root, 0} { // sequence and port; struct tcmsg
			m = n.AppendUint32(m, word)
		}
		if err := unix.Sendto(fd, append(m, attributes...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			return err
		}
		answer := make([]byte, 4096)
		size, _, err := unix.Recvfrom(fd, answer, 0)
		if err != nil || size < unix.SizeofNlMsghdr+4 {
			return cmp.Or(err, io.ErrUnexpectedEOF)
		}
		if errno := int32(n.Uint32(answer[unix.SizeofNlMsghdr:])); errno != 0 {
			return unix.Errno(-errno)
		}
		return nil
	}
	attributes := append(n.AppendUint16(n.AppendUint16(nil, 4+6), unix.TCA_KIND), "netem\x00\x00\x00"...)
	attributes = n.AppendUint16(n.AppendUint16(attributes, 4+24), unix.TCA_OPTIONS)
	for _, word := range []uint32{0, 10_000, math.MaxUint32 / 50, 0, 0, 0} { // struct tc_netem_qopt: latency, limit, loss, gap, duplicate, jitter
		attributes = n.AppendUint32(attributes, word)
	}
	if err := ask(unix.RTM_NEWQDISC, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, attributes...); err != nil {
		unix.Close(fd)
		t.Logf("no netem: %v", err)
		return false
	}
	t.Cleanup(func() {
		if err := ask(unix.RTM_DELQDISC, 0); err != nil {
			t.Error(err)
		}
		unix.Close(fd)
	})
	return true
}

// losePackets drops each fiftieth packet that comes to or from a port, as a bad line does: the socket that it is for never gets it. It needs no
// netem, which many kernels do not have.
func losePackets(t *testing.T, port int) (dropped func() uint64) {
	t.Helper()
	seen, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { seen.Close() })
	const localPort, remotePort = 136, 132 // in struct __sk_buff; the one in host byte order
	swapped := int32(uint32(networkOrder(uint16(port))))
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.CGroupSKB, License: "MIT", Instructions: asm.Instructions{
		asm.LoadMem(asm.R6, asm.R1, localPort, asm.Word),
		asm.JEq.Imm(asm.R6, int32(port), "count"),
		asm.LoadMem(asm.R6, asm.R1, remotePort, asm.Word), // in one half or the other
		asm.Mov.Reg(asm.R7, asm.R6),
		asm.RSh.Imm(asm.R7, 16),
		asm.Or.Reg(asm.R6, asm.R7),
		asm.And.Imm(asm.R6, 0xffff),
		asm.JEq.Imm(asm.R6, swapped, "count"),
		asm.Ja.Label("pass"),
		asm.StoreImm(asm.RFP, -4, 0, asm.Word).WithSymbol("count"),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.LoadMapPtr(asm.R1, seen.FD()),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "pass"),
		asm.LoadMem(asm.R1, asm.R0, 0, asm.DWord),
		asm.Add.Imm(asm.R1, 1),
		asm.StoreMem(asm.R0, 0, asm.R1, asm.DWord),
		asm.Mod.Imm(asm.R1, 50),
		asm.JNE.Imm(asm.R1, 0, "pass"),
		asm.Mov.Imm(asm.R0, 0),
		asm.Return(),
		asm.Mov.Imm(asm.R0, 1).WithSymbol("pass"),
		asm.Return(),
	}})
	if err != nil {
		t.Fatalf("load a program that drops packets: %v", err)
	}
	t.Cleanup(func() { program.Close() })
	at, err := link.AttachCgroup(link.CgroupOptions{Path: unifiedRoot(t), Attach: ebpf.AttachCGroupInetIngress, Program: program})
	if err != nil {
		t.Fatalf("attach it: %v", err)
	}
	t.Cleanup(func() { at.Close() })
	return func() (n uint64) {
		if err := seen.Lookup(uint32(0), &n); err != nil {
			t.Fatal(err)
		}
		return n / 50
	}
}

// unifiedRoot is the root of cgroup v2, mounted for the test where it is not.
func unifiedRoot(t *testing.T) string {
	t.Helper()
	const usual = "/sys/fs/cgroup"
	var fs unix.Statfs_t
	if unix.Statfs(usual, &fs) == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC {
		return usual
	}
	dir := filepath.Join(tempDir(t), "cgroup")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("none", dir, "cgroup2", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// transfer is what a connection is to move, and what it took by the test's own clock.
type transfer struct {
	out, in      int64
	port         int
	began, ended time.Time     // before connect, and after the peer's end had come: it lasted no longer
	least        time.Duration // from when it was connected to its close: nor less
}

// TestLossyBytes: bytes are exact to the byte, and durations within the test's own clock, for connections that move nothing to many MiB both
// ways, also on a line that loses packets.
func TestLossyBytes(t *testing.T) {
	sizes := []int64{0, 1, 1 << 20, 16 << 20}
	if os.Getenv("CONNTAPE_TEST_LONG") != "" {
		sizes = append(sizes, 100<<20)
	}
	listens, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listens.Close()
	go serveSizes(listens)
	dir := tempDir(t)
	tape := record(t, dir)
	var dropped func() uint64
	if !netem(t) {
		dropped = losePackets(t, listens.Addr().(*net.TCPAddr).Port)
	}
	var all []*transfer
	var done sync.WaitGroup
	for _, out := range sizes {
		for _, in := range sizes {
			one := &transfer{out: out, in: in}
			all = append(all, one)
			done.Go(func() {
				if err := one.run(listens.Addr().String()); err != nil {
					t.Errorf("%d out, %d in: %v", out, in, err)
				}
			})
		}
	}
	done.Wait()
	tape.stop(t)
	by := "netem"
	if dropped != nil {
		if by = fmt.Sprintf("%d packets", dropped()); dropped() == 0 {
			t.Fatal("no packet was lost: this test shows nothing")
		}
	}
	var again int64
	for _, one := range all {
		got := rows(t, dir, `SELECT * FROM connections WHERE pid = ? AND local_port = ? AND remote_port = ?`, os.Getpid(), one.port, listens.Addr().(*net.TCPAddr).Port)
		if len(got) != 1 {
			t.Fatalf("%d rows of port %d", len(got), one.port)
		}
		again += got[0].int("retransmits")
		match(t, fmt.Sprintf("%d out, %d in", one.out, one.in), got[0], want{
			"outcome": "established", "outcome_source": "kernel", "bytes_sent": one.out + 8, "bytes_received": one.in, "closed_by": "local",
			"duration_ns": between(int64(one.least-time.Millisecond), int64(one.ended.Sub(one.began)+time.Millisecond)),
		})
	}
	t.Logf("%d connections, lost by %s, %d segments sent again", len(all), by, again)
	if again == 0 {
		t.Error("packets were lost, and no row has retransmits")
	}
}

// run asks for in bytes, sends out, and closes its side first.
func (x *transfer) run(to string) error {
	x.began = time.Now()
	c, err := net.Dial("tcp4", to)
	if err != nil {
		return err
	}
	connected := time.Now()
	defer c.Close()
	x.port = c.LocalAddr().(*net.TCPAddr).Port
	ask := []byte{7: byte(0)}
	for i := range ask {
		ask[i] = byte(x.in >> (8 * i))
	}
	if _, err := c.Write(ask); err != nil {
		return err
	}
	sent := make(chan error, 1)
	go func() {
		_, err := io.CopyN(c, zeros{}, x.out)
		sent <- err
	}()
	if _, err := io.CopyN(io.Discard, c, x.in); err != nil {
		return err
	}
	if err := <-sent; err != nil {
		return err
	}
	x.least = time.Since(connected)
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, c)
	x.ended = time.Now()
	return err
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// serveSizes sends each client as many bytes as its first eight say, and reads to the client's end.
func serveSizes(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			var ask [8]byte
			if _, err := io.ReadFull(c, ask[:]); err != nil {
				return
			}
			var n int64
			for i, b := range ask {
				n |= int64(b) << (8 * i)
			}
			sent := make(chan struct{})
			go func() { io.CopyN(c, zeros{}, n); close(sent) }()
			io.Copy(io.Discard, c)
			<-sent
		}()
	}
}
