package capture

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// The peers of flows, in the namespace of a test: one swallows, one gives, and one does both.
const (
	sinkPort   = 7001
	sourcePort = 7002
	bothPort   = 7003
	udpPort    = 7004 // answers each datagram "more" with downloads of 500 bytes

	bulk      = 200_000
	downloads = 20
)

func local4(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
func local6(port int) string { return fmt.Sprintf("[::1]:%d", port) }

// serveFlows answers until the test ends. The thread that calls it has the namespace.
func serveFlows(t *testing.T) {
	t.Helper()
	give := func(c net.Conn) { _, _ = c.Write(make([]byte, bulk)) }
	swallow := func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }
	for port, serve := range map[int]func(net.Conn){
		sinkPort: swallow, sourcePort: give,
		bothPort: func(c net.Conn) { done := make(chan bool); go func() { swallow(c); close(done) }(); give(c); <-done },
	} {
		for _, address := range []string{local4(port), local6(port)} {
			l, err := net.Listen("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					go func() { serve(c); c.Close() }()
				}
			}()
		}
	}
	for _, address := range []string{local4(udpPort), local6(udpPort), local4(443), local4(53)} {
		c, err := net.ListenPacket("udp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		go func() {
			b := make([]byte, 2000)
			for {
				n, from, err := c.ReadFrom(b)
				if err != nil {
					return
				}
				for i := 0; i < downloads && string(b[:n]) == "more"; i++ {
					_, _ = c.WriteTo(b[:500], from)
				}
			}
		}()
	}
}

// runFlow is the helper that makes one of the flows of scenarios.
func runFlow(name string) error {
	for _, s := range scenarios() {
		if s.name == name && s.do != nil {
			return s.do()
		}
	}
	return fmt.Errorf("no flow %q", name)
}

// tcpFlow connects, sends so many bytes in pieces with a pause after each, and reads to the end of what comes.
func tcpFlow(network, address string, sends, piece int, pause time.Duration) error {
	c, err := net.Dial(network, address)
	if err != nil {
		return err
	}
	defer c.Close()
	var reading sync.WaitGroup
	reading.Go(func() { _, _ = io.Copy(io.Discard, c) })
	for left := sends; left > 0; left -= piece {
		if _, err := c.Write(make([]byte, min(left, piece))); err != nil {
			return err
		}
		time.Sleep(pause)
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	reading.Wait()
	return nil
}

// withTCP hands over the descriptor of a connection, and waits for its end.
func withTCP(address string, use func(fd int) error) error {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	f, err := c.(*net.TCPConn).File() // it blocks
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.SetNonblock(int(f.Fd()), false); err != nil {
		return err
	}
	return use(int(f.Fd()))
}

// sendFile sends a part of a file with sendfile.
func sendFile(address string, size int) error {
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer f.Close()
	return withTCP(address, func(fd int) error {
		for size > 0 {
			n, err := unix.Sendfile(fd, int(f.Fd()), nil, size)
			if err != nil {
				return err
			}
			size -= n
		}
		return unix.Shutdown(fd, unix.SHUT_WR)
	})
}

// spliceAway reads a connection to its end into a pipe, and from there to nowhere.
func spliceAway(address string) error {
	null, err := os.OpenFile("/dev/null", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	var pipe [2]int
	if err := unix.Pipe(pipe[:]); err != nil {
		return err
	}
	return withTCP(address, func(fd int) error {
		for {
			n, err := unix.Splice(fd, nil, pipe[1], nil, 1<<16, 0)
			if err != nil || n == 0 {
				return err
			}
			if _, err := unix.Splice(pipe[0], nil, int(null.Fd()), nil, int(n), 0); err != nil {
				return err
			}
		}
	})
}

// udpFlow sends datagrams without connect, and reads so many.
func udpFlow(address string, count, size int, reads int) error {
	c, err := net.ListenPacket("udp", "")
	if err != nil {
		return err
	}
	defer c.Close()
	to, err := net.ResolveUDPAddr("udp", address)
	if err != nil {
		return err
	}
	b := make([]byte, 2000)
	if reads > 0 { // before the peer's buffer is full
		if _, err := c.WriteTo([]byte("more"), to); err != nil {
			return err
		}
	}
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	for range reads {
		if _, _, err := c.ReadFrom(b); err != nil {
			return err
		}
	}
	clear(b)
	for range count {
		if _, err := c.WriteTo(b[:size], to); err != nil {
			return err
		}
	}
	return nil
}

// batchFlow sends datagrams by one sendmmsg, and reads so many by recvmmsg.
func batchFlow(address string, count, size int, reads int) error {
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer c.Close()
	to, err := net.ResolveUDPAddr("udp4", address)
	if err != nil {
		return err
	}
	messages := make([]ipv4.Message, max(count, reads))
	for i := range messages {
		messages[i] = ipv4.Message{Buffers: [][]byte{make([]byte, size)}, Addr: to}
	}
	p := ipv4.NewPacketConn(c)
	if n, err := p.WriteBatch(messages[:count], 0); err != nil || n != count {
		return fmt.Errorf("%d of %d sent: %w", n, count, err)
	}
	if reads == 0 {
		return nil
	}
	if _, err := c.WriteTo([]byte("more"), to); err != nil {
		return err
	}
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	for reads > 0 {
		n, err := p.ReadBatch(messages[:reads], 0)
		if err != nil {
			return err
		}
		reads -= n
	}
	return nil
}

// errFlowNotHere means that this kernel cannot make a flow.
var errFlowNotHere = errors.New("not here")

// rawFlow sends through a socket of any family without connect.
func rawFlow(family, kind, protocol int, to unix.Sockaddr, count, size int) error {
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, protocol)
	if errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.ESOCKTNOSUPPORT) {
		return fmt.Errorf("%w: %w", errFlowNotHere, err)
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	b := make([]byte, size)
	b[0] = 8 // an echo request, if it is ICMP
	for range count {
		if err := unix.Sendto(fd, b, 0, to); err != nil {
			return err
		}
	}
	return nil
}

// manyTimes does something in so many threads, or one after another.
func manyTimes(n int, atOnce bool, do func() error) error {
	errs := make([]error, n)
	var wait sync.WaitGroup
	for i := range errs {
		if !atOnce {
			errs[i] = do()
			continue
		}
		wait.Go(func() { errs[i] = do() })
	}
	wait.Wait()
	return errors.Join(errs...)
}

// childFlow is a process of its own that lives for one flow.
func childFlow() error {
	cmd := exec.Command("/proc/self/exe", "child")
	if path, err := os.Readlink("/proc/self/exe"); err == nil {
		cmd.Path = path
	}
	cmd.Env = append(os.Environ(), helperVariable+"=flow")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}
