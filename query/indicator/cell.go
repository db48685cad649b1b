package indicator

import (
	"regexp"
	"slices"
	"strings"
)

// cell is what one cell, or one word of a line, was read as.
type cell struct {
	list []*Indicator
	sure bool // the text alone makes the kind sure: see parse
}

// is reports whether all of a cell is of one of the kinds.
func (c cell) is(kinds ...Kind) bool {
	return len(c.list) > 0 && !slices.ContainsFunc(c.list, func(i *Indicator) bool { return !slices.Contains(kinds, i.Kind) })
}

// readCell reads one indicator, or one range of addresses, which may be several.
func readCell(text string) (cell, bool) {
	if i, sure, ok := parse(text); ok {
		return cell{[]*Indicator{i}, sure}, true
	}
	if list, ok := parseRange(text); ok {
		return cell{list, true}, true
	}
	return cell{}, false
}

// readCells reads a cell that may hold several indicators, parted by commas, semicolons,
// bars, lines or spaces. All of it must be understood.
func readCells(text string) (cell, bool) {
	if c, ok := readCell(text); ok {
		return c, true
	}
	all := cell{sure: true}
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(",;| \t\n", r) }) {
		c, ok := readCell(word)
		if !ok {
			return cell{}, false
		}
		all.list, all.sure = append(all.list, c.list...), all.sure && c.sure
	}
	return all, len(all.list) > 0
}

// readPorts reads the ports of a cell. None at all is no error: a list says 0, any, * or
// - where every port is meant.
func readPorts(text string) (ports []uint16, ok bool) {
	switch strings.ToLower(strings.TrimSpace(text)) {
	case "", "0", "-", "*", "any", "all", "n/a", "none", "null", "(empty)", "0-65535", "1-65535":
		return nil, true
	}
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(",;| \t\n[]", r) }) {
		i, ok := ParsePort(undecorated(word))
		if !ok {
			return nil, false
		}
		ports = append(ports, i.Port)
	}
	return ports, len(ports) > 0
}

// withPorts returns indicators at ports. One that has a port of its own keeps it, and
// what has none, such as a hash, stays as it is.
func withPorts(list []*Indicator, ports []uint16) []*Indicator {
	if len(ports) == 0 {
		return list
	}
	var all []*Indicator
	for _, i := range list {
		if i.Port != 0 || i.Kind != Address && i.Kind != Range && i.Kind != Name {
			all = append(all, i)
			continue
		}
		for _, port := range ports {
			one := *i
			one.Port = port
			all = append(all, &one)
		}
	}
	return all
}

// dotted is what looks like an IPv4 address, whether it is one or not.
var dotted = regexp.MustCompile(`[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+`)

// looksLikeAddress reports whether a text that was not understood was meant as an address.
func looksLikeAddress(text string) bool { return dotted.MatchString(refang(text)) }

// The assumptions on which something is read, and what is left out.
const (
	portBeside   = "the number after an address is read as its port: give the table a header if it is something else"
	nameBeside   = "a name beside an address in a table without a header, or in a sentence"
	sourceBeside = "the source of what has a destination too"
	otherColumn  = "in a column that is not said to hold indicators"
)

// loose reads cells, or the words of a line, of which nothing says what they are. What is
// sure is read: addresses, ranges, URLs, hashes. Only if there is nothing of the kind,
// names and paths are. It returns false when nothing was understood.
func (r *Reading) loose(cells []string, ports []uint16, line int) bool {
	var found []*Indicator
	var beside []string
	names := 0
	if pairsUnclear(cells) {
		r.problem(line, strings.Join(cells, " "), "it has addresses and then numbers, and no header says which number is whose port")
		return true
	}
	hasAddress := slices.ContainsFunc(cells, func(text string) bool {
		c, ok := readCell(text)
		return ok && c.sure && c.is(Address, Range) && !strings.Contains(text, "://")
	})
	for at := 0; at < len(cells); at++ {
		c, ok := readCell(cells[at])
		switch {
		case !ok && looksLikeAddress(cells[at]):
			r.problem(line, cells[at], notIndicator)
			beside = append(beside, cells[at])
			continue
		case !ok || !c.sure || hasAddress && c.is(Name) && strings.Contains(cells[at], "://"):
			if ok && c.is(Name) {
				names++
			}
			beside = append(beside, cells[at])
			continue
		}
		if at+1 < len(cells) && c.is(Address, Range) && portRangeCell(cells[at+1]) {
			r.problem(line, cells[at]+" "+cells[at+1], manyPorts)
			return true
		}
		list, used := r.pair(c, cells, at)
		at += used
		found = append(found, withPorts(list, ports)...)
	}
	if len(found) == 0 {
		return false
	}
	for range names {
		if !(cell{list: found}).is(Hash) { // sha256sum writes the name of the file after it
			r.leaveOut(nameBeside)
		}
	}
	r.add(line, trimComment(strings.Trim(strings.Join(beside, " "), " :")), found...)
	return true
}

