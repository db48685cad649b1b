package indicator

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"go4.org/netipx"
)

// parseRange reads the other notations of an address range: first-last, first..last, 198.51.100.1-9, 198.51.100.*,
// 198.51.100-101.[1-9], address/mask, and eMule's padded 198.051.100.000. It returns the CIDRs that make up exactly this range.
func parseRange(text string) ([]*Indicator, bool) {
	text = undecorated(refang(text))
	if len(text) > 200 {
		return nil, false
	}
	for _, to := range []string{"..", "-"} {
		if first, last, ok := strings.Cut(text, to); ok {
			if list, ok := between(strings.TrimSpace(first), strings.TrimSpace(last)); ok {
				return list, true
			}
		}
	}
	if address, mask, ok := strings.Cut(text, "/"); ok {
		i, ok := masked(address, mask)
		return []*Indicator{i}, ok
	}
	return octetRanges(text)
}

// between returns the CIDRs from first to last; last may be only the last octet.
func between(first, last string) ([]*Indicator, bool) {
	a, ok := rangeEnd(first)
	if !ok {
		return nil, false
	}
	b, ok := rangeEnd(last)
	if n, isOctet := octet(strings.TrimPrefix(last, ".")); !ok && isOctet && a.Is4() {
		octets := a.As4()
		octets[3] = n
		b, ok = netip.AddrFrom4(octets), true
	}
	r := netipx.IPRangeFrom(a, b)
	if !ok || !r.IsValid() || a.Is6() && a.As16()[0] != b.As16()[0] { // Bad:2001:db8::1-2001:db8::9 begins with a label
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

// manyOctets matches an address of which octets are ranges or lists, as nmap and shells write them: 198.51.100-101.*,
// 198.51.100.[1-9], 198.51.100.{1,7..9}.
var manyOctets = expr(`^([0-9]{1,3})\.` + someOctets + `\.` + someOctets + `\.` + someOctets + `$`)

const someOctets = `([0-9]{1,3}|\*|[0-9]{1,3}-[0-9]{1,3}|\[[0-9,-]+\]|\{[0-9,.-]+\})`

// mostOctets is how many combinations of octets before the last range are read.
const mostOctets = 1024

// span holds the first and last octet of a range.
type span struct{ first, last byte }

var anyOctet = span{0, 255}

// octetRanges reads an address of which octets are ranges. The first is a number always: no list means *.*.*.*.
func octetRanges(text string) ([]*Indicator, bool) {
	found := manyOctets.FindStringSubmatch(text)
	if found == nil || isNumber(found[4]) && strings.ContainsAny(found[2]+found[3], "-") && !strings.ContainsAny(text, "[{*") {
		return nil, false // 10.1.2-3.4 is a version
	}
	var octets [4][]span
	for i, text := range found[1:] {
		if octets[i] = spansOf(text); octets[i] == nil {
			return nil, false
		}
	}
	end := 3 // the last octet that is not all of 0 to 255
	for end > 0 && slices.Equal(octets[end], []span{anyOctet}) {
		end--
	}
	starts := combinations(octets[:end])
	if len(starts) > mostOctets {
		return nil, false
	}
	var all netipx.IPSetBuilder
	for _, start := range starts {
		for _, s := range octets[end] {
			first, last := start, start
			first[end], last[end] = s.first, s.last
			for i := end + 1; i < 4; i++ {
				last[i] = 255
			}
			all.AddRange(netipx.IPRangeFrom(netip.AddrFrom4(first), netip.AddrFrom4(last)))
		}
	}
	set, err := all.IPSet()
	return ofPrefixes(set.Prefixes()), err == nil
}

// combinations returns all first octets of addresses that these make up, and no more than one above mostOctets.
func combinations(octets [][]span) [][4]byte {
	starts := [][4]byte{{}}
	for i, spans := range octets {
		var longer [][4]byte
		for _, start := range starts {
			for _, s := range spans {
				for n := int(s.first); n <= int(s.last) && len(longer) <= mostOctets; n++ {
					start[i] = byte(n)
					longer = append(longer, start)
				}
			}
		}
		starts = longer
	}
	return starts
}

func isNumber(text string) bool { _, ok := octet(text); return ok }

// spansOf reads the ranges of one octet, nil if one is none.
func spansOf(text string) (spans []span) {
	if text == "*" {
		return []span{anyOctet}
	}
	for part := range strings.SplitSeq(strings.Trim(text, "[]{}"), ",") {
		first, last, isRange := strings.Cut(strings.Replace(part, "..", "-", 1), "-")
		if !isRange {
			last = first
		}
		a, okA := octet(first)
		b, okB := octet(last)
		if !okA || !okB || a > b {
			return nil
		}
		spans = append(spans, span{a, b})
	}
	return spans
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
