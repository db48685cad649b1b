package recorder

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"
	"unicode"

	"golang.org/x/sys/unix"
)

// native puts a family, in host order, in front of hex digits.
func native(t testing.TB, family uint16, digits string) []byte {
	t.Helper()
	body, err := hex.DecodeString(strings.ReplaceAll(digits, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return append(binary.NativeEndian.AppendUint16(nil, family), body...)
}

// u32 is a host-order word in hex.
func u32(n uint32) string { return hex.EncodeToString(binary.NativeEndian.AppendUint32(nil, n)) }

func TestDecodeSockaddr(t *testing.T) {
	const (
		linkLocal = "fe800000000000000000000000000001"
		global    = "20010db8000000000000000000000001"
		mapped    = "00000000000000000000ffff01020304"
	)
	path := func(s string) string { return hex.EncodeToString([]byte(s)) }
	for _, c := range []struct {
		name    string
		raw     []byte
		family  uint16
		address string
		port    int32
	}{
		{"ipv4", native(t, unix.AF_INET, "01bb 01020304 0000000000000000"), unix.AF_INET, "1.2.3.4", 443},
		{"ipv4 with no padding", native(t, unix.AF_INET, "01bb 01020304"), unix.AF_INET, "1.2.3.4", 443},
		{"ipv4 cut in the address", native(t, unix.AF_INET, "01bb 010203"), unix.AF_INET, "0x01bb010203", noPort},
		{"ipv4 cut in the port", native(t, unix.AF_INET, "01"), unix.AF_INET, "0x01", noPort},
		{"ipv4 family alone", native(t, unix.AF_INET, ""), unix.AF_INET, "", noPort},
		{"ipv4 any", native(t, unix.AF_INET, "0000 00000000"), unix.AF_INET, "0.0.0.0", 0},
		{"ipv6", native(t, unix.AF_INET6, "0050 00000000"+global+u32(0)), unix.AF_INET6, "2001:db8::1", 80},
		{"ipv6 link-local", native(t, unix.AF_INET6, "0050 00000000"+linkLocal+u32(2)), unix.AF_INET6, "fe80::1%2", 80},
		{"ipv6 link-local without scope", native(t, unix.AF_INET6, "0050 00000000"+linkLocal), unix.AF_INET6, "fe80::1", 80},
		{"ipv6 scope cut", native(t, unix.AF_INET6, "0050 00000000"+linkLocal+"0200"), unix.AF_INET6, "fe80::1", 80},
		{"ipv6 global with a scope that means nothing", native(t, unix.AF_INET6, "0050 00000000"+global+u32(7)), unix.AF_INET6, "2001:db8::1", 80},
		{"ipv6 link-local multicast", native(t, unix.AF_INET6, "14e9 00000000 ff0200000000000000000000000000fb"+u32(3)), unix.AF_INET6, "ff02::fb%3", 5353},
		{"ipv6 global multicast", native(t, unix.AF_INET6, "0001 00000000 ff0e0000000000000000000000000001"+u32(3)), unix.AF_INET6, "ff0e::1", 1},
		{"ipv6 v4-mapped", native(t, unix.AF_INET6, "0050 00000000"+mapped+u32(9)), unix.AF_INET6, "::ffff:1.2.3.4", 80},
		{"ipv6 cut", native(t, unix.AF_INET6, "0050 00000000 fe80"), unix.AF_INET6, "0x005000000000fe80", noPort},
		{"unix path", native(t, unix.AF_UNIX, path("/run/x.sock\x00")), unix.AF_UNIX, "/run/x.sock", noPort},
		{"unix path without NUL", native(t, unix.AF_UNIX, path("/run/x")), unix.AF_UNIX, "/run/x", noPort},
		{"unix path with rubbish behind", native(t, unix.AF_UNIX, path("/a\x00/b")), unix.AF_UNIX, "/a", noPort},
		{"unix relative path", native(t, unix.AF_UNIX, path("x\x00")), unix.AF_UNIX, "x", noPort},
		{"unix path that begins with @", native(t, unix.AF_UNIX, path("@x\x00")), unix.AF_UNIX, `\x40x`, noPort},
		{"unix path that looks like that escape", native(t, unix.AF_UNIX, path(`\x40x`+"\x00")), unix.AF_UNIX, `\\x40x`, noPort},
		{"unix path with a newline", native(t, unix.AF_UNIX, path("/a\nb\x00")), unix.AF_UNIX, `/a\x0ab`, noPort},
		{"unix abstract", native(t, unix.AF_UNIX, path("\x00x")), unix.AF_UNIX, "@x", noPort},
		{"unix abstract with NULs", native(t, unix.AF_UNIX, path("\x00x\x00y\x00")), unix.AF_UNIX, `@x\x00y\x00`, noPort},
		{"unix abstract that begins with @", native(t, unix.AF_UNIX, path("\x00@x")), unix.AF_UNIX, "@@x", noPort},
		{"unix abstract of no length", native(t, unix.AF_UNIX, "00"), unix.AF_UNIX, "@", noPort},
		{"unix unnamed", native(t, unix.AF_UNIX, ""), unix.AF_UNIX, "", noPort},
		{"unspec", native(t, unix.AF_UNSPEC, "00000000000000000000000000000000"), unix.AF_UNSPEC, "", noPort},
		{"unspec, short", native(t, unix.AF_UNSPEC, ""), unix.AF_UNSPEC, "", noPort},
		{"netlink", native(t, unix.AF_NETLINK, "0000"+u32(17)+u32(0x1f)), unix.AF_NETLINK, "pid 17 groups 0x1f", noPort},
		{"netlink, cut", native(t, unix.AF_NETLINK, "0000"+u32(17)), unix.AF_NETLINK, "0x0000" + u32(17), noPort},
		{"vsock", native(t, unix.AF_VSOCK, "0000"+u32(1024)+u32(2)+"00000000"), unix.AF_VSOCK, "cid 2", 1024},
		{"vsock, port too large", native(t, unix.AF_VSOCK, "0000"+u32(0xffffffff)+u32(2)+"00000000"), unix.AF_VSOCK, "cid 2 port 4294967295", noPort},
		{"packet", native(t, unix.AF_PACKET, "0800"+u32(2)+"0000 00 06 0a0b0c0d0e0f 0000"), unix.AF_PACKET, "ifindex 2 protocol 0x0800 address 0a0b0c0d0e0f", noPort},
		{"packet, address length that lies", native(t, unix.AF_PACKET, "0800"+u32(2)+"0000 00 ff 0a0b"), unix.AF_PACKET, "ifindex 2 protocol 0x0800 address 0a0b", noPort},
		{"packet, negative ifindex", native(t, unix.AF_PACKET, "0800"+u32(0xffffffff)+"0000 00 00"), unix.AF_PACKET, "ifindex -1 protocol 0x0800", noPort},
		{"another family", native(t, 99, "dead beef"), 99, "0xdeadbeef", noPort},
		{"one byte", []byte{2}, noFamily, "0x02", noPort},
		{"no byte", nil, noFamily, "", noPort},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := decodeSockaddr(c.raw)
			if e.Family != c.family || e.Address != c.address || e.Port != c.port || !bytes.Equal(e.Raw, c.raw) {
				t.Errorf("decodeSockaddr(%x) = %d %q %d, want %d %q %d", c.raw, e.Family, e.Address, e.Port, c.family, c.address, c.port)
			}
		})
	}
}

