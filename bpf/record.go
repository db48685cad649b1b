package bpf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// Sizes that record.h fixes, in bytes.
const (
	commLen       = 16
	sockaddrInet  = 16
	sockaddrSmall = 28
	sockaddrLarge = 128
	localLarge    = 112
	connectSize   = 112
	processSize   = 168
	loserSize     = 72
	outcomeSize   = 88
	foundSize     = connectSize + sockaddrLarge + localLarge
	openSize      = (connectSize+3*sockaddrSmall+7)/8*8 + outcomeSize
	inFlightSize  = connectSize + sockaddrLarge + localLarge
	shortSize     = connectSize + 2*sockaddrInet
	sendSize      = connectSize + 2*sockaddrSmall + 48
	sendKeySize   = 48
	unixSendSize  = connectSize + sockaddrLarge + localLarge + 48
	unixKeySize   = sendKeySize + localLarge
	peerAt        = localLarge - 16 // of the peer's key in a large record's Local
)

const familyInet = 2 // AF_INET

// Unknown stands in Errno and HookErrno for a result that the backend did not see.
const Unknown = -1

// Unset is what LoginUID and SessionID hold when no login set them ((u32)-1 in the kernel).
const Unset = ^uint32(0)

// ErrShortRecord is returned for a ring record that is shorter than its own header says. It means that program and
// decoder were built from different sources.
var ErrShortRecord = errors.New("short record")

// Via tells how an attempt was issued.
type Via uint8

// The values of enum via in record.h.
const (
	ViaConnect    Via = iota // connect(2)
	ViaSocketcall            // socketcall(2) of a 32-bit process
	ViaIOUring               // IORING_OP_CONNECT, wherever it ran
	ViaKernel                // a socket of the kernel's own
	ViaFastopen              // sendto(2) and its kin with MSG_FASTOPEN
	ViaSnapshot              // nobody saw it issued: the socket was connected when recording began
	ViaSendto                // it was no connect: the address came with what was sent
	ViaFrame                 // likewise, a frame through a packet socket: Local is the device (see [Connect.Place]), Remote an address, or where the frame has none a Place. Protocol is that of IP
)

// What a Connect of ReadEvent is: none of these is a connect.
const (
	ViaAccept Via = 16 + iota // a connection that was accepted: Remote is its peer, and Addrlen the pid of a UNIX peer, 0 unknown
	ViaListen

	// Of sockets and devices that can see packets of others, or make packets as they like.
	ViaSocket      // the socket was made
	ViaBind        // it was bound: see [Connect.Place]. With [Events.Binds] also another socket, Local is its address
	ViaFilter      // SO_ATTACH_FILTER was set
	ViaBPF         // SO_ATTACH_BPF was set
	ViaFanout      // PACKET_FANOUT was set
	ViaPromiscuous // PACKET_ADD_MEMBERSHIP was set to promiscuous
	ViaHdrIncl     // IP_HDRINCL or IPV6_HDRINCL was set
	ViaTun         // a TUN device was made or opened: see [Connect.Place]
	ViaTap         // likewise a TAP device
	ViaBypass      // PACKET_QDISC_BYPASS was set
)

// String returns the word that the tape stores.
func (v Via) String() string {
	switch v {
	case ViaConnect:
		return "connect"
	case ViaSocketcall:
		return "socketcall"
	case ViaIOUring:
		return "io_uring"
	case ViaKernel:
		return "kernel"
	case ViaFastopen:
		return "fastopen"
	case ViaSnapshot:
		return "snapshot"
	case ViaSendto:
		return "sendto"
	case ViaFrame:
		return "frame"
	case ViaAccept:
		return "accept"
	case ViaListen:
		return "listen"
	case ViaSocket:
		return "socket"
	case ViaBind:
		return "bind"
	case ViaFilter:
		return "filter"
	case ViaBPF:
		return "bpf"
	case ViaFanout:
		return "fanout"
	case ViaPromiscuous:
		return "promiscuous"
	case ViaHdrIncl:
		return "hdrincl"
	case ViaTun:
		return "tun"
	case ViaTap:
		return "tap"
	case ViaBypass:
		return "bypass"
	}
	return fmt.Sprintf("via %d", uint8(v))
}

// IsSend tells whether it was no connect, but something that was sent without one.
func (v Via) IsSend() bool { return v == ViaSendto || v == ViaFrame }

// ConnectFlags are the bits of enum connect_flags in record.h.
type ConnectFlags uint8

// The bits of enum connect_flags.
const (
	AddressFromUser ConnectFlags = 1 << iota // Remote comes from the caller's memory, not from the kernel's copy
	Reissue                                  // io_uring issued an earlier attempt again: not one of its own
	large                                    // the record is a struct connect_large
	ReturnLost                               // it has returned, or may have, and nobody saw what
	AddressFault                             // the caller's memory could not be read: Remote is empty
	KernelWorker                             // a kernel thread ran it for the process named here (io_uring before 5.12)
	redirected                               // the record has Requested
	hasPeer                                  // the record has Peer
)

// ProcessKey names one execution of one program within a boot. The kernel keeps all three, so that no map of ours can
// be full or stale.
type ProcessKey struct {
	Tgid  uint32
	Start uint64 // task_struct.start_boottime of the group leader, ns CLOCK_BOOTTIME
	Exec  uint32 // low half of task_struct.self_exec_id: one more at each execve, inherited at fork
}

