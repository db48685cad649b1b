package capture

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

// nameServer is where the server of these tests answers, in a network namespace of its own: by UDP and TCP, with what one would find
// at 127.0.0.53.
const nameServer = "127.0.0.53:53"

// addressOfName is what the server says of a name: the number at its beginning is the last of the address.
func addressOfName(name string) [4]byte {
	var n byte
	fmt.Sscanf(name, "n%d-", &n)
	return [4]byte{127, 0, 7, n}
}

// answerTo answers a question: by a CNAME. No name has an address of IPv6.
func answerTo(question []byte) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(question); err != nil {
		return nil, err
	}
	m.Response = true
	q, alias := m.Questions[0], dnsmessage.MustNewName("alias.example.")
	if q.Type == dnsmessage.TypeAAAA {
		return m.Pack()
	}
	m.Answers = []dnsmessage.Resource{
		{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 60}, Body: &dnsmessage.CNAMEResource{CNAME: alias}},
		{Header: dnsmessage.ResourceHeader{Name: alias, Class: q.Class, TTL: 60}, Body: &dnsmessage.AResource{A: addressOfName(q.Name.String())}},
	}
	return m.Pack()
}

// questions are what a server was asked.
type questions struct {
	mu    sync.Mutex
	count map[string]int64 // by name and type
}

func (a *questions) note(question []byte) {
	var m dnsmessage.Message
	if m.Unpack(question) != nil || len(m.Questions) == 0 {
		return
	}
	q := m.Questions[0]
	a.mu.Lock()
	defer a.mu.Unlock()
	a.count[strings.TrimSuffix(q.Name.String(), ".")+" "+strings.TrimPrefix(q.Type.String(), "Type")]++
}

// take returns them and begins anew.
func (a *questions) take() map[string]int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	taken := a.count
	a.count = map[string]int64{}
	return taken
}

// serveNames answers at nameServer until the test ends. The thread that calls it has the namespace.
func serveNames(t *testing.T) { serveNamesAt(t, nameServer, func([]byte) {}) }

// serveNamesAt answers at an address. It passes on each question, one at a time or several.
func serveNamesAt(t *testing.T, address string, asked func(question []byte)) {
	udp, err := net.ListenPacket("udp4", address)
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp4", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { udp.Close(); tcp.Close() })
	go func() {
		b := make([]byte, 512)
		for {
			n, from, err := udp.ReadFrom(b)
			if err != nil {
				return
			}
			asked(b[:n])
			if answer, err := answerTo(b[:n]); err == nil {
				_, _ = udp.WriteTo(answer, from)
			}
		}
	}()
	go func() {
		for {
			c, err := tcp.Accept()
			if err != nil {
				return
			}
			question := make([]byte, 512)
			n, _ := c.Read(question)
			asked(question[2:max(n, 2)])
			if answer, err := answerTo(question[2:max(n, 2)]); err == nil {
				framed := append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...)
				for _, part := range [][]byte{framed[:7], framed[7:]} { // in two segments
					_, _ = c.Write(part)
					time.Sleep(5 * time.Millisecond)
				}
			}
			c.Close()
		}
	}()
}

// lookUp asks the server for a name and reads the answer. sendto: by a socket that is not connected.
func lookUp(network, name string) error {
	q := dnsmessage.Message{Header: dnsmessage.Header{ID: 1}, Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
	question, err := q.Pack()
	if err != nil {
		return err
	}
	answer := make([]byte, 512)
	if network == "sendto" {
		c, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err = c.WriteTo(question, net.UDPAddrFromAddrPort(netip.MustParseAddrPort(nameServer))); err == nil {
			_, _, err = c.ReadFrom(answer)
		}
		return err
	}
	c, err := net.Dial(network, nameServer)
	if err != nil {
		return err
	}
	defer c.Close()
	if network == "tcp4" {
		question = append(binary.BigEndian.AppendUint16(nil, uint16(len(question))), question...)
	}
	if _, err = c.Write(question); err != nil {
		return err
	}
	if network == "tcp4" {
		_, err = io.ReadAll(c)
		return err
	}
	_, err = c.Read(answer)
	return err
}

// inOwnNetwork runs fn in a thread with a network namespace of its own, which has a loopback. The thread ends with it.
func inOwnNetwork(t *testing.T, fn func()) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		defer close(done) // also where fn ends the goroutine by t.Fatal
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = raise("lo", netip.Addr{})
		}
		if err == nil {
			fn()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// raise gives a device an address, unless it is the zero one, and switches it on.
func raise(device string, address netip.Addr) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq(device)
	if err != nil {
		return err
	}
	if address.IsValid() {
		if err := r.SetInet4Addr(address.AsSlice()); err != nil {
			return err
		}
		if err := unix.IoctlIfreq(fd, unix.SIOCSIFADDR, r); err != nil {
			return err
		}
	}
	r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, r)
}