func FuzzDecodeSockaddr(f *testing.F) {
	for _, seed := range []string{"", "02", "0200", "020001bb01020304", "0a000050", "0100", "010000", "01002f61", "0100400a", "1000", "2800", "1100", "6300ff"} {
		b, err := hex.DecodeString(seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(append(b, make([]byte, 110)...))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) > 128 {
			return // connect(2) takes no more
		}
		// Nothing beyond addrlen counts: the same bytes with others behind them must read the same.
		long := append(bytes.Clone(raw), 0xaa, 0xbb, 0xcc, 0xdd)
		e, again := decodeSockaddr(raw), decodeSockaddr(long[:len(raw)])
		if e.Address != again.Address || e.Port != again.Port || e.Family != again.Family {
			t.Errorf("%x reads as %+v and %+v", raw, e, again)
		}
		if e.Port < noPort {
			t.Errorf("port %d", e.Port)
		}
		for _, r := range e.Address {
			if !unicode.IsPrint(r) {
				t.Errorf("address %q has %q", e.Address, r)
			}
		}
		// Two UNIX names that differ in kind never look alike.
		if e.Family == unix.AF_UNIX && len(raw) > 2 && strings.HasPrefix(e.Address, "@") != (raw[2] == 0) {
			t.Errorf("%x reads as %q", raw, e.Address)
		}
	})
}
