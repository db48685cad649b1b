package indicator

import (
	"encoding/hex"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

// Parse reads one indicator in a notation of lists: an address, perhaps with a port, a CIDR, a port, a URL, the name of a
// host or file, a path, or a hash. It accepts the defanged forms of reports: hxxp://192.0.2[.]1, evil[.]example.
func Parse(text string) (*Indicator, bool) {
	i, _, ok := parse(text)
	return i, ok
}

// parse is Parse and also reports whether the text alone determines the kind. It does for an address, range, hash, URL or
// defanged name. A number, a word with a dot or a path may be anything.
func parse(text string) (i *Indicator, sure, ok bool) {
	markup, written := text, undecorated(text)
	text = undecorated(refang(written))
	text = joinedPort(withoutScope(text))
	if text == "" || len(text) > 4096 || strings.ContainsAny(text, "\x00\n\r") {
		return nil, false, false
	}
	if i, ok := parseAddress(strings.TrimSuffix(text, ".")); ok && !strings.ContainsAny(text, " \t") { // a zone may have spaces
		return i, true, true
	}
	if i, ok := ParsePort(text); ok {
		return i, false, true
	}
	if isPath(text) && !strings.Contains(markup, "</") {
		if strings.Contains(text, "*") {
			return nil, false, false // it would match the path with an asterisk alone
		}
		return &Indicator{Kind: Path, Text: text}, false, true
	}
	if i, ok := parseHash(text); ok {
		return i, true, true
	}
	if strings.Contains(text, "://") {
		i, ok := parseURL(text)
		return i, true, ok
	}
	i, ok = parseHost(text)
	return i, text != toASCII(written) || ok && i.Kind == Address, ok
}

// isPath reports whether a text is a path, or the name of an abstract socket, without white space.
func isPath(text string) bool {
	return len(text) > 1 && (text[0] == '/' && text[1] != ' ' || text[0] == '@' && !strings.ContainsAny(text, " \t"))
}

// parseAddress reads an address, a CIDR, or an address with a port.
func parseAddress(text string) (*Indicator, bool) {
	if !maybeAddress(text) {
		return nil, false
	}
	text = withoutHexLabel(text)
	inside := text
	if strings.HasPrefix(text, "[") && strings.HasSuffix(text, "]") {
		inside = text[1 : len(text)-1]
	}
	if a, err := netip.ParseAddr(inside); err == nil {
		return ofAddress(a, 0), !strings.Contains(inside, "/")
	}
	if i, ok := parseRangePort(text); ok {
		return i, true
	}
	if p, ok := parsePrefix(text); ok {
		if p.Bits() < shortestLength && hasHostBits(text) {
			return nil, false // 198.51.100.66/0 is no range that anybody means
		}
		return &Indicator{Kind: Range, Text: p.String(), shortened: hasHostBits(text)}, true
	}
	if a, ok := rangeEnd(text); ok {
		return &Indicator{Kind: Address, Text: a.String()}, true // DShield pads each octet
	}
	if ap, err := netip.ParseAddrPort(text); err == nil && ap.Port() != 0 {
		return ofAddress(ap.Addr(), ap.Port()), true
	}
	return nil, false
}

// shortestLength is the length of the shortest CIDR that may have host bits.
const shortestLength = 8

// parseRangePort reads a CIDR with a port: 198.51.100.0/24:443, [2001:db8::]/32:443.
func parseRangePort(text string) (*Indicator, bool) {
	slash, colon := strings.LastIndexByte(text, '/'), strings.LastIndexByte(text, ':')
	if slash < 0 || colon < slash {
		return nil, false
	}
	p, ok := parsePrefix(strings.NewReplacer("[", "", "]", "").Replace(text[:colon]))
	port, isPort := parsePortNumber(text[colon+1:])
	if !ok || !isPort || hasHostBits(text[:colon]) {
		return nil, false
	}
	return &Indicator{Kind: Range, Text: p.String(), Port: port}, true
}

// withoutHexLabel removes a label of hex digits from an IPv6 address: C2:2001:db8::1, 17:2001:db8::1. No address in use begins with so
// small a number and goes on like another one.
func withoutHexLabel(text string) string {
	label, rest, ok := strings.Cut(text, ":")
	if !ok || label == "" || len(label) > 3 || label == "64" {
		return text
	}
	if a, err := netip.ParseAddr(rest); err == nil && a.Is6() && (a.As16()[0]>>5 == 1 || a.As16()[0] >= 0xfc) {
		return rest
	}
	return text
}

// maybeAddress reports whether a text has the characters of an address, before its zone. The parsers of package netip
// allocate an error for any other text.
func maybeAddress(text string) bool {
	separated := false
	for i := range len(text) {
		switch c := text[i]; {
		case c == '%':
			return separated
		case c == '.' || c == ':':
			separated = true
		case c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F' || c == '/' || c == '[' || c == ']':
		default:
			return false
		}
	}
	return separated
}

// hasHostBits reports whether a CIDR has host bits: 198.51.100.66/24.
func hasHostBits(text string) bool {
	p, err := netip.ParsePrefix(text)
	return err == nil && p.Masked() != p
}

// parsePrefix reads an address or a CIDR as a range. It clears the host bits, and turns ::ffff:a.b.c.d into IPv4.
func parsePrefix(text string) (netip.Prefix, bool) {
	if a, err := netip.ParseAddr(text); err == nil {
		a = a.Unmap().WithZone("")
		return netip.PrefixFrom(a, a.BitLen()), !strings.Contains(text, "/") // of a zone
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, false
	}
	if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	return p.Masked(), true
}

// ParsePort reads a port: 4444, :4444, tcp/4444, 4444/tcp or "port 4444". It drops the protocol: the port matches any.
func ParsePort(text string) (*Indicator, bool) {
	word := strings.ToLower(text)
	for _, prefix := range []string{"port ", "tcp/", "udp/", "tcp:", "udp:", ":"} {
		word = strings.TrimPrefix(word, prefix)
	}
	word = strings.TrimSuffix(strings.TrimSuffix(word, "/tcp"), "/udp")
	port, ok := parsePortNumber(strings.TrimSpace(word))
	if !ok {
		return nil, false
	}
	return ofPort(port), true
}

// parsePortNumber reads a number from 1 to 65535.
func parsePortNumber(text string) (uint16, bool) {
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return 0, false // ParseUint would allocate an error
		}
	}
	n, err := strconv.ParseUint(text, 10, 16)
	return uint16(n), err == nil && n > 0
}

