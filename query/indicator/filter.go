package indicator

import (
	"net/netip"
	"slices"
	"strings"
)

// Rules of packet filters and access lists are often handed on as lists: iptables-save, nft, ipset, ufw, pf, Cisco, nginx,
// Apache. Addresses that a rule lets pass or excepts are not indicators.

// filterForms matches the begin of such a line.
var filterForms = expr(`(?i)^(?:-[AIR] |(?:new|set)-netfirewallrule |netsh |add chain=|add action=|\[?\d*\]? ?(?:ip6?tables|ufw|nft|access-list|permit|deny|allow|pass|block|require|drop|reject) |(?:ip6?|tcp|udp|meta|iif|oif|iifname|oifname|ether|ct) |\d+ (?:permit|deny|allow) |add rule |(?:\d+[KMG]? \d+[KMG]? )?[\w-]+ (?:all|tcp|udp|icmp|\d+) (?:--|-f|!f) )`)

// Words of such a line.
var (
	ufwPasses   = expr(`\bALLOW (?:IN|OUT|FWD)\b`)
	letsPass    = expr(`(?i)(?:^|[ =])(?:-j (?:ACCEPT|RETURN)|accept|permit|allow|pass|require (?:ip|host))(?:[ ;,]|$)`)
	remarks     = expr(`(?i)(?:^|[ \t])(?:--comment|--(?:log|nflog)-prefix|comment|(?:log[ \t]+)?prefix)[ \t]+"[^"]*"`)
	richRule    = expr(`\brule family=`)                                                 // firewalld
	suppresses  = expr(`^(?:suppress|threshold|event_filter|rate_filter)\b.*\bgen_id\b`) // Snort
	ofOthers    = expr(`(?i)^(?:no|undo|unset|delete|del|remove) (?:access-list|ipv?6?|set|firewall|address|security|object|route)\b|^access-list \S+ remark\b|^(?:remark|description) \S| -j (?:[DS]NAT|MASQUERADE|REDIRECT|NETMAP)\b|\b[ds]nat(?: ip6?)? to `)
	noMatch     = expr(`^add \S+ .*\bnomatch\b`) // ipset
	sourcePort  = expr(`(?:^| )(?:--(?:sport|sports|source-port|source-ports)|(?:tcp|udp|th) sport) `)
	exceptWords = expr(`(?:^| )(?:!=? ?[-\w.:\[]|not [\d:])`)
	portRange   = expr(`(?i)(?:\b(?:(?:[ds]|dst-|src-|(?:dst|dest|destination|remote|target|server)_?)?ports?|dpts?)\b["']?[ :=]+|\b(?:tcp|udp)/)\{? ?(?:[0-9]{1,5}(?:, ?| and | or ))*([0-9]{1,5})(?:-|:|–| to )([0-9]{1,5})\b`)
	portsBeyond = expr(`(?i)\b(?:range [0-9]{1,5} [0-9]{1,5}|(?:gt|lt|neq) [0-9]{1,5}|eq [a-z]+)\b`)
)

// Reasons for leaving out a rule, or a part of it.
const (
	passes    = "a filter lets it pass"
	exception = "it has an exception (! or not), which cannot be looked up"
	manyPorts = "a range of ports, or a port by name, cannot be looked up"
)

// Elements of an nft map, or of hosts.allow, with what happens to them: 198.51.100.66 : accept.
var (
	passingElement = expr(someAddress + `(?:/[0-9]+)? : (?:accept|allow|return|continue)\b,?`)
	jumpingElement = expr(someAddress + `(?:/[0-9]+)? : (?:jump|goto) \S+`)
)

// withoutPassing leaves out the elements that a filter lets pass.
func (r *Reading) withoutPassing(line string) string {
	return passingElement.ReplaceAllStringFunc(line, func(string) string {
		r.leaveOut(passes)
		return " "
	})
}

// filterLine leaves out a rule that lets traffic pass or that cannot be looked up, and returns true. It returns false for
// any other line, to be read like the rest.
func (r *Reading) filterLine(line string, number int) bool {
	words := strings.Join(strings.Fields(line), " ")
	switch {
	case ofOthers.MatchString(words):
		r.leaveOut("a rule that is taken back, translates addresses, or is a remark")
	case richRule.MatchString(words) && strings.Contains(words, " NOT "):
		r.problem(number, line, exception)
	case ufwPasses.MatchString(words), richRule.MatchString(words) && strings.Contains(words, " accept"), suppresses.MatchString(words):
		r.leaveOut(passes)
	case noMatch.MatchString(words):
		r.leaveOut(passes)
	case jumpingElement.MatchString(words):
		r.problem(number, line, "another chain of the filter decides about it")
	case !filterForms.MatchString(words):
		return false
	case sourcePort.MatchString(words) && !portRange.MatchString(words):
		r.problem(number, line, "the port that a connection comes from cannot be looked up")
	case letsPass.MatchString(words) && !strings.HasPrefix(strings.ToLower(words), "require not"):
		r.leaveOut(passes)
	case exceptWords.MatchString(words) && !strings.HasPrefix(strings.ToLower(words), "require not"):
		r.problem(number, line, exception)
	default:
		return false
	}
	return true
}

