package indicator

import (
	"slices"
	"strings"
)

// Lists with a type for each value use the types of MISP (https://www.misp-project.org/datamodels/#types), STIX, Zeek's
// Intel::, OTX or ThreatFox, or their own. All are read word by word.

// notForDetection is the reason for leaving out a MISP attribute without to_ids.
const notForDetection = "marked as not for detection (to_ids)"

// typeKinds returns the kinds that a type stands for. known is false for an unknown type. A known type without kinds is
// never on a tape.
func typeKinds(kind string) (kinds []Kind, known bool) {
	has := wordsOf(kind).hasAny
	if has("as", "asn", "email", "mail", "mac", "mutex", "user", "username", "agent", "subject", "size", "regkey", "registry", "cert", "certificate", "pubkey", "x509",
		"fingerprint", "ja3", "ja3s", "jarm", "imphash", "ssdeep", "tlsh", "authentihash", "impfuzzy", "pehash", "vhash", "yara", "snort", "sigma", "btc", "cve",
		"vulnerability", "link", "software", "datetime", "country", "phone", "text", "comment", "mime", "pattern", "named", "pipe") {
		return nil, true
	}
	for _, k := range []struct {
		words []string
		kinds []Kind
	}{
		{[]string{"ip", "ipv4", "ipv6", "ip4", "ip6", "addr", "address", "cidr", "subnet", "network", "netblock", "range", "net"}, []Kind{Address, Range}},
		{[]string{"domain", "hostname", "host", "fqdn", "dns"}, []Kind{Name}},
		{[]string{"url", "uri"}, []Kind{Address, Name}},
		{[]string{"md5", "sha1", "sha224", "sha256", "sha384", "sha512", "sha", "hash", "filehash"}, []Kind{Hash}},
		{[]string{"filename", "filepath", "path"}, []Kind{Name, Path}},
	} {
		if has(k.words...) {
			kinds = append(kinds, k.kinds...)
		}
	}
	if len(kinds) == 0 && has("file") {
		kinds = []Kind{Name, Path, Hash}
	}
	if len(kinds) == 0 && has("port") && !has("src", "source") {
		kinds = []Kind{Port}
	}
	return kinds, len(kinds) > 0
}

// typed reads a value by its type. It returns the reason if it cannot, else "".
func (r *Reading) typed(kind, value string, ports []uint16, label string, line int) (why string) {
	kinds, known := typeKinds(kind)
	if !known {
		c, ok := readCells(value)
		if ok && c.sure {
			r.add(line, label, withPorts(c.list, ports)...)
			return ""
		}
	}
	if len(kinds) == 0 {
		r.leaveOut("of type " + cutLabel(strings.ToLower(kind)) + ", which says nothing of connections")
		return ""
	}
	var found []*Indicator
	parts := strings.Split(value, "|")
	for n, part := range parts {
		part = strings.TrimSpace(part)
		if strings.Contains(strings.ToLower(kind), "port") && n > 0 && n == len(parts)-1 {
			port, ok := parsePortNumber(part)
			if !ok {
				return badPort
			}
			ports = append(ports, port)
			break
		}
		c, ok := readCells(part)
		if !ok && slices.Contains(kinds, Path) || ok && c.is(Port) && slices.Contains(kinds, Path) {
			c, ok = cell{list: []*Indicator{fileName(part)}}, part != ""
		}
		if !ok || !c.is(kinds...) {
			return "it is no " + cutLabel(strings.ToLower(kind))
		}
		found = append(found, c.list...)
	}
	r.add(line, label, withPorts(found, ports)...)
	return ""
}

// typedForms match a line with the type of one value before it: md5:…, Domain: evil.example, and MISP's free text.
var (
	typedByColon = expr(`^["']?([A-Za-z][A-Za-z0-9_-]{0,19}(?:\|[A-Za-z0-9-]{1,9})?)["']?\s*(?::|=)\s*["']?([^\s/"']\S*?)["']?[,;]?$`)
	typedBySpace = expr(`^((?:ip-(?:src|dst)|domain|hostname|fqdn|filename|url|uri|email(?:-\w+)?|mutex|AS|md5|sha1|sha256|imphash|ja3|user-agent|regkey)(?:\|[\w-]+)?)[ \t]+(\S+)$`)
)

// saysWho matches the key of who tells of something, which is no indicator.
var saysWho = expr(`(?i)^(?:sources?|reporter|reported[_-]by|author|credits?|publisher|provider|vendor|contact|homepage|feed)$`)

// typedLine reads a line that says what its value is, if the value alone does not tell: a name may be anything, and a digest may be that
// of a TLS handshake.
func (r *Reading) typedLine(line string, number int) bool {
	found := typedByColon.FindStringSubmatch(line)
	if found == nil {
		if found = typedBySpace.FindStringSubmatch(line); found == nil {
			return false
		}
	}
	kinds, known := typeKinds(found[1])
	c, ok := readCells(found[2])
	if ok && c.is(Name) && !c.sure && saysWho.MatchString(found[1]) {
		r.leaveOut(readMore)
		return true
	}
	isDigest := ok && c.is(Hash)
	switch {
	case strings.Contains(found[2], "@") && looksLikeAddress(found[2]):
		return false
	case !known, slices.Contains(kinds, Port), ok && c.sure && !isDigest, ok && c.is(Port) && len(kinds) > 0, isDigest && len(kinds) > 0:
		return false
	case !ok && len(kinds) > 0 && !strings.Contains(found[2], "|"):
		return false
	}
	if why := r.typed(found[1], found[2], nil, "", number); why != "" {
		r.problem(number, line, why)
	}
	return true
}

// fileName returns the indicator of a file's name or path.
func fileName(text string) *Indicator {
	text = strings.TrimSpace(text)
	if strings.HasPrefix(text, "/") {
		return &Indicator{Kind: Path, Text: text}
	}
	return &Indicator{Kind: Name, Text: asciiName(strings.ToLower(text))}
}
