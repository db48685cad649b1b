package capture

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// openFound makes sockets that are there when the recorder begins. It returns the rows that they make.
func openFound(t *testing.T) (want []string) {
	t.Helper()
	keep := func(c interface{ Close() error }, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
	}
	var plain net.ListenConfig
	plain.SetMultipathTCP(false)
	tcp, err := plain.Listen(t.Context(), "tcp4", "127.0.0.1:0")
	keep(tcp, err)
	udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
	keep(udp, err)
	path := fmt.Sprintf("@found-%d", os.Getpid())
	stream, err := net.Listen("unix", path)
	keep(stream, err)
	packet, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(networkOrder(unix.ETH_P_ALL)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(packet) })
	code := []unix.SockFilter{{Code: unix.BPF_RET}}
	if err := unix.SetsockoptSockFprog(packet, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &code[0]}); err != nil {
		t.Fatal(err)
	}
	var o opener
	open := func(err error) error {
		fd := o.fd
		t.Cleanup(func() { unix.Close(fd) })
		return err
	}
	if err := open(o.open(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP)); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetsockoptInt(o.fd, unix.SOL_IP, unix.IP_HDRINCL, 1); err != nil {
		t.Fatal(err)
	}
	for i, device := range []string{"tun", "tap"} {
		if err := open(o.device("found-"+device, []uint16{unix.IFF_TUN, unix.IFF_TAP}[i])); err != nil {
			t.Logf("SKIPPED: %s: %v", device, err)
			continue
		}
		want = append(want, "sockets_opened "+device+" found-"+device)
	}
	return append(want,
		"sockets_opened socket ipv4 raw udp", "sockets_opened hdrincl ipv4 raw udp",
		fmt.Sprint("listeners listen ipv4 stream tcp ", tcp.Addr()), fmt.Sprint("sockets_opened bind ipv4 stream tcp ", tcp.Addr()),
		fmt.Sprint("listeners bind ipv4 dgram udp ", udp.LocalAddr()), fmt.Sprint("sockets_opened bind ipv4 dgram udp ", udp.LocalAddr()),
		"listeners listen unix stream "+path, "sockets_opened bind unix stream "+path,
		"sockets_opened socket packet raw all", "sockets_opened filter packet raw all any interface")
}

// verifyFound has those sockets be on the tape, each once.
func verifyFound(t *testing.T, want []string, all []row) {
	var got []string
	for _, r := range all {
		if r.text("source") == "snapshot" {
			got = append(got, r.text("line"))
		}
	}
	for _, line := range want {
		view, what, _ := strings.Cut(line, " ")
		fields := strings.Fields(what)
		name := "found-" + strings.Join(append([]string{view}, fields[:min(len(fields), 3)]...), "-")
		t.Run(name, func(t *testing.T) {
			if fields[0] == "tun" || fields[0] == "tap" {
				if strings.Contains(env.blindSpots, "TUN and TAP devices that were there before") {
					coverage(name, "", "blind", env.seenBy)
					return
				}
			}
			at := slices.Index(got, line)
			if at < 0 {
				coverage(name, "", "failed", env.seenBy)
				t.Fatalf("no row %q in\n%s", line, strings.Join(got, "\n"))
			}
			got = slices.Delete(got, at, at+1)
			coverage(name, "", "seen", env.seenBy+" source=snapshot")
		})
	}
	for _, line := range got { // the runtime of Go and other tests may have sockets of their own
		if slices.Contains(want, line) {
			t.Errorf("two rows %q", line)
		}
	}
}