// ofAddress returns an address at a port, 0: at any.
func ofAddress(a netip.Addr, port uint16) *Indicator {
	return &Indicator{Kind: Address, Text: a.Unmap().WithZone("").String(), Port: port}
}

func ofPort(port uint16) *Indicator { return &Indicator{Kind: Port, Text: portText(port), Port: port} }

func portText(port uint16) string { return strconv.Itoa(int(port)) }

// parseHash reads a digest in hex: MD5, SHA-1, SHA-224, SHA-256, SHA-384, SHA-512.
func parseHash(text string) (*Indicator, bool) {
	switch len(text) {
	case 32, 40, 56, 64, 96, 128:
		if _, err := hex.DecodeString(text); err == nil {
			return &Indicator{Kind: Hash, Text: strings.ToLower(text)}, true
		}
	}
	return nil, false
}

// IsDigest tells whether a text is a digest of a kind that a tape has of programs: MD5, SHA-1 or SHA-256.
func IsDigest(text string) bool {
	i, ok := parseHash(text)
	return ok && i.OnTape()
}

// parseURL reads the host of a URL, and its port if there is one. Any scheme will do: reports write hxxp, h**p and meow.
// Of a unix or file URL it reads the path.
func parseURL(text string) (*Indicator, bool) {
	scheme, rest, _ := strings.Cut(text, "://")
	if scheme == "" || strings.ContainsAny(scheme, " /[]()\"'<>,;=") {
		return nil, false
	}
	if scheme = strings.ToLower(scheme); scheme == "unix" || scheme == "file" {
		return &Indicator{Kind: Path, Text: rest}, strings.HasPrefix(rest, "/") && len(rest) > 1
	}
	if end := strings.IndexAny(rest, `/?#\`); end >= 0 {
		rest = rest[:end]
	}
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		rest = rest[at+1:]
	}
	return parseHostPort(rest)
}

// parseHostPort reads the host of a URL: an address, or a name, perhaps with a port.
func parseHostPort(text string) (*Indicator, bool) {
	if i, ok := parseAddress(text); ok {
		return i, i.Kind == Address
	}
	return parseName(text)
}

// parseHost reads the name of a host or file, or an address followed by a URL's path.
func parseHost(text string) (*Indicator, bool) {
	if end := strings.IndexAny(text, "/?#"); end > 0 {
		host, path := text[:end], text[end+1:]
		rest := strings.TrimLeft(path, "0123456789./")
		if strings.ContainsAny(text, " \t") || rest != path && (rest == "" || strings.ContainsAny(rest[:1], ",;|:)]}<>\"'")) {
			return nil, false // a bad CIDR, or a bad mask
		}
		return parseHostPort(host)
	}
	return parseName(text)
}

// parseName reads a name, perhaps with a port. *.domain and .domain mean the domain.
func parseName(text string) (*Indicator, bool) {
	name, port := text, uint16(0)
	if host, number, ok := strings.Cut(text, ":"); ok {
		if port, ok = parsePortNumber(number); !ok {
			return nil, false
		}
		name = host
	}
	name = asciiName(strings.ToLower(strings.TrimPrefix(strings.TrimSuffix(name, "."), "*.")))
	if !isHostName(name) || strings.Contains(name+".", ".rpz-") {
		return nil, false
	}
	return &Indicator{Kind: Name, Text: name, Port: port}, true
}

// asciiName returns the name that is looked up for a name with other letters: xn--bcher-kva.example for bücher.example. A name that has no
// such form stays as it is.
func asciiName(name string) string {
	for i := range len(name) {
		if name[i] >= 0x80 {
			if ascii, err := idna.Lookup.ToASCII(name); err == nil {
				return ascii
			}
			break
		}
	}
	return name
}

// isHostName reports whether a name has at least two labels of letters, digits, hyphens and underscores, and a last label
// that is not a number.
func isHostName(name string) bool {
	if len(name) > 253 {
		return false
	}
	labels := strings.Split(name, ".")
	if len(labels) < 2 {
		return false
	}
	for _, label := range labels {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, r := range label {
			if !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r > 127) {
				return false
			}
		}
	}
	last := labels[len(labels)-1]
	return len(last) >= 2 && (last[0] < '0' || last[0] > '9')
}