// pairsUnclear reports whether cells have two addresses, or more, before the numbers that may be their ports.
func pairsUnclear(cells []string) bool {
	isAddress := func(at int) bool {
		c, ok := readCell(cells[at])
		return ok && c.sure && c.is(Address) && len(c.list) == 1 && c.list[0].Port == 0
	}
	isNumber := func(at int) bool { _, ok := parsePortNumber(strings.TrimSpace(cells[at])); return ok }
	for at := 0; at+3 < len(cells); at++ {
		if isAddress(at) && isAddress(at+1) && isNumber(at+2) && isNumber(at+3) {
			_, isRange := wholeBlock(cells[at], cells[at+1])
			_, isMask := masked(cells[at], cells[at+1])
			return !isRange && !isMask
		}
	}
	return false
}

// pair reads what belongs to a cell that is an address: the mask after it, the last
// address of its range, or its port. It returns how many cells after it were used.
func (r *Reading) pair(c cell, cells []string, at int) (list []*Indicator, used int) {
	if len(c.list) != 1 || at+1 >= len(cells) {
		return c.list, 0
	}
	i, next := c.list[0], strings.TrimSpace(cells[at+1])
	if i.Port != 0 || i.Kind != Address && i.Kind != Range || strings.Contains(cells[at], "://") {
		return c.list, 0
	}
	if i.Kind == Address && strings.Contains(next, ".") {
		if block, ok := masked(i.Text, next); ok {
			return []*Indicator{block}, 1
		}
		if block, ok := wildcarded(i.Text, next); ok {
			return []*Indicator{block}, 1
		}
		if block, ok := wholeBlock(i.Text, undecorated(refang(next))); ok {
			used = 1
			if at+2 < len(cells) && strings.HasSuffix(block[0].Text, "/"+strings.TrimSpace(cells[at+2])) {
				used = 2 // DShield writes the length too
			}
			return block, used
		}
	}
	if port, ok := ParsePort(undecorated(next)); ok && !strings.Contains(cells[at], "-") { // after first-last eMule has its level
		r.note(portBeside)
		return withPorts(c.list, []uint16{port.Port}), 1
	}
	return c.list, 0
}

// maybeOctets reports whether four numbers may be an address that was made harmless by commas.
func maybeOctets(cells []string) bool {
	return len(cells) == 4 && !slices.ContainsFunc(cells, func(text string) bool { _, ok := octet(strings.TrimSpace(text)); return !ok })
}

// weak reads cells that are names, paths or ports: all of the names and paths, and ports
// only where there is nothing else.
func (r *Reading) weak(cells []string, line int) bool {
	var found []*Indicator
	var beside []string
	ports := 0
	for _, text := range cells {
		c, ok := readCell(text)
		switch {
		case ok && c.is(Name, Path):
			found = append(found, c.list...)
		case ok && c.is(Port):
			ports++
			beside = append(beside, text)
		default:
			beside = append(beside, text)
		}
	}
	if len(found) == 0 && ports == len(cells) && !maybeOctets(cells) {
		for _, text := range cells {
			i, _ := Parse(text)
			found = append(found, i)
		}
		beside = nil
	}
	r.add(line, trimComment(strings.Join(beside, " ")), found...)
	return len(found) > 0
}
