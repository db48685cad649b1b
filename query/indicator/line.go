package indicator

import (
	"net/netip"
	"slices"
	"strings"
)

// lineForms are the forms of a line that programs write, in the order in which they are tried. Each takes the line, or returns
// false.
var lineForms = []func(r *Reading, line string, number int) bool{
	(*Reading).settingLine,   // of the host itself, what to let pass, where to read more
	(*Reading).configLine,    // of firewalls and routers
	(*Reading).filterLine,    // rules that let pass or except
	(*Reading).keyedLine,     // dst=198.51.100.66 dpt=443
	(*Reading).hostsLine,     // 0.0.0.0 evil.example
	(*Reading).rule,          // of Suricata and Snort
	(*Reading).resolverLine,  // dnsmasq, unbound, response policies, Adblock
	(*Reading).typedLine,     // md5:…
	(*Reading).labelledRange, // label:first-last
	(*Reading).clientLine,    // logs of web servers
	(*Reading).arrowLine,     // 192.0.2.1:51234 -> 198.51.100.66:443
}

// plainLine reads one line of a list without a header. It tries the forms from the strictest to the loosest, running
// text last.
func (r *Reading) plainLine(line string, number int) {
	if line != "" && (line[0] >= 0x80 || strings.IndexByte("*>+-", line[0]) >= 0) {
		line = bullet.ReplaceAllString(line, "")
	}
	line = withRanges(remarks.ReplaceAllString(line, ""))
	if strings.Contains(line, " : ") {
		before := r.said()
		if line = r.withoutPassing(line); r.said() > before && !looksLikeAddress(line) {
			return
		}
	}
	if routerPath.MatchString(line) {
		place, _, sets := strings.Cut(line, "=")
		if !sets {
			r.leaveOut(aroundIndicators)
			return
		}
		line = "add " + line[strings.LastIndexByte(place, ' ')+1:]
	}
	if strings.HasPrefix(line, "!") || strings.HasPrefix(line, "@@") {
		r.leaveOut("an exception (! or @@)")
		return
	}
	if strings.Contains(line, "#") && pageElements.MatchString(line) {
		r.leaveOut("a filter of the elements of a page")
		return
	}
	if c, ok := readCell(line); ok {
		if c.is(Path) && strings.Contains(line, " ") {
			r.note("a line that begins with / is read as a path with spaces in it")
		}
		r.add(number, "", c.list...)
		return
	}
	for _, form := range lineForms {
		if form(r, line, number) {
			return
		}
	}
	if head, label, ok := strings.Cut(line, "#"); ok && !isBareNumber(label) && !namesPort(label) { // 198.51.100.66#4#2#Malicious Host#CN
		if c, ok := readCell(head); ok && c.is(Address, Range) {
			r.add(number, trimComment(label), c.list...)
			return
		}
	}
	head, comment := cutComment(line)
	if text := trimComment(comment); namesPort(text) && !looksLikeAddress(text) || strings.HasPrefix(comment, "#") && isBareNumber(text) {
		head, comment = head+"\t"+text, "" // 198.51.100.66 # port 443
	}
	if c, ok := readCell(head); ok {
		r.add(number, trimComment(comment), c.list...)
		return
	}
	if label, list, ok := strings.Cut(head, ": "); ok {
		if c, ok := readCells(list); ok && !maybeVersion(label, list) && !slices.ContainsFunc(c.list, func(i *Indicator) bool { return i.Kind == Port }) {
			r.add(number, label, c.list...)
			return
		}
	}
	if cells := looseRow(head); cells != nil && !portWords.MatchString(head) {
		before := r.said()
		if !r.emuleAllows(cells) && !r.loose(cells, nil, number) && !r.weak(cells, number) && r.said() == before {
			r.problem(number, line, "no cell is an address, CIDR, name, path or hash")
		}
		return
	}
	r.sentence(line, head, comment, number)
}

// pageElements matches an ad filter's rule that hides a part of a page: example.com##.banner.
var pageElements = expr(`^[\w.,~*-]*#[@?$%]*#`)

// bullet matches the mark before a list's item.
var bullet = expr(`^[•·‣▪●○–—*>+-]\s+`)

