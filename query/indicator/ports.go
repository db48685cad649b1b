package indicator

import (
	"strconv"
	"strings"
)

// A sentence names a port in many ways. One that is not understood is told: without it the address would be read at all ports.

// portWords matches a port in a sentence: port 443, port(s) 443, port no. 443, --dport 443, 443/tcp, TCP/443, TCP 443, port 0x1bb.
var portWords = expr(`(?i)(?:(?:\b(?:(?:d|(?:dst|dest|destination|remote|target|server)[_ -]?)?ports?|dpts?|puertos?|porta)\b|порт|端口)(?:\(s\))?(?: (?:no\.?|nr\.?|number)\b\.?)?["']?[ :=]+[#{]? ?|\b(?:tcp|udp)/|=(?:tcp|udp):|\beq )(0x[0-9a-f]{1,4}|[0-9]{1,5}(?:(?:, ?|/|,? (?:and|or|und|oder|et|ou|y) )[0-9]{1,5})*)\b|\b([0-9]{1,5})/(?:tcp|udp|open/(?:tcp|udp))\b|\b(?:tcp|udp)-?([1-9][0-9]{1,4})\b`)

// protocolWords matches a protocol and a port with nothing but a space or colon between them.
var protocolWords = expr(`(?i)\b(?:tcp|udp):? ([1-9][0-9]{0,4})($|[,;)\]]|\s+[^0-9\s])`)

// counted matches a number that counts what it stands before, and is no port: TCP 3 packets.
var counted = expr(`(?i)\b(?:tcp|udp):? [0-9]+ (?:packets?|pkts?|bytes?|hits?|times|flows?|sessions?|conn(?:ection)?s?|attempts?)\b`)

// portNamed matches the word port, or a protocol, with the word that follows; p443; and the words for many ports.
var (
	portNamed = expr(`(?i)(?:^|[\s("'\[,;=-])(?:(?:d|(?:dst|dest|destination|remote|target|server)[_ -]?)?ports?|puertos?)\b(?:\(s\))?["']?(?:[ :=#/-]*([\w-]*))`)
	portShort = expr(`(?i)(?:^|[\s(,;:@/])p[0-9]{2,5}\b|(?:^|[\s(,;])(?:tcp|udp)/[a-z]`)
)

// portDeeds are words after "port" that name none: a port scan, port unreachable; or that name every port.
var portDeeds = expr(`(?i)^(?:scan\w*|sweep\w*|prob(?:e|ing)\w*|knock\w*|forward\w*|mapp\w*|unreach\w*|any|all)$`)

// everyPort matches words for all ports before the word itself.
var everyPort = expr(`(?i)\b(?:any|all|every) (?:(?:tcp|udp) )?ports?\b`)

// namesPort reports whether words speak of a port, in a way that is understood or not.
func namesPort(text string) bool { return portWords.MatchString(text) || hasUnreadPort(text) }

// hasUnreadPort reports whether the words beside an address, without the ports that were read, still speak of one: port https, port four, p443, high ports.
// Without it the address would be looked for at all ports.
func hasUnreadPort(text string) bool {
	text = everyPort.ReplaceAllString(text, "")
	for _, found := range portNamed.FindAllStringSubmatch(text, -1) {
		if !portDeeds.MatchString(found[1]) {
			return true
		}
	}
	return portShort.MatchString(text)
}

// sourcePorts matches the port that a connection came from, and sshd's line of a login.
var (
	sourcePorts = expr(`(?i)\b(?:src|source|local|client)[_ -]?ports?\b["']?[ :=]+[0-9]{1,5}\b`)
	loginPort   = expr(`\bsshd\b.*\b(?:from|by|user \S*) ` + someAddress + `( port [0-9]{1,5})\b`)
)

// joinedAddress matches an address after a port, whose first octet is no port: port 80 and 198.51.100.7.
var joinedAddress = expr(`(?i)([0-9](?:,? (?:and|or|und|oder|et|ou|y)|,)) ?((?:[0-9]{1,3}\.){3}[0-9]{1,3})\b`)

// addressAfter matches an address after a word that has a port after it elsewhere: ip.src eq 198.51.100.7.
var addressAfter = expr(`(?i)(\b(?:eq|ports?[ :=]) ?)((?:[0-9]{1,3}\.){3}[0-9]{1,3})\b`)

// portsOfSentence returns the ports that running text names, and the text without them. It leaves out those that a connection came from.
// why is the reason if one is not understood.
func (r *Reading) portsOfSentence(head string) (text string, ports []uint16, why string) {
	if found := loginPort.FindStringSubmatchIndex(head); found != nil {
		head = head[:found[4]] + " src port" + strings.TrimPrefix(head[found[4]:], " port")
	}
	text = sourcePorts.ReplaceAllStringFunc(head, func(string) string {
		r.leaveOut(cameFrom)
		return " "
	})
	text = joinedAddress.ReplaceAllString(text, "$1 ;$2")
	text = addressAfter.ReplaceAllString(text, "$1;$2")
	if !counted.MatchString(text) {
		text = protocolWords.ReplaceAllString(text, " port $1$2")
	}
	for _, found := range portWords.FindAllStringSubmatch(text, -1) {
		for _, n := range partsOf(found[1]+" "+found[2]+" "+found[3], " ,/") {
			if n[0] < '0' || n[0] > '9' {
				continue // and
			}
			port, ok := portNumber(n)
			if !ok {
				return "", nil, "it has no port where there must be one"
			}
			ports = append(ports, port)
		}
	}
	return portWords.ReplaceAllString(text, " "), ports, ""
}

// portNumber reads a port, perhaps in hex with 0x before it.
func portNumber(text string) (uint16, bool) {
	if digits, ok := strings.CutPrefix(strings.ToLower(text), "0x"); ok {
		n, err := strconv.ParseUint(digits, 16, 16)
		return uint16(n), err == nil && n > 0
	}
	return parsePortNumber(text)
}

// devicePort and deviceAddress match what routers and firewalls write in their logs: interface:address/port. A low port looks like the
// length of a network.
var (
	devicePort    = expr(`(?:[0-9]{1,3}\.){3}[0-9]{1,3}/(?:3[3-9]|[4-9][0-9]|[1-9][0-9]{2,4})\b`)
	deviceAddress = expr(`(?:[0-9]{1,3}\.){3}[0-9]{1,3}/(?:[0-9]|[12][0-9]|3[0-2])(?:$|[\s,;()>-])`)
)
