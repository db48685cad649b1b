package indicator

import (
	"net/netip"
	"strconv"
	"strings"

	"go4.org/netipx"
)

// parseRange reads the other notations of an address range: first-last, 198.51.100.1-9, 198.51.100.*, address/mask, and
// eMule's padded 198.051.100.000. It returns the CIDRs that make up exactly this range.
func parseRange(text string) ([]*Indicator, bool) {
	text = undecorated(refang(text))
	if len(text) > 200 {
		return nil, false
	}
	if first, last, ok := strings.Cut(text, "-"); ok {
		return between(strings.TrimSpace(first), strings.TrimSpace(last))
	}
	if address, mask, ok := strings.Cut(text, "/"); ok {
		i, ok := masked(address, mask)
		return []*Indicator{i}, ok
	}
	if octets := strings.Split(text, "."); len(octets) == 4 && octets[3] == "*" {
		return wildcard(octets)
	}
	return nil, false
}

// between returns the CIDRs from first to last; last may be only the last octet.
func between(first, last string) ([]*Indicator, bool) {
	a, ok := rangeEnd(first)
	if !ok {
		return nil, false
	}
	b, ok := rangeEnd(last)
	if n, isOctet := octet(last); !ok && isOctet && a.Is4() {
		octets := a.As4()
		octets[3] = n
		b, ok = netip.AddrFrom4(octets), true
	}
	r := netipx.IPRangeFrom(a, b)
	if !ok || !r.IsValid() {
		return nil, false
	}
	return ofPrefixes(r.Prefixes()), true
}

// rangeEnd reads the first or last address of a range.
func rangeEnd(text string) (netip.Addr, bool) {
	if len(text) == 15 && text[3] == '.' && text[7] == '.' && text[11] == '.' { // eMule pads each octet to three digits
		octets := strings.Split(text, ".")
		for i := range octets {
			octets[i] = strings.TrimLeft(octets[i][:len(octets[i])-1], "0") + octets[i][len(octets[i])-1:]
		}
		text = strings.Join(octets, ".")
	}
	a, err := netip.ParseAddr(text)
	return a.Unmap().WithZone(""), err == nil
}

func octet(text string) (byte, bool) {
	n, err := strconv.ParseUint(text, 10, 8)
	return byte(n), err == nil && text[0] != '+' && (len(text) == 1 || text[0] != '0')
}

// wildcard reads 198.51.100.* and 198.51.*.*, never *.*.*.*.
func wildcard(octets []string) ([]*Indicator, bool) {
	bits := 32
	for i := 3; i >= 0 && octets[i] == "*"; i-- {
		octets[i], bits = "0", bits-8
	}
	p, err := netip.ParsePrefix(strings.Join(octets, ".") + "/" + strconv.Itoa(bits))
	if err != nil || bits == 0 {
		return nil, false
	}
	return ofPrefixes([]netip.Prefix{p}), true
}

// masked returns the range of an address and a netmask such as 255.255.255.0 or 24.
func masked(address, mask string) (*Indicator, bool) {
	a, err := netip.ParseAddr(address)
	if err != nil {
		return nil, false
	}
	bits, ok := maskBits(mask)
	if !ok || bits > a.BitLen() || strings.Contains(mask, ".") && !a.Is4() {
		return nil, false
	}
	p, ok := parsePrefix(address + "/" + strconv.Itoa(bits))
	if !ok {
		return nil, false
	}
	return ofPrefixes([]netip.Prefix{p})[0], true
}

// maskBits reads 24, /24 or 255.255.255.0. The ones of a mask must come first, and there must be one at least.
func maskBits(text string) (int, bool) {
	text = strings.TrimPrefix(strings.TrimSpace(text), "/")
	if n, err := strconv.ParseUint(text, 10, 8); err == nil {
		return int(n), n > 0 && n <= 128
	}
	a, err := netip.ParseAddr(text)
	if err != nil || !a.Is4() {
		return 0, false
	}
	for bits := 8; bits <= 32; bits++ {
		ones := netip.AddrFrom4([4]byte{255, 255, 255, 255})
		if netip.PrefixFrom(ones, bits).Masked().Addr() == a {
			return bits, true
		}
	}
	return 0, false
}

func ofPrefixes(prefixes []netip.Prefix) []*Indicator {
	var list []*Indicator
	for _, p := range prefixes {
		if p.IsSingleIP() {
			list = append(list, &Indicator{Kind: Address, Text: p.Addr().String()})
		} else {
			list = append(list, &Indicator{Kind: Range, Text: p.String()})
		}
	}
	return list
}

// wholeBlock returns the CIDR with this first and last address: no list means two single addresses by that.
func wholeBlock(first, last string) ([]*Indicator, bool) {
	a, errA := netip.ParseAddr(first)
	b, errB := netip.ParseAddr(last)
	if errA != nil || errB != nil {
		return nil, false
	}
	p, ok := netipx.IPRangeFrom(a, b).Prefix()
	if !ok || p.Bits() > p.Addr().BitLen()-2 || p.Bits() < 8 {
		return nil, false
	}
	return ofPrefixes([]netip.Prefix{p}), true
}