// hasPortRange reports whether running text names a range of ports: ports 80-90, --dport 80:90, gt 1023.
func hasPortRange(text string) bool {
	for _, found := range portRange.FindAllStringSubmatch(text, -1) {
		if isPortRange(found[1], found[2]) {
			return true
		}
	}
	return portsBeyond.MatchString(text)
}

// isPortRange reports whether two numbers may be the ends of a port range, and not a part of a date.
func isPortRange(first, last string) bool {
	a, okA := parsePortNumber(first)
	b, okB := parsePortNumber(last)
	return okA && okB && a <= b && last[0] != '0'
}

// portRangeCell reports whether a cell is a range of ports: 8000-8010 or 8000:8010.
func portRangeCell(text string) bool {
	for _, protocol := range []string{"tcp:", "udp:", "sctp:", "tcp/", "udp/"} {
		text = strings.TrimPrefix(strings.ToLower(text), protocol)
	}
	if strings.Contains(text, "-") {
		text = strings.TrimPrefix(text, ":")
	}
	first, last, ok := strings.Cut(strings.ReplaceAll(text, ":", "-"), "-")
	return ok && isPortRange(strings.TrimSpace(first), strings.TrimSpace(last))
}

// wildcarded returns the range of an address and an access list's wildcard mask, which is an inverted netmask.
func wildcarded(address, mask string) (*Indicator, bool) {
	a, errA := netip.ParseAddr(address)
	m, errM := netip.ParseAddr(mask)
	if errA != nil || errM != nil || !a.Is4() || !m.Is4() {
		return nil, false
	}
	octets := m.As4()
	if octets[0] != 0 { // wider than /8, or a netmask
		return nil, false
	}
	for i := range octets {
		octets[i] = ^octets[i]
	}
	return masked(address, netip.AddrFrom4(octets).String())
}

// responsePolicy decodes a name of a response policy zone: 32.66.100.51.198.rpz-ip is 198.51.100.66/32, 128.1.zz.db8.2001.rpz-ip
// is 2001:db8::1/128.
func responsePolicy(name string) (string, bool) {
	labels := strings.Split(strings.TrimSuffix(strings.ToLower(name), "."), ".")
	if len(labels) < 3 || labels[len(labels)-1] != "rpz-ip" {
		return "", false
	}
	parts := labels[1 : len(labels)-1]
	slices.Reverse(parts)
	address := strings.Join(parts, ".")
	if len(parts) != 4 || slices.Contains(parts, "zz") {
		address = strings.ReplaceAll(":"+strings.Join(parts, ":")+":", ":zz:", "::")
		if !strings.HasPrefix(address, "::") {
			address = address[1:]
		}
		if !strings.HasSuffix(address, "::") {
			address = strings.TrimSuffix(address, ":")
		}
	}
	text := address + "/" + labels[0]
	p, ok := parsePrefix(text)
	return text, ok && p.Bits() > 0
}

// keyed matches a key and its value in a line of logs or of a router's script: dst=198.51.100.66 dpt=443.
var keyed = expr(`(?:^|[ \t|])([A-Za-z][\w.-]*)=("[^"]*"|[^ \t]*)`)

// keyedLine reads a line whose keys name the address and its port. It returns false for a line without an address.
func (r *Reading) keyedLine(line string, number int) bool {
	var fields []field
	isHost := false
	seen := make(map[string]bool)
	for _, found := range keyed.FindAllStringSubmatch(line, -1) {
		f := field{roleOf(found[1]), found[1], strings.Trim(found[2], `",;`)}
		if seen[f.name] && (f.role == roleTarget || f.role == roleSource) {
			r.leaveOut("the other direction of a connection") // conntrack
			break
		}
		seen[f.name] = true
		if c, ok := readCell(strings.TrimLeft(f.text, "! ")); ok && f.text[0] == '!' && c.is(Address, Range) {
			r.problem(number, line, exception)
			return true
		}
		if c, ok := readCell(f.text); ok && c.sure && c.is(Address, Range) && (f.role == roleTarget || f.role == roleIP || f.role == roleSource || f.role == roleValue) {
			isHost = true
		}
		fields = append(fields, f)
	}
	if len(fields) < 2 || !isHost {
		return false
	}
	if comesIn(fields) {
		r.cameIn(fields)
	}
	if why := r.row(fields, number); why != "" {
		r.problem(number, line, why)
	}
	return true
}

// comesIn reports whether a line of netfilter's log is of a packet that came in: it has an interface to come in by, and none to go out by.
func comesIn(fields []field) bool {
	in, out := false, false
	for _, f := range fields {
		in = in || f.name == "IN" && f.text != ""
		out = out || f.name == "OUT" && f.text == ""
	}
	return in && out
}

// cameIn makes the source of such a packet what is looked for: the destination is the host itself.
func (r *Reading) cameIn(fields []field) {
	for i, f := range fields {
		switch f.role {
		case roleSource:
			fields[i].role = roleTarget
		case roleTarget:
			fields[i].text = ""
			r.leaveOut("the host itself, in a log of what came in")
		case rolePort:
			fields[i].role = roleOther
		}
	}
}
