package recorder

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/store/escape"
)

// noFamily is the family of an address too short to name one. No kernel has a family of this number.
const noFamily = math.MaxUint16

// noPort is the port of an address that has none.
const noPort = -1

// decodeSockaddr reads what the kernel holds of a struct sockaddr: raw is cut at addrlen, and nothing beyond it is read
// or assumed. The text it makes is escaped. Layouts: include/uapi/linux/{in,in6,un,netlink,vm_sockets,if_packet}.h;
// whatever is not one of them, or too short to be, becomes the hex of the bytes behind the family.
func decodeSockaddr(raw []byte) store.Endpoint {
	e := store.Endpoint{Family: noFamily, Port: noPort, Raw: raw}
	if len(raw) < 2 {
		e.Address = hexText(raw)
		return e
	}
	host := binary.NativeEndian
	e.Family = host.Uint16(raw)
	body := raw[2:]
	switch {
	case e.Family == unix.AF_INET && len(raw) >= 8:
		e.Port = int32(binary.BigEndian.Uint16(raw[2:]))
		e.Address = netip.AddrFrom4([4]byte(raw[4:8])).String()
	case e.Family == unix.AF_INET6 && len(raw) >= 24: // SIN6_LEN_RFC2133: the scope id may be missing
		e.Port = int32(binary.BigEndian.Uint16(raw[2:]))
		e.Address = inet6Text(raw)
	case e.Family == unix.AF_UNIX:
		e.Address = unixText(body)
	case e.Family == unix.AF_UNSPEC:
		// A disconnect: the kernel reads nothing behind the family.
	case e.Family == unix.AF_NETLINK && len(raw) >= 12:
		e.Address = fmt.Sprintf("pid %d groups 0x%x", host.Uint32(raw[4:]), host.Uint32(raw[8:]))
	case e.Family == unix.AF_VSOCK && len(raw) >= 12:
		e.Address, e.Port = vsockText(host.Uint32(raw[8:]), host.Uint32(raw[4:]))
	case e.Family == unix.AF_PACKET && len(raw) >= 12:
		e.Address = packetText(raw)
	default:
		e.Address = hexText(body)
	}
	return e
}

func hexText(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	return "0x" + hex.EncodeToString(b)
}

// inet6Text shows the scope id where the kernel heeds it (__ipv6_addr_needs_scope_id): link-local unicast, and
// multicast of interface-local or link-local scope. Elsewhere it is noise that its writer chose, and only raw keeps it.
func inet6Text(raw []byte) string {
	a := netip.AddrFrom16([16]byte(raw[8:24]))
	if len(raw) < 28 {
		return a.String()
	}
	scope := binary.NativeEndian.Uint32(raw[24:])
	scoped := a.IsLinkLocalUnicast() || a.IsInterfaceLocalMulticast() || a.IsLinkLocalMulticast()
	if scope == 0 || !scoped || a.Is4In6() {
		return a.String()
	}
	return a.WithZone(strconv.FormatUint(uint64(scope), 10)).String()
}

// unixText tells three things apart (unix(7)): no name at all is empty; a name that begins with NUL is abstract, shown
// as @name, and all its bytes count; anything else is a path up to its first NUL. A path that itself begins with @ is
// shown with that one as \x40.
func unixText(name []byte) string {
	if len(name) == 0 {
		return ""
	}
	if name[0] == 0 {
		return "@" + escape.Bytes(name[1:])
	}
	for i, c := range name {
		if c == 0 {
			name = name[:i]
			break
		}
	}
	if name[0] == '@' {
		return `\x40` + escape.Bytes(name[1:])
	}
	return escape.Bytes(name)
}

// vsockText shows the port in the text when it has no room in an int32 (VMADDR_PORT_ANY is 0xffffffff).
func vsockText(cid, port uint32) (string, int32) {
	if port > math.MaxInt32 {
		return fmt.Sprintf("cid %d port %d", cid, port), noPort
	}
	return fmt.Sprintf("cid %d", cid), int32(port)
}

// packetText reads struct sockaddr_ll; its hardware address may be cut.
func packetText(raw []byte) string {
	text := fmt.Sprintf("ifindex %d protocol 0x%04x", int32(binary.NativeEndian.Uint32(raw[4:])), binary.BigEndian.Uint16(raw[2:]))
	if n := min(int(raw[11]), len(raw)-12, 8); n > 0 {
		text += " address " + hex.EncodeToString(raw[12:12+n])
	}
	return text
}
