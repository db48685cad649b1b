package indicator

import (
	"strings"
)

// Rules of Suricata and Snort: action protocol source port -> destination port (options).
// https://docs.suricata.io/en/latest/rules/intro.html

var (
	ruleForm    = expr(`^(alert|drop|reject\w*|log|pass|block)\s+(\w[\w.-]*)\s+(.+?)\s+(->|<>)\s+(.+?)\s*\((.*)\)\s*$`)
	nameContent = expr(`(?:dns[._]query|tls[._]sni|http[._]host|http\.host\.raw)\s*;\s*(?:[\w.]+;\s*)*content\s*:\s*"([^"|]+)"`)
	openPorts   = expr(`(?:^|[\[,\s]):[0-9]|[0-9]:(?:$|[\],\s])`) // all up to it, or from it
	ruleMessage = expr(`msg\s*:\s*"((?:[^"\\]|\\.)*)"`)
)

// rule reads one rule: its destination and port, or else its source, or the name that it matches.
func (r *Reading) rule(line string, number int) bool {
	parts := ruleForm.FindStringSubmatch(line)
	if parts == nil {
		return false
	}
	if r.Format == "plain" {
		r.Format = "rules"
	}
	label := ""
	if found := ruleMessage.FindStringSubmatch(parts[6]); found != nil {
		label = found[1]
	}
	source, _ := ruleEnd(parts[3])
	target, port := ruleEnd(parts[5])
	switch {
	case parts[1] == "pass":
		r.leaveOut("rules that let pass")
	case namesHosts(target):
		r.ruleHosts(line, target, port, label, number)
		if namesHosts(source) {
			r.leaveOut(sourceBeside)
		}
	case namesHosts(source):
		// A source's port in a rule is the port that it answers from.
		_, port = ruleEnd(parts[3])
		r.ruleHosts(line, source, port, label, number)
	default:
		r.ruleName(line, parts[6], label, number)
	}
	return true
}

// ruleEnd splits an end of a rule into addresses and ports.
func ruleEnd(text string) (hosts, port string) {
	at := strings.LastIndexAny(text, " \t")
	if open := strings.LastIndexByte(text, '['); open > 0 && strings.HasSuffix(text, "]") && !strings.HasSuffix(text[:open], "!") {
		at = open - 1
	}
	if at < 0 {
		return text, ""
	}
	return strings.TrimSpace(text[:at]), strings.TrimSpace(text[at:])
}

func namesHosts(text string) bool { return looksLikeAddress(text) || strings.Contains(text, "::") }

// ruleHosts adds the addresses of a rule, at its ports.
func (r *Reading) ruleHosts(line, hosts, port, label string, number int) {
	ports, ok := readPorts(strings.TrimPrefix(port, "$"))
	switch {
	case strings.Contains(hosts, "!"):
		r.problem(number, line, "its addresses have an exception (!), which cannot be looked up")
		return
	case strings.HasPrefix(port, "$") || !ok || openPorts.MatchString(port):
		r.problem(number, line, "its ports cannot be looked up: "+port)
		return
	}
	for _, text := range partsOf(hosts, "[], \t") {
		c, ok := readCell(text)
		switch {
		case strings.HasPrefix(text, "$") || text == "any":
		case !ok || !c.is(Address, Range):
			r.problem(number, text, notIndicator)
		default:
			r.add(number, label, withPorts(c.list, ports)...)
		}
	}
}

// ruleName adds the host name that a rule matches in DNS, TLS or HTTP.
func (r *Reading) ruleName(line, options, label string, number int) {
	if found := nameContent.FindStringSubmatch(options); found != nil {
		if c, ok := readCell(strings.TrimPrefix(found[1], ".")); ok && c.is(Name) {
			r.add(number, label, c.list...)
			return
		}
	}
	r.problem(number, line, "the rule has no address and no name")
}