func trimComment(text string) string { return strings.TrimSpace(strings.TrimLeft(text, "#;/ \t-")) }

// cutComment splits a line from its comment.
func cutComment(line string) (head, comment string) {
	at := len(line)
	for _, mark := range []string{" #", "\t#", " //", "\t//", " ;", "\t;"} {
		if i := strings.Index(line, mark); i > 0 && i < at && !strings.HasSuffix(strings.ToLower(line[:i]), " port") { // port #443
			at = i
		}
	}
	return strings.TrimSpace(line[:at]), strings.TrimSpace(line[at:])
}

// looseRow returns the cells of a row of a table without a header. It returns nil unless at least one whole cell is an
// indicator and no cell has words around an address.
func looseRow(line string) []string {
	for _, separator := range []rune{',', '\t', ';', '|'} {
		if !strings.ContainsRune(line, separator) {
			continue
		}
		cells := splitRecord(strings.TrimRight(line, ",; \t"), separator)
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		whole, part := false, false
		for _, text := range cells {
			_, ok := readCell(text)
			whole, part = whole || ok, part || !ok && looksLikeAddress(text)
		}
		if whole && !part && len(cells) > 1 {
			return cells
		}
	}
	return nil
}

// emuleAllows leaves out a line of eMule's ipfilter.dat that allows a range: its level is above 127.
func (r *Reading) emuleAllows(cells []string) bool {
	if len(cells) < 2 || !strings.Contains(cells[0], "-") {
		return false
	}
	level, ok := octet(strings.TrimLeft(cells[1], "0"))
	if ok && level > 127 {
		r.leaveOut("a range that the list allows (level above 127)")
	}
	return ok && level > 127
}

// hostsLine reads a line of a hosts file: an address that leads nowhere, and names.
func (r *Reading) hostsLine(line string, number int) bool {
	head, comment := cutComment(line)
	fields := strings.Fields(head)
	if len(fields) < 2 || !leadsNowhere(fields[0]) && !strings.HasPrefix(fields[1], "ip6-") {
		return false
	}
	for _, text := range fields[1:] {
		if strings.ContainsAny(text, ":,;|=/()") || maskLike(text) || text == "-" {
			return false
		}
	}
	for _, text := range fields[1:] {
		if c, ok := readCell(text); ok && c.is(Name) && !isOwnName(text) && fields[0] != ownAddress {
			r.add(number, trimComment(comment), c.list...)
			continue
		}
		r.leaveOut("a name of the host itself, in a hosts file")
	}
	return true
}

// ownAddress is the address of a host's own name in Debian's hosts file.
const ownAddress = "127.0.1.1"

func maskLike(text string) bool {
	_, ok := maskBits(text)
	return ok
}

// leadsNowhere reports whether a hosts file uses this address to block a name.
func leadsNowhere(text string) bool {
	if text == "0" {
		return true
	}
	a, err := netip.ParseAddr(text)
	return err == nil && (a.Unmap().IsLoopback() || a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() || a.Zone() != "" || text == "255.255.255.255")
}

// isOwnName reports whether a name in a hosts file is the host's own.
func isOwnName(name string) bool {
	return strings.HasPrefix(name, "localhost.") || strings.HasSuffix(name, ".localdomain") || strings.HasSuffix(name, ".localhost")
}

// labelledRange reads a line of a P2P block list: label:first-last.
func (r *Reading) labelledRange(line string, number int) bool {
	for at := 1; at < len(line); at++ {
		if line[at] != ':' {
			continue
		}
		first, last, ok := strings.Cut(line[at+1:], "-")
		if !ok {
			return false
		}
		if list, ok := between(strings.TrimSpace(first), strings.TrimSpace(last)); ok {
			r.add(number, line[:at], list...)
			return true
		}
	}
	return false
}

