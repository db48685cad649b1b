package indicator

import (
	"net/netip"
	"slices"
	"strings"
)

// Forms in which configurations write an address with its port, or a range by its ends. Each is brought into a form that
// all other lists have: address:port, first-last, address/mask.

// An address in a configuration; what it is like is judged by the parsers.
const someAddress = `\[?([0-9a-fA-F]*[.:][0-9a-fA-F.:]*)\]?`

// Forms of an address and its port, and of something after both.
var (
	resolverPort = expr(`^` + someAddress + `[#@]([0-9]{1,5})(?:#[\w.-]+)?$`) // unbound, dnsmasq, BIND
	deviceAddr   = expr(`^/dev/(?:tcp|udp)/([\w.:-]+)/([0-9]{1,5})$`)         // bash
	protocolPort = expr(`^` + someAddress + `/(?:tcp|udp)/([0-9]{1,5})$`)
	portProtocol = expr(`^` + someAddress + `/([0-9]{1,5})/(?:tcp|udp)$`)
	multiAddr    = expr(`^/(?:ip[46]|dns[46]?|dnsaddr)/([\w.:-]+)(?:/(?:tcp|udp)/([0-9]{1,5}))?(?:/(?:wss?|tls|quic(?:-v1)?|p2p/\w+))*$`) // libp2p
)

// joinedPort puts a colon between an address and its port, if something else is.
func joinedPort(text string) string {
	if !strings.ContainsAny(text, "#@/") {
		return text
	}
	for _, form := range []*expression{resolverPort, deviceAddr, multiAddr, protocolPort, portProtocol} {
		found := form.FindStringSubmatch(text)
		switch {
		case found == nil:
			continue
		case found[2] == "":
			return found[1]
		case strings.Contains(found[1], ":"):
			return "[" + found[1] + "]:" + found[2]
		}
		return found[1] + ":" + found[2]
	}
	return text
}

// withoutScope removes the word before an address that tells what it is, as in exports of CrowdSec: Ip:198.51.100.66.
func withoutScope(text string) string {
	if len(text) > 3 && text[0] >= 'I' {
		scope, rest, ok := strings.Cut(text, ":")
		if ok && slices.Contains([]string{"ip", "range", "cidr"}, strings.ToLower(scope)) && maybeAddress(rest) {
			return rest
		}
	}
	return text
}

// Forms of a range in a line.
var (
	rangeEnds = expr(`(?i)(?:\b(?:ip-?range|range|range-address|address-range)\s+` + someAddress + `\s+(?:to\s+|-\s+)?` + someAddress +
		`|\b(?:start-ip|ip(?:v[46])?-address-first)\s+` + someAddress + `\s+(?:end-ip|ip(?:v[46])?-address-last)\s+` + someAddress +
		`|^` + someAddress + `\s+(?:(?:up )?to|through|thru|until|till|bis)\s+` + someAddress + `$` +
		`|^between\s+` + someAddress + `\s+and\s+` + someAddress + `$)`)
	maskWord   = expr(`(?i)(` + someAddress + `)[ ,]+(?:subnet-?mask|net-?mask|mask|mask-?len(?:gth)?|prefix-?len(?:gth)?)[ =:]+([0-9.]+)\b`)
	lengthWord = expr(`(^|[\s,;=])` + someAddress + `[ \t]+/([0-9]{1,3})($|[\s,;)])`)
	portColon  = expr(`\b((?:[0-9]{1,3}\.){3}[0-9]{1,3})(?: +: *| *: +)([0-9]{1,5})($|[\s,;)])`)
	portOn     = expr(`\b((?:[0-9]{1,3}\.){3}[0-9]{1,3}) +on +([0-9]{2,5})($|[,;)])`)
	portDash   = expr(`\b((?:[0-9]{1,3}\.){3}[0-9]{1,3}) +(?:[-–—|@+]|[=-]>|→) +([0-9]{1,5})($|[\s,;)])`)
	deviceWord = expr(`(^|\s)/dev/(?:tcp|udp)/([\w.:-]+)/([0-9]{1,5})\b`)
)

// withRanges brings the ranges of a line into the form first-last, and masks into the form address/mask.
func withRanges(line string) string {
	if !strings.ContainsAny(line, " \t") {
		return line
	}
	line = rangeEnds.ReplaceAllStringFunc(line, func(text string) string {
		ends := make([]string, 0, 2)
		for _, end := range rangeEnds.FindStringSubmatch(text)[1:] {
			if end != "" {
				ends = append(ends, end)
			}
		}
		if first, _, _ := strings.Cut(ends[0], "."); !strings.ContainsAny(text[:1], "0123456789") || strings.HasPrefix(ends[1], first+".") || strings.HasPrefix(ends[1], ".") {
			return ends[0] + "-" + ends[1]
		}
		return text // more likely from one host to another
	})
	line = maskWord.ReplaceAllString(line, "$2/$3")
	line = lengthWord.ReplaceAllString(line, "$1$2/$3$4")
	if !strings.Contains(line, " -> ") { // in a rule of Suricata :1024 is a range
		line = portColon.ReplaceAllString(line, "$1:$2$3")
	}
	line = portOn.ReplaceAllString(line, "$1:$2$3")
	if _, isRange := readCell(line); !isRange {
		line = portDash.ReplaceAllString(line, "$1 $2$3")
	}
	return deviceWord.ReplaceAllString(line, "$1$2:$3")
}

