package generate

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/store"
)

// ports has usual ports in their usual frequency.
var ports = []uint16{443, 443, 443, 443, 80, 80, 53, 53, 5432, 6379, 8080, 22, 9092, 3306, 8443, 123, 25, 11211, 2379}

// newEndpoints makes n distinct endpoints: 70% IPv4, half of them private, 10% IPv6, 20% UNIX.
func newEndpoints(n int, random *rand.Rand) []*store.Endpoint {
	made := map[string]bool{}
	var all []*store.Endpoint
	for len(all) < n {
		port := ports[random.IntN(len(ports))]
		var e *store.Endpoint
		switch kind := random.IntN(10); {
		case kind < 4:
			e = inet(netip.AddrFrom4([4]byte{10, byte(random.IntN(4)), byte(random.IntN(256)), byte(1 + random.IntN(254))}), port)
		case kind < 7:
			e = inet(netip.AddrFrom4([4]byte{byte(20 + random.IntN(150)), byte(random.IntN(256)), byte(random.IntN(256)), byte(1 + random.IntN(254))}), port)
		case kind < 8:
			ip := [16]byte{0x2a, byte(random.IntN(16)), 0x14, 0x50}
			binary.BigEndian.PutUint64(ip[8:], random.Uint64())
			e = inet(netip.AddrFrom16(ip), port)
		default:
			e = local(fmt.Sprintf("/run/%s-%d/%x.sock", programs[random.IntN(len(programs))], random.IntN(200), random.IntN(1<<16)))
		}
		if !made[string(e.Raw)] {
			made[string(e.Raw)] = true
			all = append(all, e)
		}
	}
	return all
}

// inet returns the endpoint of an address and a port, sockaddr included.
func inet(ip netip.Addr, port uint16) *store.Endpoint {
	e := &store.Endpoint{Family: unix.AF_INET, Address: ip.String(), Port: int32(port)}
	if ip.Is4() {
		e.Raw = make([]byte, 16)
		copy(e.Raw[4:], ip.AsSlice())
	} else {
		e.Family, e.Raw = unix.AF_INET6, make([]byte, 28)
		copy(e.Raw[8:], ip.AsSlice())
	}
	binary.NativeEndian.PutUint16(e.Raw, e.Family)
	binary.BigEndian.PutUint16(e.Raw[2:], port)
	return e
}

// local returns the endpoint of a UNIX path.
func local(path string) *store.Endpoint {
	raw := binary.NativeEndian.AppendUint16(nil, unix.AF_UNIX)
	return &store.Endpoint{Family: unix.AF_UNIX, Address: path, Port: -1, Raw: append(append(raw, path...), 0)}
}

// asIPv6 returns an IPv4 endpoint as ::ffff:a.b.c.d, and any other endpoint unchanged.
func (s *Stream) asIPv6(e *store.Endpoint) *store.Endpoint {
	if e.Family != unix.AF_INET {
		return e
	}
	if s.mapped[e] == nil {
		if s.mapped == nil {
			s.mapped = map[*store.Endpoint]*store.Endpoint{}
		}
		s.mapped[e] = inet(netip.AddrFrom16(netip.MustParseAddr(e.Address).As16()), uint16(e.Port))
	}
	return s.mapped[e]
}