// resolverForms match the lines that tell resolvers and ad filters to block a name: dnsmasq, unbound, BIND's response
// policy, Adblock.
var resolverForms = []*expression{
	expr(`^(?:address|server|local)=/((?:[^/]+/)*[^/]+)/(?:0\.0\.0\.0|127\.0\.0\.1|::1?|#)?$`),
	expr(`^local-(?:zone|data): *"?([^\s"]+)"? .*$`),
	expr(`^(\S+)\s+(?:[0-9]+\s+)?(?:IN\s+)?CNAME\s+(?:\*?\.|rpz-drop\.|rpz-tcp-only\.)$`),
	expr(`^\|\|([^\^/$*]+)\^(?:\$.*)?$`),
	expr(`^\.([\w.-]+)$`),
}

// ownSettings match the settings of a resolver or router about itself: where it listens, whom it asks, who may ask.
var ownSettings = expr(`^(?:(?:allow-[a-z-]+|forwarders|listen-on(?:-v6)?|also-notify|masters|primaries)(?: port \d+)? \{|listen-address=|(?:host-record|ptr-record|srv-host|mx-host|txt-record|cname|dhcp-[a-z-]+|interface-name|local-service|conf-(?:dir|file)|port|interface)=|(?:private-address|access-control|forward-addr|stub-addr|interface|outgoing-interface): |ip address [0-9.]+ 255\.|(?:ntp server|(?:ip )?name-?server|ip default-gateway|logging host|snmp-server host|(?:tacacs|radius)-server host|router-id) [0-9a-fA-F]*[.:])`)

// upstream matches where dnsmasq asks for names of a domain, and what WireGuard sends through a tunnel.
var upstream = expr(`^(?:rev-)?server=/[^/]*/[0-9a-fA-F]*[.:]|^AllowedIPs\s*=`)

// references match a line that says where to read more, as in rules of YARA and Sigma.
var references = expr(`(?i)^(?:- )?(?:refs?|references?|permalink|documentation)\s*[:=]\s*["']?(?:https?|hxxps?)\S*://?\S*["']?,?$|^\[[^\]]+\]: +<?https?://|^(?:see|cf\.?)\b[^.]{0,40}https?://\S+$`)

// settingLine leaves out a line about something else than indicators.
func (r *Reading) settingLine(line string, number int) bool {
	switch {
	case ofHostItself(line):
		r.leaveOut("a setting of the host itself")
	case references.MatchString(line):
		r.leaveOut(readMore)
	case passLine.MatchString(line):
		r.leaveOut(passes)
	default:
		return false
	}
	return true
}

// passLine matches a setting that lists what to let pass: ignoreip of fail2ban, mynetworks of Postfix, $HOME_NET of Suricata.
var passLine = expr(`(?i)^(?:- |set |var |ipvar )?["'$]?(?:ignore_?ips?|no_?ban|mynetworks|home_net|(?:white|allow|safe|pass)[_-]?list(?:ed)?(?:_?(?:ips?|hosts?|networks?|cidrs?))?|(?:allowed|trusted|excluded?|ignored|permitted)(?:_?(?:ips?|hosts?|networks?|cidrs?|addresses))?)["']?\s*[:=]\s*\S`)

func ofHostItself(line string) bool {
	return ownSettings.MatchString(line) || upstream.MatchString(line) && !resolverForms[0].MatchString(line)
}

// isSetting reports whether settingLine leaves out a line.
func isSetting(line string) bool { return ofHostItself(line) || references.MatchString(line) }

// resolverPasses matches the lines that tell them to let a name pass.
var resolverPasses = expr(`\brpz-passthru\b|\brpz-client-ip\b|^local-zone: .* "?(?:transparent|typetransparent|nodefault|always_transparent)"?$`)

// resolverLine reads such a line.
func (r *Reading) resolverLine(line string, number int) bool {
	if resolverPasses.MatchString(line) {
		r.leaveOut(passes)
		return true
	}
	for _, form := range resolverForms {
		if found := form.FindStringSubmatch(line); found != nil {
			name := found[1]
			if block, ok := responsePolicy(name); ok {
				name = block
			} else if form == resolverForms[0] {
				name = strings.ReplaceAll(name, "/", ", ") // dnsmasq takes several
			}
			if c, ok := readCells(name); ok && c.is(Name, Address, Range) {
				r.add(number, "", c.list...)
				return true
			}
		}
	}
	return false
}