// Lines of configurations that have something else than indicators.
var (
	routerPath  = expr(`^/(?:ip|ipv6|routing)(?: |/.* (?:add|set) )`) // MikroTik
	frames      = expr(`^(?:create \S+ (?:hash|bitmap|list):\S+.*|(?:add )?table (?:inet|ip|ip6|arp|bridge|netdev) \S+ \{|(?:set|chain|map) \S+ \{|type (?:ipv[46]_addr|inet_service|filter)\b[^{}]*|flags [\w, ]+;?|\};?|config [\w -]+|edit (?:"[^"]*"|\S+)|next|end|set (?:type|uuid|color|associated-interface|comment|visibility|allow-routing) .*|object(?:-group)? network \S+|\*(?:filter|nat|mangle|raw|security)|:\S+ (?:ACCEPT|DROP|RETURN|-) \[\d+:\d+\]|COMMIT)$`)
	unbanned    = expr(`(?i)\bunban(?:ip|ned)?\s`)
	ofInterface = expr(`^add \S+ [0-9a-fA-F.:/]+,(?:physdev:)?[a-z][\w.-]*$`) // ipset
	namesAfter  = expr(`(?i)(?:^|\s)(?:wildcard-)?(?:fqdn|dns-name|dstdomain)\s+(.+)$|^add (?:\S+=\S+ )*address="?([a-z0-9-][\w.-]*\.[a-z][\w-]*)"?(?: |$)`)
)

const aroundIndicators = "a line of a configuration around the indicators"

// configLine reads a line of a configuration that has names, or leaves out one that has no indicators.
func (r *Reading) configLine(line string, number int) bool {
	switch found := namesAfter.FindStringSubmatch(line); {
	case frames.MatchString(line):
		r.leaveOut(aroundIndicators)
	case unbanned.MatchString(line):
		r.leaveOut(passes)
	case ofInterface.MatchString(line):
		r.problem(number, line, "it counts for one interface alone, which cannot be looked up")
	case found != nil:
		var list []*Indicator
		for word := range strings.FieldsSeq(found[1] + found[2]) {
			if len(list) == 0 && (word == "-n" || word == "-i" || word == "v4" || word == "v6") {
				continue
			}
			c, ok := readCell(strings.TrimPrefix(undecorated(word), "."))
			if !ok || !c.is(Name) {
				return false
			}
			list = append(list, c.list...)
		}
		r.add(number, "", list...)
		return len(list) > 0
	default:
		return false
	}
	return true
}

// badMask reports whether a line has a mask that is none: 255.0.255.0, or one beside nothing. No such address is connected to.
func badMask(words []string) bool {
	for i, word := range words {
		a, err := netip.ParseAddr(word)
		if err != nil || !a.Is4() {
			continue
		}
		if _, isWildcard := netip.ParseAddr(words[max(i-1, 0)]); i > 0 && isWildcard == nil && a.As4()[0] == 0 && word != "0.0.0.0" {
			if _, ok := wildcarded(words[i-1], word); !ok {
				return true
			}
		}
		if a.As4()[0] != 255 || word == "255.255.255.255" {
			continue
		}
		if i == 0 {
			return true
		}
		if _, ok := masked(words[i-1], word); !ok {
			return true
		}
	}
	return false
}

// rangeLine matches a line that has one end of a range, as in FortiGate's blocks and in YAML.
var rangeLine = expr(`(?i)^(?:- )?(?:set )?["']?(?:(start|first|begin)|end|last)[-_]?(?:ip(?:v?[46])?(?:[-_]?addr(?:ess)?)?|addr(?:ess)?)["']?(?:\s*[:=]\s*|\s+)["']?` + someAddress + `["']?[,;]?$`)

// halfRange is the first end of a range that waits for the other.
type halfRange struct {
	line        int // 0: none waits
	text, first string
}

// Reasons for which the ends of a range are not understood.
const (
	noEnd   = "a range without its end"
	noBegin = "the end of a range without its begin, or before it"
)

// rangeEnd reads a line that has one end of a range. Others may stand between the two.
func (t *textReader) rangeEnd(line string) bool {
	found := rangeLine.FindStringSubmatch(line)
	if found == nil {
		return false
	}
	waiting := t.half
	if found[1] != "" {
		t.endHalf()
		t.half = halfRange{t.line, line, found[2]}
		return true
	}
	t.half = halfRange{}
	list, ok := between(waiting.first, found[2])
	if !ok {
		t.problem(t.line, line, noBegin)
		if waiting.line > 0 {
			t.problem(waiting.line, waiting.text, noEnd)
		}
		return true
	}
	t.add(waiting.line, "", list...)
	return true
}

// endHalf tells of a range whose end does not come.
func (t *textReader) endHalf() {
	if t.half.line > 0 {
		t.problem(t.half.line, t.half.text, noEnd)
	}
	t.half = halfRange{}
}
