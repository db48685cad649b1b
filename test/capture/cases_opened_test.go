package capture

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// openedEvents have a recorder tell of all that openSockets does.
const openedEvents = "accept,sendto,socket,setsockopt,bind,listen"

// An openedStep opens something that can see or make packets, or binds or listens. It returns the rows that it makes: view, action, family,
// type, protocol, local address.
type openedStep struct {
	name  string
	do    func(*opener) ([]string, error)
	blind string // word in the blind spots of who cannot see it
}

// openedResult is what a step did.
type openedResult struct {
	Rows []string
	NA   string // why this machine cannot
}

func openedSteps() []openedStep {
	arp, all := networkOrder(unix.ETH_P_ARP), int(networkOrder(unix.ETH_P_ALL))
	one := func(what ...string) []string { return what }
	return []openedStep{
		{name: "raw4", do: func(o *opener) ([]string, error) {
			return one("sockets_opened socket ipv4 raw icmp"), o.open(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)
		}},
		{name: "raw6", do: func(o *opener) ([]string, error) {
			return one("sockets_opened socket ipv6 raw ipv6-icmp"), o.open(unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_ICMPV6)
		}},
		{name: "ping4", do: func(o *opener) ([]string, error) {
			if os.Getenv("IN_GUEST") == "1" {
				_ = os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 0"), 0)
			}
			return one("sockets_opened socket ipv4 dgram icmp"), o.open(unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP)
		}},
		{name: "hdrincl", do: func(o *opener) ([]string, error) {
			err := o.open(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_UDP)
			if err == nil {
				err = unix.SetsockoptInt(o.fd, unix.SOL_IP, unix.IP_HDRINCL, 1)
			}
			return one("sockets_opened socket ipv4 raw udp", "sockets_opened hdrincl ipv4 raw udp"), err
		}},
		{name: "packet", do: func(o *opener) ([]string, error) {
			return one("sockets_opened socket packet raw all"), o.open(unix.AF_PACKET, unix.SOCK_RAW, all)
		}},
		{name: "packet-promiscuous", do: func(o *opener) ([]string, error) {
			return one("sockets_opened promiscuous packet raw all any interface"), unix.SetsockoptPacketMreq(o.fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP,
				&unix.PacketMreq{Ifindex: 1, Type: unix.PACKET_MR_PROMISC})
		}},
		{name: "packet-bind", do: func(o *opener) ([]string, error) {
			return one("sockets_opened bind packet raw arp lo"), unix.Bind(o.fd, &unix.SockaddrLinklayer{Protocol: arp, Ifindex: 1})
		}},
		{name: "packet-filter", do: func(o *opener) ([]string, error) {
			code := []unix.SockFilter{{Code: unix.BPF_RET}}
			return one("sockets_opened filter packet raw arp lo"), unix.SetsockoptSockFprog(o.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &code[0]})
		}},
		{name: "packet-bpf", do: func(o *opener) ([]string, error) {
			p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SocketFilter, License: "MIT", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}})
			if err == nil {
				err = unix.SetsockoptInt(o.fd, unix.SOL_SOCKET, unix.SO_ATTACH_BPF, p.FD())
			}
			return one("sockets_opened bpf packet raw arp lo"), err
		}},
		{name: "packet-fanout", do: func(o *opener) ([]string, error) {
			return one("sockets_opened fanout packet raw arp lo"), unix.SetsockoptInt(o.fd, unix.SOL_PACKET, unix.PACKET_FANOUT, os.Getpid()&0xffff)
		}},
		{name: "packet-bypass", do: func(o *opener) ([]string, error) {
			return one("sockets_opened bypass packet raw arp lo"), unix.SetsockoptInt(o.fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1)
		}},
		{name: "packet-of-inet", do: func(o *opener) ([]string, error) {
			return one("sockets_opened socket packet packet ipv4"), o.open(unix.AF_INET, unix.SOCK_PACKET, int(networkOrder(unix.ETH_P_IP)))
		}},
		{name: "xdp", do: func(o *opener) ([]string, error) {
			return one("sockets_opened socket xdp raw"), o.open(unix.AF_XDP, unix.SOCK_RAW, 0)
		}},
		{name: "tun", blind: "TUN and TAP", do: func(o *opener) ([]string, error) {
			return one("sockets_opened tun opened0"), o.device("opened0", unix.IFF_TUN)
		}},
		{name: "tap", blind: "TUN and TAP", do: func(o *opener) ([]string, error) {
			return one("sockets_opened tap opened1"), o.device("opened1", unix.IFF_TAP)
		}},
		{name: "bind-udp4", do: func(o *opener) ([]string, error) {
			err := o.open(unix.AF_INET, unix.SOCK_DGRAM, 0)
			at, err := o.bind(err)
			return one("sockets_opened bind ipv4 dgram udp "+at, "listeners bind ipv4 dgram udp "+at), err
		}},
		{name: "bind-tcp4", do: func(o *opener) ([]string, error) {
			err := o.open(unix.AF_INET, unix.SOCK_STREAM, 0)
			at, err := o.bind(err)
			o.at = at
			return one("sockets_opened bind ipv4 stream tcp " + at), err
		}},
		{name: "listen-tcp4", do: func(o *opener) ([]string, error) {
			return one("listeners listen ipv4 stream tcp " + o.at), unix.Listen(o.fd, 1)
		}},
		{name: "listen-unix", do: func(o *opener) ([]string, error) {
			at := fmt.Sprintf("@opened-%d", os.Getpid())
			err := o.open(unix.AF_UNIX, unix.SOCK_STREAM, 0)
			if err == nil {
				if err = unix.Bind(o.fd, &unix.SockaddrUnix{Name: at}); err == nil {
					err = unix.Listen(o.fd, 1)
				}
			}
			return one("sockets_opened bind unix stream "+at, "listeners listen unix stream "+at), err
		}},
	}
}