// leavesOut matches an address that a filter's list leaves out: { 203.0.113.0/24, !203.0.113.9 }.
var leavesOut = expr(`(?:^|[\s{,(\[])!\s*([0-9a-fA-F:.]+(?:/[0-9]+)?)`)

// sentence reads running text. It takes the sure kinds anywhere, at the port that the text names, and a name only as the
// first word.
func (r *Reading) sentence(line, head, comment string, number int) {
	if found := leavesOut.FindStringSubmatch(head); found != nil {
		if c, ok := readCell(found[1]); ok && c.is(Address, Range) {
			r.problem(number, line, exception)
			return
		}
	}
	if excepts(head) {
		r.problem(number, line, exception)
		return
	}
	if devicePort.MatchString(head) && deviceAddress.MatchString(head) {
		r.problem(number, line, "the number after an address may be its port or its length")
		return
	}
	if hasTwoEnds(head) {
		r.problem(number, line, "it has both ends of a connection, and nothing tells which one is looked for")
		return
	}
	if hasPortRange(head) {
		r.problem(number, line, manyPorts)
		return
	}
	head = r.withoutSource(head)
	text, ports, why := r.portsOfSentence(head)
	if why == "" && len(ports) > 0 && severalEnds(head) {
		why = severalPorts
	}
	if why != "" {
		r.problem(number, line, why)
		return
	}
	said := r.said()
	words := wordsOfSentence(text)
	if r.loose(words, ports, number) || r.said() > said {
		return
	}
	if len(words) > 0 {
		if c, ok := readCell(words[0]); ok && c.is(Name, Path) {
			label := strings.TrimSpace(strings.Join(words[1:], " ") + " " + trimComment(comment))
			if len(ports) == 0 && slices.ContainsFunc(c.list, maybeAnyPort) && hasUnreadPort(label) {
				r.problem(number, line, manyPorts)
				return
			}
			r.add(number, label, withPorts(c.list, ports)...)
			return
		}
	}
	r.problem(number, line, notIndicator)
}

// wordsOfSentence returns the words of running text without the punctuation around them,
// and the ends of a range as one word.
func wordsOfSentence(text string) []string {
	text = rangeDash.ReplaceAllStringFunc(toASCII(text), func(ends string) string {
		first, last, _ := strings.Cut(ends, " - ")
		if octet, _, _ := strings.Cut(first, "."); !strings.HasPrefix(last, octet+".") {
			return ends // more likely from one host to another
		}
		return first + "-" + last
	})
	text = joined.ReplaceAllString(text, "$1 :$2")
	var words []string
	for word := range strings.FieldsSeq(text) {
		if _, ok := readCell(word); ok || strings.Contains(word, "://") {
			words = append(words, trimWord(word))
			continue
		}
		for _, part := range partsOf(word, ",;|=") {
			words = append(words, trimWord(part))
		}
	}
	return words
}

// joined matches nft's concatenation of address and port: 198.51.100.66 . tcp . 443.
var joined = expr(`\b([0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9a-f:]*:[0-9a-f:]+) \. (?:(?:tcp|udp) \. )?([0-9])`)

// rangeDash matches a dash between two addresses.
var rangeDash = expr(`\b([0-9]{1,3}(?:\.[0-9]{1,3}){3}) - ([0-9]{1,3}(?:\.[0-9]{1,3}){3})\b`)

// trimWord removes the punctuation around a word, and a label joined to it by a colon.
func trimWord(word string) string {
	if _, ok := readCell(word); ok || strings.HasPrefix(word, "</") {
		return word
	}
	trimmed := strings.Trim(word, "()[]{}<>\"'`,;:!?*|.")
	if _, ok := readCell(trimmed); ok {
		return trimmed
	}
	if label, rest, ok := strings.Cut(trimmed, ":"); ok && label != "" && strings.Trim(strings.ToLower(label), "abcdefghijklmnopqrstuvwxyz0123456789_-") == "" && strings.ContainsAny(label, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") {
		if c, ok := readCell(rest); ok && c.sure && !maybeVersion(label, rest) {
			return rest
		}
	}
	return word
}