// knock connects to an address where nobody listens.
func knock(n byte) {
	if c, err := net.Dial("tcp4", fmt.Sprintf("127.0.7.%d:4433", n)); err == nil {
		c.Close()
	}
}

// TestNames: a connect says which names led there: by UDP, connected or not, by TCP, by a stub, three names of one address; and none that
// was looked up in another network namespace. Each lookup is on the tape, whether a connect followed or not. A connection has the name by which
// its client calls the server.
func TestNames(t *testing.T) {
	dir := tempDir(t)
	tape := record(t, dir, "--names", "dns,sni,http")
	var to string
	var said []string
	stub := filepath.Join(tempDir(t), "nscd")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	copyFile(t, self, stub)
	if err := os.Chmod(stub, 0o755); err != nil {
		t.Fatal(err)
	}
	inOwnNetwork(t, func() {
		serveNames(t)
		for _, one := range []struct{ network, name string }{{"udp4", "n1-udp.example."}, {"sendto", "n2-sendto.example."}, {"tcp4", "n3-tcp.example."},
			{"udp4", "n4-c.example."}, {"udp4", "n4-a.example."}, {"sendto", "n4-B.example."}, {"udp4", "n9-never.example."}} {
			if err := lookUp(one.network, one.name); err != nil {
				t.Errorf("%s: %v", one.name, err)
			}
		}
		cmd := helperCommand("lookup", "udp4", "n5-stub.example.")
		cmd.Path = stub
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		for n := byte(1); n <= 6; n++ {
			knock(n)
		}
		to = swallow(t)
		said = sayHellos(t, to)
	})
	inOwnNetwork(t, func() { knock(1) })
	tape.stop(t)

	holdHellos(t, dir, to, said)
	steps := []string{"dns-udp", "dns-sendto", "dns-tcp", "dns-three", "dns-stub", "", ""}
	if spot := "names that processes look up"; strings.Contains(blindSpots(t, dir), spot) {
		nameCoverage(t, dir, steps, "blind", nil)
		t.Skip("SKIPPED: " + spot)
	}
	var got []string
	for _, r := range rows(t, dir, `SELECT remote_ip, remote_name, name_source FROM connections WHERE pid = ? AND remote_port = 4433 ORDER BY time_ns`, os.Getpid()) {
		got = append(got, r.text("remote_ip")+" "+r.text("remote_name")+" "+r.text("name_source"))
	}
	want := []string{
		"127.0.7.1 n1-udp.example dns", "127.0.7.2 n2-sendto.example dns", "127.0.7.3 n3-tcp.example dns",
		"127.0.7.4 n4-a.example n4-b.example n4-c.example dns", "127.0.7.5 n5-stub.example stub", "127.0.7.6  ", "127.0.7.1  ",
	}
	if !slices.Equal(got, want) {
		t.Errorf("connects:\ngot  %q\nwant %q", got, want)
		nameCoverage(t, dir, steps, "failed", nil)
	} else {
		nameCoverage(t, dir, steps, "seen", want)
	}
	got = nil
	for _, r := range rows(t, dir, `SELECT name, type || ' ' || rcode || ' ' || answers || ' ' || ttl || ' ' || count || ' ' || protocol || ' ' || server_address AS what, pid, exe FROM lookups WHERE ttl IS NOT NULL ORDER BY time_ns`) {
		if r.text("exe") != stub && r.int("pid") != int64(os.Getpid()) {
			continue // of somebody else on this host
		}
		got = append(got, r.text("name")+" "+r.text("what"))
	}
	want = nil
	for _, one := range []struct{ name, protocol string }{{"n1-udp", "udp"}, {"n2-sendto", "udp"}, {"n3-tcp", "tcp"}, {"n4-c", "udp"}, {"n4-a", "udp"}, {"n4-b", "udp"}, {"n9-never", "udp"}, {"n5-stub", "udp"}} {
		want = append(want, fmt.Sprintf("%s.example A NOERROR cname:alias.example 127.0.7.%c 60 1 %s 127.0.0.53", one.name, one.name[1], one.protocol))
	}
	if !slices.Equal(got, want) {
		t.Errorf("lookups:\ngot  %q\nwant %q", got, want)
	}
}

// TestNoPayload: with --no-payload nobody looks at what is sent.
func TestNoPayload(t *testing.T) {
	dir := tempDir(t)
	tape := record(t, dir, "--no-payload")
	inOwnNetwork(t, func() {
		serveNames(t)
		if err := lookUp("udp4", "n1-udp.example."); err != nil {
			t.Error(err)
		}
		knock(1)
	})
	tape.stop(t)
	if n := number(t, dir, `SELECT (SELECT count(*) FROM lookups) + (SELECT count(remote_name) FROM connections)`); n != 0 {
		t.Errorf("%d rows have names", n)
	}
	if counter(t, dir, "lookup_seen") != 0 {
		t.Error("answers were seen")
	}
}
