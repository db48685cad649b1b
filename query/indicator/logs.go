package indicator

import (
	"net/netip"
	"strings"
)

// Lines of logs name two ends of a connection. The end that is looked for is the one that the line is about.

// clientLog matches a line of a web server's log (Common Log Format), or of HAProxy's: the client stands first. A port behind it is the
// one that it came from.
var clientLog = expr(`^(.*\bhaproxy\[[0-9]+\]: )?(\S+) (?:\S+ \S+ )?\[[0-9]{2}/[A-Z][a-z]{2}/[0-9]{4}:[0-9:. +-]+\] (.*)$`)

const cameFrom = "the port that a connection came from"

// clientLine reads such a line.
func (r *Reading) clientLine(line string, number int) bool {
	found := clientLog.FindStringSubmatch(line)
	if found == nil {
		return false
	}
	client, err := netip.ParseAddr(found[2])
	if end, hasPort := socketEnd(found[2]); hasPort && (err != nil || found[1] != "") { // HAProxy writes no brackets around IPv6
		r.leaveOut(cameFrom)
		client, err = end.Addr(), nil
	}
	if err != nil {
		return false
	}
	r.add(number, found[3], ofAddress(client, 0))
	return true
}

// hasTwoEnds reports whether a line has one pair of ends with ports, one of them of a private network, and other words. It does not tell which
// end began.
func hasTwoEnds(line string) bool {
	words := strings.Fields(line)
	at := -1 // of the first end
	for i, word := range words {
		if _, err := netip.ParseAddrPort(word); err != nil {
			continue
		}
		if at >= 0 && i != at+1 {
			return false
		}
		if at < 0 {
			at = i
		}
	}
	if at < 0 || at+1 == len(words) || len(words) == 2 {
		return false
	}
	a, _ := netip.ParseAddrPort(words[at])
	b, err := netip.ParseAddrPort(words[at+1])
	return err == nil && a.Addr().IsPrivate() != b.Addr().IsPrivate()
}

// arrow matches a connection in a log: the side that it came from, and the side that it went to.
var arrow = expr(`(\S+?) ?(?:->|=>|→|-->) ?(\S+)`)

// arrowLine reads a line with one connection, both sides of which have a port: only the side that it went to.
func (r *Reading) arrowLine(line string, number int) bool {
	all := arrow.FindAllStringSubmatch(line, -1)
	if len(all) != 1 {
		return false
	}
	from, okFrom := socketEnd(trimWord(all[0][1]))
	to, okTo := socketEnd(trimWord(all[0][2]))
	if !okFrom || !okTo || from.Port() == 0 || to.Port() == 0 {
		return false
	}
	r.leaveOut(sourceBeside)
	label := trimComment(strings.Join(strings.Fields(arrow.ReplaceAllString(line, " ")), " "))
	r.add(number, label, ofAddress(to.Addr(), to.Port()))
	return true
}