// Connect is one attempt.
type Connect struct {
	BootTime      uint64 // ns CLOCK_BOOTTIME at the hook
	Key           ProcessKey
	CgroupID      uint64 // of the task, cgroup v2
	Cookie        uint64 // SO_COOKIE; 0 unknown
	Tid           uint32
	UID           uint32
	GID           uint32
	EUID          uint32
	LoginUID      uint32 // Unset when no login set it
	SessionID     uint32 // Unset when no login set it
	NetNS         uint32 // inode, of the socket
	FD            int32  // as the caller passed it; -1 none
	Addrlen       int32  // as the caller passed it
	HookErrno     int32  // the LSM's verdict: 0, a positive errno or Unknown
	Errno         int32  // what connect returned: 0, a positive errno or Unknown
	SocketFamily  uint16
	Type          uint16 // SOCK_STREAM, …
	Protocol      uint16
	Via           Via
	Flags         ConnectFlags
	Comm          [commLen]byte // NUL-padded
	Remote, Local []byte        // raw sockaddr; Local is empty when not bound. Valid until the next read.
	Peer          ProcessKey    // process at the other end of a UNIX socket: of one that has ended only Tgid; zero unknown
	Requested     []byte        // raw sockaddr that the caller asked for, where a program of a cgroup sent it to Remote; else empty. Likewise.
	Found         bool          // of [Capture.FoundSockets]: nobody saw it done, the socket was like this at BootTime
	Bytes         int64         // of a send: what was sent, as far as the system call tells; else and of others Unknown
}

// ID names an attempt: a thread makes one at a time, so that its hook time and tid are unique within a boot. The
// record of an attempt in flight and the one that follows when it returns have the same ID.
type ID struct {
	BootTime uint64
	Tid      uint32
}

// ID returns the attempt's name.
func (c *Connect) ID() ID { return ID{c.BootTime, c.Tid} }

// decode fills c from a ring record or an in_flight value. Remote, Local and Requested alias b.
func (c *Connect) decode(b []byte) error {
	if len(b) < connectSize {
		return fmt.Errorf("decode connect of %d bytes: %w", len(b), ErrShortRecord)
	}
	n := binary.NativeEndian
	c.BootTime = n.Uint64(b[0:])
	c.Key = ProcessKey{Start: n.Uint64(b[8:]), Tgid: n.Uint32(b[16:]), Exec: n.Uint32(b[20:])}
	c.CgroupID = n.Uint64(b[24:])
	c.Cookie = n.Uint64(b[32:])
	c.Tid = n.Uint32(b[40:])
	c.UID = n.Uint32(b[44:])
	c.GID = n.Uint32(b[48:])
	c.EUID = n.Uint32(b[52:])
	c.LoginUID = n.Uint32(b[56:])
	c.SessionID = n.Uint32(b[60:])
	c.NetNS = n.Uint32(b[64:])
	c.FD = int32(n.Uint32(b[68:]))
	c.Addrlen = int32(n.Uint32(b[72:]))
	c.HookErrno = int32(n.Uint32(b[76:]))
	c.Errno = int32(n.Uint32(b[80:]))
	c.SocketFamily = n.Uint16(b[84:])
	c.Type = n.Uint16(b[86:])
	c.Protocol = n.Uint16(b[88:])
	c.Via = Via(b[90])
	c.Flags = ConnectFlags(b[91])
	comm := b[96:112]
	if i := bytes.IndexByte(comm, 0); i >= 0 { // what a longer comm has left behind
		comm = comm[:i]
	}
	clear(c.Comm[copy(c.Comm[:], comm):])
	remoteLen, localLen := int(n.Uint16(b[92:])), int(n.Uint16(b[94:]))
	remoteMax, localMax := sockaddrSmall, sockaddrSmall
	if c.Flags&large != 0 {
		remoteMax, localMax = sockaddrLarge, localLarge
	} else if len(b) == shortSize && c.Via >= ViaAccept {
		remoteMax, localMax = sockaddrInet, sockaddrInet
	}
	b = b[connectSize:]
	if remoteLen > remoteMax || localLen > localMax || len(b) < remoteMax+localMax {
		return fmt.Errorf("decode connect with addresses of %d and %d bytes in %d: %w", remoteLen, localLen, len(b), ErrShortRecord)
	}
	c.Remote = b[:remoteLen:remoteLen]
	c.Local = b[remoteMax : remoteMax+localLen : remoteMax+localLen]
	c.Requested, c.Peer, c.Bytes, c.Found = nil, ProcessKey{}, Unknown, false
	if at := remoteMax + localMax; c.Via.IsSend() && len(b) >= at+8 {
		c.Bytes = int64(n.Uint64(b[at:]))
	}
	if c.Flags&(hasPeer|large) == hasPeer|large && localLen <= peerAt {
		at := b[remoteMax+peerAt:]
		c.Peer = ProcessKey{Start: n.Uint64(at), Tgid: n.Uint32(at[8:]), Exec: n.Uint32(at[12:])}
	}
	if c.Flags&redirected != 0 {
		return c.decodeRequested(b[remoteMax:])
	}
	return nil
}

// decodeRequested reads what lies behind a local address of sockaddrSmall bytes: the address in front of which that lies is
// of the same family.
func (c *Connect) decodeRequested(b []byte) error {
	n := sockaddrSmall
	if len(b) < 2*n || len(c.Remote) < 2 || len(c.Local) > n {
		return fmt.Errorf("decode redirected connect: %w", ErrShortRecord)
	}
	if binary.NativeEndian.Uint16(c.Remote) == familyInet {
		n = sockaddrInet
	}
	n = min(n, len(c.Remote))
	if asked := b[sockaddrSmall : sockaddrSmall+n : sockaddrSmall+n]; !bytes.Equal(asked, c.Remote[:n]) {
		c.Requested = asked
	}
	return nil
}
