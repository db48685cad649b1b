package indicator

import (
	"slices"
	"strings"
)

// cell holds the indicators read from one cell, or from one word of a line.
type cell struct {
	list []*Indicator
	sure bool // the text alone determines the kind: see parse
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

// readCells reads a cell with one or several indicators, separated by commas, semicolons, bars, lines or spaces. It
// returns false unless it understands all of the cell.
func readCells(text string) (cell, bool) {
	if c, ok := readCell(text); ok {
		return c, true
	}
	all := cell{sure: true}
	for _, word := range partsOf(text, ",;| \t\n") {
		c, ok := readCell(word)
		if !ok {
			return cell{}, false
		}
		all.list, all.sure = append(all.list, c.list...), all.sure && c.sure
	}
	return all, len(all.list) > 0
}

// readPorts reads the ports of a cell. 0, any, * and - mean every port: no ports, and ok.
func readPorts(text string) (ports []uint16, ok bool) {
	switch strings.ToLower(strings.TrimSpace(text)) {
	case "", "0", "-", "*", "any", "all", "n/a", "none", "null", "(empty)", "0-65535", "1-65535":
		return nil, true
	}
	for _, word := range partsOf(text, ",;| \t\n[]") {
		i, ok := ParsePort(undecorated(word))
		if !ok {
			return nil, false
		}
		ports = append(ports, i.Port)
	}
	return ports, len(ports) > 0
}

// withPorts returns the indicators at each of the ports. An indicator with a port keeps it, and a kind without ports,
// such as a hash, stays unchanged.
func withPorts(list []*Indicator, ports []uint16) []*Indicator {
	if len(ports) == 0 {
		return list
	}
	var all []*Indicator
	for _, i := range list {
		if !maybeAnyPort(i) {
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

// maybeAnyPort reports whether an indicator is looked for at all ports.
func maybeAnyPort(i *Indicator) bool {
	return i.Port == 0 && (i.Kind == Address || i.Kind == Range || i.Kind == Name)
}

// dotted matches four dotted numbers, valid IPv4 address or not.
var dotted = expr(`[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+`)

// looksLikeAddress reports whether a text that is not an indicator was probably meant as an address.
func looksLikeAddress(text string) bool { return dotted.MatchString(refang(text)) }

// Assumptions of a reading, and reasons for leaving something out.
const (
	portBeside    = "the number after an address is read as its port: give the table a header if it is something else"
	numberBeside  = "the number after an address is read as no port: the numbers of the list are not those of ports"
	anotherNumber = "a number beside an address with its port"
	nameBeside    = "a name beside an address in a table without a header, or in a sentence"
	sourceBeside  = "a source address beside a destination"
	otherColumn   = "in a column that is not for indicators"
)

// loose reads cells, or the words of a line, without a header that names them. It reads the sure kinds: addresses,
// ranges, URLs, hashes. If there is none, it reads names and paths. It returns false when it found nothing.
func (r *Reading) loose(cells []string, ports []uint16, line int) bool {
	var found []*Indicator
	var beside []string
	names := 0
	if badMask(cells) {
		r.problem(line, strings.Join(cells, " "), "it has a mask that is none")
		return true
	}
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
		case at > 0 && maybeVersion(cells[at-1], cells[at]):
			r.problem(line, cells[at-1]+" "+cells[at], isVersion)
			continue
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
	if slices.ContainsFunc(found, maybeAnyPort) && hasUnreadPort(strings.Join(beside, " ")) {
		r.problem(line, strings.Join(cells, " "), manyPorts)
		return true
	}
	for range names {
		if !(cell{list: found}).is(Hash) { // sha256sum writes the file's name after the hash
			r.leaveOut(nameBeside)
		}
	}
	r.add(line, trimComment(strings.Trim(strings.Join(beside, " "), " :")), found...)
	return true
}

// pairsUnclear reports whether two or more addresses come before numbers that may be their ports.
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

// pair reads the cells that belong to an address: its mask, the last address of its range, or its port. It returns the
// number of cells used after the address.
func (r *Reading) pair(c cell, cells []string, at int) (list []*Indicator, used int) {
	if len(c.list) != 1 || at+1 >= len(cells) {
		return c.list, 0
	}
	i, next := c.list[0], strings.Trim(cells[at+1], " \t()[]{};")
	if i.Port != 0 && i.Kind != Port && isBareNumber(next) {
		r.leaveOut(anotherNumber)
	}
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
	if at+2 < len(cells) && (strings.EqualFold(next, "tcp") || strings.EqualFold(next, "udp")) && isBareNumber(cells[at+2]) && !counted.MatchString(strings.Join(cells[at+1:min(at+4, len(cells))], " ")) {
		if port, ok := parsePortNumber(strings.TrimSpace(cells[at+2])); ok {
			return withPorts(c.list, []uint16{port}), 2
		}
	}
	if port, ok := ParsePort(undecorated(next)); ok && !strings.Contains(cells[at], "-") { // eMule has a level after first-last
		if isBareNumber(undecorated(next)) {
			list = withPorts(c.list, []uint16{port.Port})
			list[0].beside, list[0].besides = true, at+2 < len(cells) && isBareNumber(cells[at+2])
			return list, 1
		}
		r.note(portBeside)
		return withPorts(c.list, []uint16{port.Port}), 1
	}
	if isNoPort(next) && !strings.Contains(cells[at], "-") {
		r.besides.noPorts++
	}
	return c.list, 0
}

// maybeOctets reports whether four numbers may be an address defanged with commas.
func maybeOctets(cells []string) bool {
	return len(cells) == 4 && !slices.ContainsFunc(cells, func(text string) bool { _, ok := octet(strings.TrimSpace(text)); return !ok })
}

// weak reads all names and paths of the cells; if there are none, the ports.
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
