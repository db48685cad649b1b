package indicator

import (
	"slices"
	"strings"
)

// A number alone on a line is a port of any address, unless the list is a table whose cells were copied one below the other: then each
// number follows an address and is its port.

// lonePair is an address or name alone on a line, and a number alone on the next.
type lonePair struct {
	list []*Indicator
	port uint16
	line int // of the address
}

// lonePairs are those of a list. All its numbers tell what they are.
type lonePairs struct {
	list   []lonePair
	others int // numbers that follow no address
}

// servicePorts are ports that nobody looks for at all addresses.
var servicePorts = []uint16{20, 21, 22, 25, 53, 80, 81, 110, 123, 143, 443, 465, 587, 853, 993, 995, 3306, 3389, 5432, 8000, 8080, 8443, 8888}

// loneNumber takes an address and the number on the next line, and counts other numbers. It returns false if the line is to be read
// like any other.
func (t *textReader) loneNumber(content string) bool {
	if isBareNumber(content) {
		t.pairs.others++
		return false
	}
	next, ok := t.ahead(0)
	if !ok {
		return false
	}
	port, ok := parsePortNumber(strings.TrimSpace(next))
	if !ok {
		return false
	}
	if after, ok := t.ahead(1); ok && isBareNumber(strings.TrimSpace(after)) {
		return false // a list of ports
	}
	c, ok := readCell(content)
	if !ok || !c.is(Address, Range, Name) || slices.ContainsFunc(c.list, func(i *Indicator) bool { return i.Port != 0 }) {
		return false
	}
	t.pairs.list = append(t.pairs.list, lonePair{c.list, port, t.line})
	t.queue, t.line = t.queue[1:], t.line+1
	t.held++
	return true
}

// settlePairs reads the pairs. One alone does not tell whether the list is a table.
func (t *textReader) settlePairs() {
	isTable := len(t.pairs.list) > 1 && t.pairs.others == 0
	for _, pair := range t.pairs.list {
		number := portText(pair.port)
		if isTable {
			for _, i := range pair.list {
				t.besides.rows = append(t.besides.rows, besideRow{[]*Indicator{i}, pair.port, false, pair.line, ""})
			}
			continue
		}
		t.add(pair.line, "", pair.list...)
		if slices.Contains(servicePorts, pair.port) {
			t.problem(pair.line+1, number, "the port of the address above it, or of any: write ADDRESS:"+number+", or tcp/"+number)
			continue
		}
		t.add(pair.line+1, "", ofPort(pair.port))
	}
	t.held = 0
}

// brokenEnd matches a word that goes on in the next line, as in text copied from a page: a name with a hyphen, an address.
var brokenEnd = expr(`^(?:\S*[[:alnum:]]-|\S*[0-9]\.)$`)

// brokenWord tells of a word in two lines. Its second half alone would be another name, or a port.
func (t *textReader) brokenWord(content string) bool {
	if !brokenEnd.MatchString(content) {
		return false
	}
	if _, ok := readCell(content); ok {
		return false
	}
	next, ok := t.ahead(0)
	if !ok {
		return false
	}
	word, _, _ := strings.Cut(strings.TrimSpace(next), " ")
	if c, ok := readCell(word); !ok || !c.is(Name, Port) {
		return false
	}
	t.problem(t.line, content+" "+next, "a word in two lines: join them")
	t.queue, t.line = t.queue[1:], t.line+1
	return true
}
