package bpf

import (
	"bytes"
	"encoding/binary"
	"log/slog"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestAnswers has every backend that attaches here tell of what a DNS server sends, whole, with the socket that got it and the
// network namespace of that; and of nothing else.
func TestAnswers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: loading programs takes root")
	}
	for _, backend := range Backends() {
		t.Run(string(backend), func(t *testing.T) {
			c, err := Open(Options{Backend: backend})
			attachedOrSkip(t, err)
			c.Close()
			if c, err = Open(Options{Backend: backend, Events: Events{Sends: true, Names: true}, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}); err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if slices.Contains(c.BlindSpots(), unseenNames) {
				t.Fatal("blind to names")
			}
			runtime.LockOSThread() // and never unlocked: the thread ends with the test
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				t.Fatal(err)
			}
			upLoopback(t)
			var ns unix.Stat_t
			if err := unix.Stat("/proc/thread-self/ns/net", &ns); err != nil {
				t.Fatal(err)
			}
			holdNames(t, c, uint32(ns.Ino))
		})
	}
}

func upLoopback(t *testing.T) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, r); err != nil {
		t.Fatal(err)
	}
}

// answerOf is a message of so many bytes with the bit QR, or without it.
func answerOf(size int, response bool) []byte {
	b := bytes.Repeat([]byte{7}, size)
	b[2] = 1
	if response {
		b[2] = 0x81
	}
	return b
}

func holdNames(t *testing.T, c *Capture, ns uint32) {
	server, client := unix.SockaddrInet4{Port: 53, Addr: [4]byte{127, 0, 0, 53}}, unix.SockaddrInet4{Port: 5300, Addr: [4]byte{127, 0, 0, 1}}
	other := unix.SockaddrInet4{Port: 54, Addr: [4]byte{127, 0, 0, 53}}
	from, connected, plain, stranger := bound(t, unix.SOCK_DGRAM, &server), bound(t, unix.SOCK_DGRAM, &client), bound(t, unix.SOCK_DGRAM, &unix.SockaddrInet4{Port: 5301}), bound(t, unix.SOCK_DGRAM, &other)
	if err := unix.Connect(connected, &server); err != nil {
		t.Fatal(err)
	}
	send := func(fd int, b []byte, to *unix.SockaddrInet4) {
		t.Helper()
		if err := unix.Sendto(fd, b, 0, to); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Sendto(plain, answerOf(20, false), 0, &server); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{12, 256, 257, 1025, 4097, 65_000} {
		send(from, answerOf(size, true), &client)
		send(from, answerOf(size, true), &unix.SockaddrInet4{Port: 5301, Addr: [4]byte{127, 0, 0, 1}})
		for _, fd := range []int{connected, plain} {
			a := readAnswer(t, c)
			if !bytes.Equal(a.Bytes, answerOf(size, true)) || a.Whole != size || a.From != netip.MustParseAddr("127.0.0.53") || a.NetNS != ns || a.TCP || a.Cookie != cookieOf(t, fd) {
				t.Errorf("of %d bytes came %d of %d, from %v, namespace %d (want %d), cookie %d", size, len(a.Bytes), a.Whole, a.From, a.NetNS, ns, a.Cookie)
			}
			if noted := a.Key.Tgid == uint32(os.Getpid()); fd == connected && noted != c.notes() {
				t.Errorf("noted is %+v", a.Key)
			}
		}
	}
	send(from, answerOf(100, false), &client)
	send(from, answerOf(11, true), &client)
	send(stranger, answerOf(100, true), &unix.SockaddrInet4{Port: 5301, Addr: [4]byte{127, 0, 0, 1}})
	var a Answer
	if ok, err := c.ReadAnswer(&a); ok || err != nil {
		t.Errorf("told of %+v, %v", a, err)
	}
	holdStream(t, c, &server)
	if n, err := c.Counters(); err != nil || n.AnswerSeen == 0 || n.AnswerSeen != n.AnswerSent || n.AnswerLost != 0 {
		t.Errorf("counted %+v, %v", n, err)
	}
}

// notes tells whether the process is noted for want of cookies.
func (c *Capture) notes() bool {
	return slices.ContainsFunc(c.attached, func(a attachment) bool { return a.hook.program == "dns_asker4" })
}

// holdStream has the server answer over TCP.
func holdStream(t *testing.T, c *Capture, at *unix.SockaddrInet4) {
	listener, client := bound(t, unix.SOCK_STREAM, at), bound(t, unix.SOCK_STREAM, &unix.SockaddrInet4{})
	if err := unix.Listen(listener, 1); err != nil {
		t.Fatal(err)
	}
	if err := unix.Connect(client, at); err != nil {
		t.Fatal(err)
	}
	fd, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	_, _ = unix.Write(client, []byte("a question"))
	var next uint32
	for i, part := range []string{"one", "another one"} {
		if _, err := unix.Write(fd, []byte(part)); err != nil {
			t.Fatal(err)
		}
		a := readAnswer(t, c)
		if string(a.Bytes) != part || !a.TCP || a.Cookie != cookieOf(t, client) || i > 0 && a.Sequence != next {
			t.Errorf("part %d is %+v", i, a)
		}
		next = a.Sequence + uint32(len(part))
	}
}

func bound(t *testing.T, kind int, at unix.Sockaddr) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if err := unix.Bind(fd, at); err != nil {
		t.Fatal(err)
	}
	return fd
}

func cookieOf(t *testing.T, fd int) uint64 {
	t.Helper()
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	if err != nil {
		t.Fatal(err)
	}
	return cookie
}

func readAnswer(t *testing.T, c *Capture) (a Answer) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if ok, err := c.ReadAnswer(&a); ok || err != nil {
			if err != nil {
				t.Fatal(err)
			}
			return a
		}
	}
	t.Fatal("no answer was told of")
	return a
}

func TestAnswerLayout(t *testing.T) {
	fields, size := members(t, "answer")
	if size != answerSize {
		t.Errorf("struct answer has %d bytes, the decoder takes %d", size, answerSize)
	}
	for _, f := range fields {
		b := make([]byte, answerSize+64)
		want := put(b, f, 5)
		if f.name == "len" {
			binary.NativeEndian.PutUint32(b[f.offset:], 64)
			want = 64
		}
		var a Answer
		if err := a.decode(b); err != nil {
			t.Fatal(err)
		}
		got, known := map[string]uint64{
			"boot_time": a.BootTime, "cookie": a.Cookie, "process.start": a.Key.Start, "process.tgid": uint64(a.Key.Tgid), "process.exec": uint64(a.Key.Exec),
			"netns": uint64(a.NetNS), "sequence": uint64(a.Sequence), "len": uint64(len(a.Bytes)), "whole": uint64(a.Whole),
		}[f.name]
		if known && got != want {
			t.Errorf("%s is %d, want %d", f.name, got, want)
		}
	}
	b := make([]byte, answerSize)
	b[64], b[66], b[48] = familyInet, 6, 10
	var a Answer
	if err := a.decode(b); err != nil || !a.TCP || a.From != netip.MustParseAddr("10.0.0.0") {
		t.Errorf("decoded %+v, %v", a, err)
	}
	b[40] = 1
	if err := a.decode(b); err == nil {
		t.Error("a message that is longer than its record was decoded")
	}
}
