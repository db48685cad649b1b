package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/cilium/ebpf"
)

const unseenNames = "names that processes look up by DNS: this kernel does not take the program, or has no cgroup v2"

const unseenAskers = "which process got an answer by DNS on a socket that it connected: this kernel does not take the programs that note it"

const unseenHellos = "which server a client names in what it sends first (TLS, HTTP): this kernel does not take the program, or has no cgroup v2"

// blindHellos is what the program of first bytes does not see anywhere.
const blindHellos = "which server a client names in what it sends first (TLS, HTTP), where io_uring, sendfile, splice, a 32-bit process or MPTCP sends it"

const answerSize = 88

// dnsHooks are those of answers by DNS. noted: connects have no cookies by which the asker is found.
func dnsHooks(noted bool) []hook {
	hooks := []hook{{program: "dns_ingress", how: cgroup, attach: ebpf.AttachCGroupInetIngress, mayFail: true, unseen: unseenNames}}
	if noted {
		hooks = append(hooks,
			hook{program: "dns_asker4", how: cgroup, attach: ebpf.AttachCGroupInet4Connect, mayFail: true, unseen: unseenAskers},
			hook{program: "dns_asker6", how: cgroup, attach: ebpf.AttachCGroupInet6Connect, mayFail: true, unseen: unseenAskers})
	}
	return hooks
}

// notesAskers tells whether programs have to note who connected a socket: connect records have no cookie.
func notesAskers(b Backend, version uint32) bool {
	return b == Kprobe || b == Fexit && version < 5<<16|12<<8
}

// helloHooks are those of what a client sends first.
func helloHooks() []hook {
	return []hook{{program: "hello_sockops", how: cgroup, attach: ebpf.AttachCGroupSockOps, mayFail: true, unseen: unseenHellos}}
}

// configureNames sets what the programs of names need.
func configureNames(spec *ebpf.CollectionSpec, e Events, noted bool) map[string]any {
	ring := spec.Maps["dns_answers"]
	if !e.Names && !e.hellos() {
		ring.MaxEntries = uint32(os.Getpagesize())
	}
	if !e.Names || !noted {
		avoidStorage(spec.Maps["dns_askers"])
	}
	return map[string]any{
		"hello_tls": e.TLS, "hello_http": e.HTTP,
		"dns_wakeup": ring.MaxEntries / 4, "dns_mark": ring.MaxEntries / 4 * 3, "dns_allowance": ring.MaxEntries / 64,
		"dns_notes_askers": e.Names && noted,
	}
}

// Answer is a message from a DNS server that a socket of this host got, a TCP segment of a stream of them, or a Hello.
type Answer struct {
	BootTime uint64     // ns CLOCK_BOOTTIME
	Cookie   uint64     // SO_COOKIE of the socket
	Key      ProcessKey // who connected the socket; zero: not noted, as where connects have the cookie
	NetNS    uint32     // inode, of the socket
	TCP      bool       // Bytes are a part of a stream, and Sequence is the number of the first
	Sequence uint32
	From     netip.Addr // the server
	Whole    int        // bytes there were: those beyond Bytes are not kept
	Bytes    []byte     // valid until the next read

	// Hello: it is no answer, but what a client sent first on a TCP connection, as far as that may name the server. Sequence counts
	// from 0, Key is who connected, Attempt its connect, and Port that of From. The same bytes may come twice.
	Hello   bool
	Attempt ID
	Port    uint16
}

// decode fills a from a record of dns.h. Bytes aliases b.
func (a *Answer) decode(b []byte) error {
	if len(b) < answerSize {
		return fmt.Errorf("decode answer of %d bytes: %w", len(b), ErrShortRecord)
	}
	n := binary.NativeEndian
	*a = Answer{
		BootTime: n.Uint64(b), Cookie: n.Uint64(b[8:]),
		Key:   ProcessKey{Start: n.Uint64(b[16:]), Tgid: n.Uint32(b[24:]), Exec: n.Uint32(b[28:])},
		NetNS: n.Uint32(b[32:]), Sequence: n.Uint32(b[36:]), Whole: int(n.Uint32(b[44:])), TCP: b[66] == 6,
		Hello: b[67] != 0, Attempt: ID{BootTime: n.Uint64(b[72:]), Tid: n.Uint32(b[68:])}, Port: uint16(n.Uint32(b[80:])),
	}
	if n.Uint16(b[64:]) == familyInet {
		a.From = netip.AddrFrom4([4]byte(b[48:52]))
	} else {
		a.From = netip.AddrFrom16([16]byte(b[48:64])).Unmap()
	}
	size := uint64(n.Uint32(b[40:]))
	if size > uint64(len(b)-answerSize) {
		return fmt.Errorf("decode answer of %d bytes in %d: %w", size, len(b)-answerSize, ErrShortRecord)
	}
	a.Bytes = b[answerSize:][:size:size]
	return nil
}

// ReadAnswer takes the next answer or hello without waiting. It returns false when there is none. The record is valid until the next call.
// The connect of the socket that got an answer, or its first send, is in the ring of connects before; that of a hello may come after it.
func (c *Capture) ReadAnswer(a *Answer) (bool, error) {
	ok, err := c.readLeft(leftAnswers, func(l *left, b []byte) (bool, error) {
		err := a.decode(b)
		_, twin := l.twinAnswers[a.BootTime]
		return !twin, err
	})
	if ok || err != nil {
		return ok, err
	}
	c.answer, err = c.answers.read(c.answer)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return false, nil
	}
	if err == nil {
		err = a.decode(c.answer)
	}
	return err == nil, err
}