func networkOrder(n uint16) uint16 { return n<<8 | n>>8 }

// opener is the process that opens.
type opener struct {
	fd int    // the last socket
	at string // where the last one is bound
}

func (o *opener) open(family, kind, protocol int) (err error) {
	o.fd, err = unix.Socket(family, kind, protocol)
	return err
}

func (o *opener) bind(err error) (at string, _ error) {
	if err == nil {
		err = unix.Bind(o.fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	}
	if err != nil {
		return "", err
	}
	name, err := unix.Getsockname(o.fd)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("127.0.0.1:%d", name.(*unix.SockaddrInet4).Port), nil
}

func (o *opener) device(name string, kind uint16) error {
	const path, number = "/dev/net/tun", 10<<8 | 200
	if os.Getenv("IN_GUEST") == "1" {
		_ = os.MkdirAll("/dev/net", 0o755)
		_ = unix.Mknod(path, unix.S_IFCHR|0o600, number)
	}
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	o.fd = fd
	request, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	request.SetUint16(kind | unix.IFF_NO_PI)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TUNSETIFF, uintptr(unsafe.Pointer(request))); errno != 0 {
		return errno
	}
	return nil
}

// openSockets does all steps and says what it did, a line each.
func openSockets() error {
	var o opener
	out := json.NewEncoder(os.Stdout)
	for _, step := range openedSteps() {
		rows, err := step.do(&o)
		result := openedResult{Rows: rows}
		if err != nil {
			result = openedResult{NA: err.Error()}
		}
		if err := out.Encode(result); err != nil {
			return err
		}
	}
	return nil
}

// openedRun is that process, when it has ended.
type openedRun struct {
	pid     int
	results []openedResult
}

func startOpened(t *testing.T) *openedRun {
	t.Helper()
	cmd := helperCommand("open")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	run := &openedRun{pid: cmd.Process.Pid}
	for lines := bufio.NewScanner(strings.NewReader(string(out))); lines.Scan(); {
		var result openedResult
		if err := json.Unmarshal(lines.Bytes(), &result); err != nil {
			t.Fatal(err)
		}
		run.results = append(run.results, result)
	}
	return run
}

// verify has each step make its rows, each once and of the right process, and no other.
func (o *openedRun) verify(t *testing.T, rows []row) {
	var got []string
	for _, r := range rows {
		if r.int("count") == 1 && r.text("backend") == env.seenBy {
			got = append(got, r.text("line"))
		}
	}
	for i, step := range openedSteps() {
		result, name := o.results[i], "opened-"+step.name
		t.Run(name, func(t *testing.T) {
			blind := step.blind != "" && !env.inGuest && strings.Contains(env.blindSpots, step.blind)
			switch {
			case result.NA != "":
				coverage(name, "", "n/a", result.NA)
				t.Skip(result.NA)
			case blind:
				coverage(name, "", "blind", env.seenBy)
				return
			}
			for _, want := range result.Rows {
				at := slices.Index(got, want)
				if at < 0 {
					coverage(name, "", "failed", env.seenBy)
					t.Fatalf("no row %q in\n%s", want, strings.Join(got, "\n"))
				}
				got = slices.Delete(got, at, at+1)
			}
			_, what, _ := strings.Cut(result.Rows[len(result.Rows)-1], " ")
			action, _, _ := strings.Cut(what, " ")
			coverage(name, "", "seen", env.seenBy+" action="+action)
		})
	}
	if len(got) > 0 {
		t.Errorf("rows that nothing made:\n%s", strings.Join(got, "\n"))
	}
}

// openedRows are the rows of a process.
const openedRows = `SELECT count, backend, source, concat_ws(' ', 'sockets_opened', action, family, type, protocol, local_address || coalesce(':' || local_port, '')) AS line
FROM sockets_opened WHERE pid = ?1
UNION ALL SELECT count, backend, source, concat_ws(' ', 'listeners', action, family, type, protocol, local_address || coalesce(':' || local_port, '')) FROM listeners WHERE pid = ?1`

// keepPacketSocket has a packet socket open before recording begins, so that the recorder watches what is sent through others from the start.
func keepPacketSocket(t *testing.T) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
}
