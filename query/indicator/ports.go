package indicator

import (
	"regexp"
	"strconv"
	"strings"
)

// A sentence names a port in many ways. One that is not understood is told: without it the address would be read at all ports.

// portWords matches a port in a sentence: port 443, port(s) 443, port no. 443, --dport 443, 443/tcp, TCP/443, TCP 443, port 0x1bb.
var portWords = regexp.MustCompile(`(?i)(?:\b(?:(?:d|(?:dst|dest|destination|remote|target|server)[_ -]?)?ports?|dpts?)\b(?:\(s\))?(?: (?:no\.?|nr\.?|number)\b\.?)?["']?[ :=]+[#{]? ?|\b(?:tcp|udp)/|=(?:tcp|udp):|\beq )(0x[0-9a-f]{1,4}|[0-9]{1,5}(?:(?:, ?|/|,? and |,? or )[0-9]{1,5})*)\b|\b([0-9]{1,5})/(?:tcp|udp|open/(?:tcp|udp))\b`)

// protocolWords matches a protocol and a port with nothing but a space or colon between them.
var protocolWords = regexp.MustCompile(`(?i)\b(?:tcp|udp):? ([1-9][0-9]{0,4})($|[,;)\]]|\s+[^0-9\s])`)

// counted matches a number that counts what it stands before, and is no port: TCP 3 packets.
var counted = regexp.MustCompile(`(?i)\b(?:tcp|udp):? [0-9]+ (?:packets?|pkts?|bytes?|hits?|times|flows?|sessions?|conn(?:ection)?s?|attempts?)\b`)

// strangePort matches words for a port that are no number: port https, tcp/ssh, high ports, ports > 1024.
var strangePort = regexp.MustCompile(`(?i)\b(?:(?:d|dst-?)?ports?\b(?:\(s\))?["']?(?:[ :=]+#? ?|/)(?:https?|www|ssh|s?ftp|telnet|smtps?|dns|domain|rdp|smb|snmp|imaps?|pop3s?|ldaps?|mysql|mssql|postgres\w*|ntp|vnc|socks5?|irc|unknown|various|multiple|several|dynamic|random|high|ephemeral|above|below|over|under|greater|less)\b|(?:d|dst-?)?ports?\b ?(?:[<>]|>=|<=)|port-?ranges?\b|(?:tcp|udp)/[a-z][\w-]*|(?:high|random|ephemeral|various|multiple|several|unknown|non-?standard|dynamic) (?:(?:tcp|udp) )?ports?)\b?`)

// sourcePorts matches the port that a connection came from, and sshd's line of a login.
var (
	sourcePorts = regexp.MustCompile(`(?i)\b(?:src|source|local|client)[_ -]?ports?\b["']?[ :=]+[0-9]{1,5}\b`)
	loginPort   = regexp.MustCompile(`\bsshd\b.*\b(?:from|by|user \S*) ` + someAddress + `( port [0-9]{1,5})\b`)
)

// joinedAddress matches an address after a port, whose first octet is no port: port 80 and 198.51.100.7.
var joinedAddress = regexp.MustCompile(`(?i)([0-9](?:,| and| or)) ?((?:[0-9]{1,3}\.){3}[0-9]{1,3})\b`)

// addressAfter matches an address after a word that has a port after it elsewhere: ip.src eq 198.51.100.7.
var addressAfter = regexp.MustCompile(`(?i)(\b(?:eq|ports?[ :=]) ?)((?:[0-9]{1,3}\.){3}[0-9]{1,3})\b`)

// portsOfSentence returns the ports that running text names, and the text without them. It leaves out those that a connection came from.
// why is the reason if one is not understood.
func (r *Reading) portsOfSentence(head string) (text string, ports []uint16, why string) {
	if found := loginPort.FindStringSubmatchIndex(head); found != nil {
		head = head[:found[4]] + " src port" + strings.TrimPrefix(head[found[4]:], " port")
	}
	text = sourcePorts.ReplaceAllStringFunc(head, func(string) string {
		r.leaveOut("the port that a connection came from")
		return " "
	})
	text = joinedAddress.ReplaceAllString(text, "$1 ;$2")
	text = addressAfter.ReplaceAllString(text, "$1;$2")
	if !counted.MatchString(text) {
		text = protocolWords.ReplaceAllString(text, " port $1$2")
	}
	for _, found := range portWords.FindAllStringSubmatch(text, -1) {
		for _, n := range strings.FieldsFunc(found[1]+" "+found[2], func(r rune) bool { return strings.ContainsRune(", /andorANDOR", r) }) {
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
	devicePort    = regexp.MustCompile(`(?:[0-9]{1,3}\.){3}[0-9]{1,3}/(?:3[3-9]|[4-9][0-9]|[1-9][0-9]{2,4})\b`)
	deviceAddress = regexp.MustCompile(`(?:[0-9]{1,3}\.){3}[0-9]{1,3}/(?:[0-9]|[12][0-9]|3[0-2])(?:$|[\s,;()>-])`)
)
