package indicator

import (
	"slices"
	"strings"
)

// An exception in words or in the language of a search: ALL EXCEPT 192.0.2.1, dest_ip != "192.0.2.1", and not port 22. What is left of
// such a line without it would be wider, or the opposite.
var (
	exceptWord    = expr(`\bEXCEPT\b`) // hosts.deny
	exceptAddress = expr(`(?i)\b(?:not|except(?:ing|ion:?|ions:?)?|exclud(?:e|es|ed|ing):?|excl\.?|minus|without|other than|apart from|but)\s+(?:for\s+|from\s+|of\s+|not\s+|the\s+|address\s*=?\s*|host\s+)*["'\[(]?(?:[0-9]{1,3}\.){3}[0-9]{1,3}\b`)
	exceptTerm    = expr(`(?i)(?:!=|<>|\bnot in\b)\s*[("'\[]*(?:[0-9]{1,3}\.){3}[0-9]|\b(?:not|neq)\s+[\w.]+\s*(?:=|==|:|\bin\b|\blike\b|\beq\b)|\bnot\s+(?:(?:tcp|udp|dst|src|ip6?)\s+)*(?:ports?|host|net|dst|src)\b|\bports?\s*(?:!=|<>|not\b)|(?:^|[\s(&|])!\s*\(|(?:^|[\s(&|])!(?:tcp|udp|ip|host|port)\b`)
)

// excepts reports whether a line with an address has an exception.
func excepts(line string) bool {
	line = refang(line)
	return exceptAddress.MatchString(line) || dotted.MatchString(line) && (exceptWord.MatchString(line) || exceptTerm.MatchString(line))
}

// Sides of a connection in rules and in the language of searches.
var (
	sideSource = expr(`(?i)(?:^|[\s(])(?:-s|--src|--source|saddr|src(?:[ .](?:host|net|ip))*(?: ==?)?|(?:source|src)[ _]?(?:network )?(?:ip|addr(?:ess)?)[:=]?) (?:[0-9]{1,3}\.){3}[0-9]{1,3}(?:/[0-9]{1,2})?`)
	sideTarget = expr(`(?i)(?:^|[\s(])(?:-d|--dst|--destination|daddr|dst(?:[ .](?:host|net|ip))*(?: ==?)?|(?:destination|dest|dst)[ _]?(?:network )?(?:ip|addr(?:ess)?)[:=]?) (?:[0-9]{1,3}\.){3}[0-9]{1,3}`)
	aclSides   = expr(`(?i)^((?:access-list \S+ )?(?:extended )?(?:\d+ )?deny (?:tcp|udp|ip|icmp) )((?:host )?[1-9][0-9.]+(?: (?:0|255)\.[0-9.]+)?(?: eq [0-9]+)?) ((?:host )?[1-9][0-9.]+(?: .*)?)$`)
)

// withoutSource leaves out the source of a rule that names the destination too.
func (r *Reading) withoutSource(head string) string {
	if found := aclSides.FindStringSubmatch(head); found != nil {
		r.leaveOut(sourceBeside)
		return found[1] + found[3]
	}
	if !strings.Contains(head, " 0.0.0.0") && sideTarget.MatchString(head) && sideSource.MatchString(head) {
		r.leaveOut(sourceBeside)
		return sideSource.ReplaceAllString(head, " ")
	}
	return head
}

const severalPorts = "it has several addresses with ports of their own: write each on a line"

// inParentheses matches a remark, and ofAll one about all addresses before it.
var (
	inParentheses = expr(`\([^()]*\)`)
	ofAll         = expr(`(?i)\b(?:all|both|each|every|beide|alle|jeweils|tous|todos)\b`)
)

// severalEnds reports whether a line with several addresses has a port that may be that of some: it stands between them, or in a remark in
// parentheses behind the last.
func severalEnds(head string) bool {
	head = joinedAddress.ReplaceAllString(head, "$1 ;$2")
	for _, at := range portWords.FindAllStringIndex(head, -1) {
		if dotted.MatchString(head[:at[0]]) && dotted.MatchString(head[at[1]:]) {
			return true
		}
	}
	if len(dotted.FindAllString(inParentheses.ReplaceAllString(head, ""), 2)) < 2 {
		return false
	}
	return slices.ContainsFunc(inParentheses.FindAllString(head, -1), func(remark string) bool { return portWords.MatchString(remark) && !ofAll.MatchString(remark) })
}
