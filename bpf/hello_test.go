package bpf

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// helloOf is a record of TLS with a ClientHello whose body has so many bytes.
func helloOf(body int) []byte {
	n := body + 4
	b := []byte{22, 3, 1, byte(n >> 8), byte(n), 1, byte(body >> 16), byte(body >> 8), byte(body)}
	for i := range body {
		b = append(b, byte(i*7))
	}
	return b
}

// said is a client that writes, and what is told of it.
type said struct {
	name  string
	write func(fd int) error
	want  []byte // nil: nothing
}

func writes(parts ...[]byte) func(int) error {
	return func(fd int) error {
		for _, part := range parts {
			if n, err := unix.Write(fd, part); err != nil || n != len(part) {
				return fmt.Errorf("wrote %d of %d: %w", n, len(part), err)
			}
		}
		return nil
	}
}

func clients() []said {
	hello, long := helloOf(500), helloOf(16_000)
	request := []byte("POST /x HTTP/1.1\r\nHost: example.com\r\n\r\n")
	body := append(slices.Clone(request), bytes.Repeat([]byte("secret"), 2000)...)
	return []said{
		{"whole, and data after it", writes(append(slices.Clone(hello), "early data"...)), hello},
		{"in two writes, and data after it", writes(hello[:300], append(slices.Clone(hello[300:]), "early data"...), []byte("more")), hello},
		{"byte by byte", writes(slices.Collect(slices.Chunk(hello[:200], 1))...), hello[:200]},
		{"long", writes(long), long},
		{"send", func(fd int) error { return unix.Send(fd, hello, 0) }, hello},
		{"sendmsg", func(fd int) error { return unix.Sendmsg(fd, hello, nil, nil, 0) }, hello},
		{"writev", func(fd int) error {
			_, err := unix.Writev(fd, [][]byte{hello[:5], {}, hello[5:100], hello[100:]})
			return err
		}, hello},
		{"a request", writes(request), request},
		{"a request and its body", writes(body), body[:4096]},
		{"another protocol", writes([]byte("EHLO example.com\r\n"), hello), nil},
		{"another message of TLS", writes(append([]byte{22, 3, 1, 1, 0, 2}, hello...)), nil},
		{"nothing", writes(), nil},
	}
}

// TestHellos has every backend that attaches here tell of what clients send first if it may name a server, whoever wrote it in how many
// parts, and of nothing else; with the connect that it is of.
func TestHellos(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: loading programs takes root")
	}
	for _, backend := range Backends() {
		t.Run(string(backend), func(t *testing.T) {
			c, err := Open(Options{Backend: backend, Events: Events{TLS: true, HTTP: true}, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
			attachedOrSkip(t, err)
			defer c.Close()
			if spots := c.BlindSpots(); slices.ContainsFunc(spots, func(s string) bool { return strings.Contains(s, unseenHellos) }) {
				t.Fatalf("blind: %q", spots)
			}
			runtime.LockOSThread() // and never unlocked: the thread ends with the test
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				t.Fatal(err)
			}
			upLoopback(t)
			listener := bound(t, unix.SOCK_STREAM, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
			if err := unix.Listen(listener, 8); err != nil {
				t.Fatal(err)
			}
			for _, one := range clients() {
				holdHello(t, c, listener, one)
			}
			if n, err := c.Counters(); err != nil || n.AnswerSeen == 0 || n.AnswerSeen != n.AnswerSent || n.AnswerLost != 0 {
				t.Errorf("counted %+v, %v", n, err)
			}
		})
	}
}

func holdHello(t *testing.T, c *Capture, listener int, one said) {
	t.Helper()
	at, err := unix.Getsockname(listener)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, at); err != nil {
		t.Fatal(err)
	}
	peer, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(peer)
	if err := one.write(fd); err != nil {
		t.Fatalf("%s: %v", one.name, err)
	}
	_, _ = unix.Write(peer, []byte("an answer"))
	b := make([]byte, 16)
	_, _ = unix.Read(fd, b)
	_, _ = unix.Write(fd, helloOf(10)) // this is not what it sends first
	id := attemptTo(t, c, at.(*unix.SockaddrInet4).Port)
	var got []byte
	for {
		var a Answer
		ok, err := c.ReadAnswer(&a)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		size := len(got)
		got = append(got, a.Bytes...)
		if !a.Hello || a.Attempt != id || a.Key.Tgid != uint32(os.Getpid()) || int(a.Sequence) != size || a.From.String() != "127.0.0.1" || int(a.Port) != at.(*unix.SockaddrInet4).Port {
			a.Bytes = nil
			t.Errorf("%s: told of %+v, attempt %+v, with %d bytes before", one.name, a, id, size)
		}
	}
	if !bytes.Equal(got, one.want) {
		t.Errorf("%s: told of %d bytes, want %d", one.name, len(got), len(one.want))
	}
}

// attemptTo reads connects, and returns the first one of this process to a port: a second is that of a system call that a signal restarted.
func attemptTo(t *testing.T, c *Capture, port int) (id ID) {
	t.Helper()
	for {
		var r Connect
		err := c.ReadConnect(time.Now(), &r)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if r.Key.Tgid == uint32(os.Getpid()) && len(r.Remote) > 3 && int(r.Remote[2])<<8|int(r.Remote[3]) == port {
			if id == (ID{}) {
				id = r.ID()
			}
		}
	}
	return id
}
