package format

import (
	"net/netip"
	"strings"
)

// Cells that are too wide are shortened where they say least: an address in its middle, for its port and both its ends tell it
// from others; a path at its start; other text at its end.

// shorten cuts a cell to a width.
func (t *tableWriter) shorten(cell string, column, width int) string {
	name := t.columns[column]
	switch {
	case name == "bar" && t.natural[column] > width: // in proportion, like all its others
		bar := []rune(cell)
		return string(bar[:(len(bar)*width+t.natural[column]-1)/t.natural[column]])
	case displayWidth(cell) <= width:
		return cell
	case name == "cmdline":
		return snip(cell, width)
	}
	first, rest := cell, ""
	if host, port, ok := strings.Cut(cell, " "); ok && isAddress(host) && strings.Trim(port, "0123456789") == "" {
		return snipAddress(cell, width) // lateral's 192.0.2.1 22
	}
	if at := strings.IndexAny(cell, " ,"); at > 0 && (isListed(cell[at:]) || isAddress(cell[:at])) {
		first, rest = cell[:at], cell[at:]
	}
	switch {
	case rest != "" && displayWidth(first) < width:
		return snip(cell, width)
	case isAddress(first), isNamePort(first), name == "name" && strings.Contains(first, ".") && !strings.HasPrefix(first, "/"):
		return snipAddress(first, width)
	case strings.HasPrefix(first, "/") && rest != "":
		return snipStart(first, width)
	case strings.HasPrefix(cell, "/"):
		return snipPath(cell, width)
	}
	return snip(cell, width)
}

// isListed reports whether what follows the first item of a cell makes it a list with counts: 192.0.2.1:443 (12), /run/x (3).
func isListed(rest string) bool {
	return strings.HasPrefix(rest, " (") && !strings.HasPrefix(rest, deletedMark)
}

// deletedMark is what the kernel writes after the path of a program whose file is gone.
const deletedMark = " (deleted)"

// isAddress reports whether a text is an address, perhaps with a port.
func isAddress(text string) bool {
	host, _ := hostAndPort(text)
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil
}

// isNamePort reports whether a text is the name of a host with its port.
func isNamePort(text string) bool {
	at := strings.LastIndexByte(text, ':')
	return at > 0 && at < len(text)-1 && strings.Trim(text[at+1:], "0123456789") == "" && strings.Contains(text[:at], ".") && !strings.ContainsAny(text[:at], "/:")
}

// hostAndPort splits an address from its port, which keeps the colon or blank before it; brackets stay with the address.
func hostAndPort(text string) (host, port string) {
	if at := strings.LastIndexByte(text, ' '); at > 0 {
		return text[:at], text[at:]
	}
	if end, err := netip.ParseAddrPort(text); err == nil && end.IsValid() || isNamePort(text) {
		at := strings.LastIndexByte(text, ':')
		return text[:at], text[at:]
	}
	return text, ""
}

// snipAddress cuts groups from the middle of an address, and keeps its port: [2001:…:7]:443. If there is no room for one group at
// each end, it cuts between characters.
func snipAddress(text string, width int) string {
	host, port := hostAndPort(text)
	if displayWidth(text) <= width {
		return text
	}
	room := width - len(port) - 1
	separator := "."
	if strings.Contains(host, ":") {
		separator = ":"
	}
	groups := strings.Split(host, separator)
	best := ""
	for head := 1; head < len(groups); head++ {
		for tail := 1; head+tail < len(groups); tail++ {
			start, end := strings.Join(groups[:head], separator)+separator, separator+strings.Join(groups[len(groups)-tail:], separator)
			if n := len(start) + len(end); n <= room && n >= len(best)-len("…") {
				best = start + "…" + end
			}
		}
	}
	if best != "" {
		return best + port
	}
	if room < 2 {
		return snipTail(text, width) // the port, if nothing else
	}
	runes := []rune(host) // names may have other letters, which are as wide
	head := (room + 1) / 2
	if len(runes) != displayWidth(host) {
		return snip(text, width)
	}
	return string(runes[:head]) + "…" + string(runes[len(runes)-(room-head):]) + port
}

// snipTail keeps the end of a text.
func snipTail(text string, width int) string {
	runes := []rune(text)
	for len(runes) > 0 && displayWidth(string(runes)) >= width {
		runes = runes[1:]
	}
	return "…" + string(runes)
}

// snipStart cuts the start of a path, before a separator if possible.
func snipStart(cell string, width int) string {
	if displayWidth(cell) <= width {
		return cell
	}
	for i := max(len(cell)-width, 1); i < len(cell); i++ {
		if cell[i] == '/' && displayWidth(cell[i:]) < width {
			return "…" + cell[i:]
		}
	}
	if last := cell[strings.LastIndexByte(cell, '/')+1:]; displayWidth(last) == width {
		return last
	}
	return snipTail(cell, width)
}

// widestName is the widest name of a program for which other columns become narrower.
const widestName = 16

// nameWidth returns the width of the last element of a path, 0 if it is too wide to be shown whole, and for other texts.
func nameWidth(cell string) int {
	if !strings.HasPrefix(cell, "/") {
		return 0
	}
	path := strings.TrimSuffix(cell, deletedMark)
	if n := displayWidth(path[strings.LastIndexByte(path, '/')+1:]); n <= widestName {
		return n
	}
	return 0
}

// snipPath is snipStart for a program's path. The name of a program whose file is gone is worth more than the whole mark after it.
func snipPath(cell string, width int) string {
	const least = len(" (d") + 1
	path, isDeleted := strings.CutSuffix(cell, deletedMark)
	last := path[strings.LastIndexByte(path, '/')+1:]
	if isDeleted && displayWidth(last+deletedMark)+1 > width && width > 2*least {
		return snip(snipStart(path, width-least)+deletedMark, width)
	}
	return snipStart(cell, width)
}
