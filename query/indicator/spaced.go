package indicator

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Tables of programs, whose columns stand below each other: netstat, ss, an export of Splunk, a log of the Windows firewall.

// Separators of such tables.
const (
	bySpaces = ' '  // one space or more
	byGaps   = '\v' // two spaces or more: the names of columns have spaces
)

var gaps = expr(` *\t+ *|  +`)

// splitSpaced returns the cells of a line of such a table.
func splitSpaced(line string, separator rune) []string {
	if separator == byGaps {
		return gaps.Split(strings.TrimSpace(line), -1)
	}
	return strings.Fields(line)
}

// findSpaced parses a header of such a table. The line after it must have as many cells, and indicators and ports where the header says so:
// few words above an address are no header.
func findSpaced(line, next string) *table {
	for _, separator := range []rune{byGaps, bySpaces} {
		names := splitSpaced(line, separator)
		cells := splitSpaced(next, separator)
		if len(names) < 2 || len(cells) < len(names) || separator == byGaps && len(cells) != len(names) {
			continue
		}
		t := headerOf(names)
		if t == nil || !slices.ContainsFunc(t.roles, isHostRole) || len(cells) > len(names) && isHostRole(t.roles[len(names)-1]) {
			continue
		}
		t.separator = separator
		if t.holds(t.fields(t.cells(next))) {
			return t
		}
	}
	return nil
}

// holds reports whether all columns of indicators and ports of a record have such, and one has.
func (t *table) holds(fields []field) bool {
	found := false
	dropTimes(fields)
	for _, f := range fields {
		text := strings.Trim(f.text, "-")
		switch {
		case text == "":
		case f.role == rolePort || f.role == roleSourcePort:
			if _, ok := readPorts(text); !ok {
				return false
			}
		case isHostRole(f.role):
			c, ok := readCells(text)
			if !ok || !fits(c, f.role) {
				return false
			}
			found = found || c.sure
		}
	}
	return found
}

// cells returns the cells of a line without quotes. In a table with spaces what is beyond the last column belongs to it.
func (t *table) cells(line string) []string {
	if t.separator != bySpaces && t.separator != byGaps {
		return splitRecord(line, t.separator)
	}
	cells := splitSpaced(line, t.separator)
	if n := len(t.roles); t.separator == bySpaces && len(cells) > n {
		cells = append(cells[:n-1:n-1], strings.Join(cells[n-1:], " "))
	}
	return cells
}

// socketHeader matches the header of netstat and ss: the first address of a line is the host's own.
var socketHeader = expr(`(?i)\blocal address.*\b(?:foreign|peer|remote) address`)

const listens = "a socket without a peer"

// socketLine reads a line of netstat or ss: the second address.
func (t *textReader) socketLine(line string) bool {
	if socketHeader.MatchString(line) {
		t.sockets = true
		t.leaveOut(aroundIndicators)
		return true
	}
	if !t.sockets || t.table != nil {
		return false
	}
	var ends []string
	for _, word := range strings.Fields(line) {
		if _, ok := socketEnd(word); ok || strings.HasSuffix(word, ":*") {
			ends = append(ends, word)
		}
	}
	if len(ends) != 2 {
		return false
	}
	peer, ok := socketEnd(ends[1])
	if !ok || peer.Addr().IsUnspecified() {
		t.leaveOut(listens)
		return true
	}
	t.leaveOut(sourceBeside)
	t.add(t.line, "", ofAddress(peer.Addr(), peer.Port()))
	return true
}

// socketEnd reads an address and its port. Netstat writes no brackets around IPv6.
func socketEnd(word string) (netip.AddrPort, bool) {
	if end, err := netip.ParseAddrPort(word); err == nil {
		return end, true
	}
	at := strings.LastIndexByte(word, ':')
	if at < 0 {
		return netip.AddrPort{}, false
	}
	host, _, _ := strings.Cut(word[:at], "%")
	a, err := netip.ParseAddr(strings.Trim(host, "[]"))
	port, errPort := strconv.ParseUint(word[at+1:], 10, 16)
	return netip.AddrPortFrom(a, uint16(port)), err == nil && errPort == nil
}
