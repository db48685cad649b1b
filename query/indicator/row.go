package indicator

import (
	"slices"
	"strings"
)

// row reads one record of a table or one JSON object by the roles of its fields. It returns the reason if it cannot, else "".
func (r *Reading) row(fields []field, line int) (why string) {
	for i := range fields {
		fields[i].text = withoutFormula(strings.TrimSpace(fields[i].text))
		if text := fields[i].text; text == "-" || text == "(empty)" || strings.EqualFold(text, "null") || text == "N/A" {
			fields[i].text = ""
		}
		if c, ok := readCell(fields[i].text); fields[i].role == rolePort && ok && c.sure && c.is(Address) { // a column ip:port
			fields[i].role = roleIP
		}
	}
	dropNumbers(fields)
	dropTimes(fields)
	switch {
	case isFalse(first(fields, roleDetect)):
		r.leaveOut(notForDetection)
		return ""
	case isTrue(first(fields, roleDeleted)) || saysHarmless(fields):
		r.leaveOut("deleted, or marked as harmless")
		return ""
	case passingActions.has(strings.ToLower(first(fields, roleAction))):
		r.leaveOut(passes)
		return ""
	}
	if kind, value := first(fields, roleType), first(fields, roleValue); kind != "" && value != "" {
		ports, ok := portsOf(fields)
		if !ok {
			return badPort
		}
		return r.typed(kind, value, ports, labelOf(fields), line)
	}
	return r.untyped(fields, line)
}

// passingActions are those of a filter that lets traffic pass.
var passingActions = words{"allow", "allowed", "accept", "permit", "pass", "whitelist", "allowlist"}

// dropNumbers takes the meaning from an address written as one number, as in exports of Shodan, when the row has it in dots too.
func dropNumbers(fields []field) {
	for i, f := range fields {
		if f.role != roleIP || !isBareNumber(f.text) || len(f.text) < 8 {
			continue
		}
		for _, other := range fields {
			if c, ok := readCell(other.text); ok && other.role == roleIP && c.is(Address) {
				fields[i].role = roleOther
			}
		}
	}
}

// dropTimes takes the meaning from the ends of a range that are no addresses, in a row with a connection's sides: they are its times.
func dropTimes(fields []field) {
	if first(fields, roleTarget) == "" && first(fields, roleSource) == "" {
		return
	}
	for i, f := range fields {
		if _, isAddress := rangeEnd(f.text); (f.role == roleFirst || f.role == roleLast) && !isAddress {
			fields[i].role = roleOther
		}
	}
}

// withoutFormula removes what an export writes before a value so that a spreadsheet does not compute it: ="443", '443.
func withoutFormula(text string) string {
	if inside, ok := strings.CutPrefix(text, `="`); ok {
		return strings.TrimSuffix(inside, `"`)
	}
	if strings.HasPrefix(text, "'") && !strings.HasSuffix(text, "'") {
		return text[1:]
	}
	return text
}

const badPort = "it has no port where there must be one"

// untyped reads a row by the names of its fields; it has no field for the indicator's type.
func (r *Reading) untyped(fields []field, line int) (why string) {
	ports, ok := portsOf(fields)
	if !ok {
		return badPort
	}
	findHost(fields, ports)
	used := usedRoles(fields)
	found, why := rangeOf(fields)
	if why != "" {
		return why
	}
	for _, f := range fields {
		if f.text == "" || !slices.Contains(used, f.role) {
			continue
		}
		c, ok := readCells(f.text)
		switch {
		case !ok && f.role == roleFile:
			c = cell{list: []*Indicator{fileName(f.text)}}
		case !ok || !fits(c, f.role):
			return notIndicator
		}
		found = append(found, c.list...)
	}
	label := labelOf(fields)
	switch {
	case len(found) > 0:
		r.add(line, label, withPorts(found, ports)...)
	case len(ports) > 0 && !slices.ContainsFunc(fields, mayHaveHost):
		for _, port := range ports {
			r.add(line, label, ofPort(port))
		}
	case len(ports) > 0:
		return "it has a port and no address"
	default:
		return notIndicator
	}
	r.tellUnused(fields, used)
	return ""
}

// findHost finds the address of a row that has a port and whose header has no word for the column of the address: Peer, Endpoint, Node.
func findHost(fields []field, ports []uint16) {
	if len(ports) == 0 || slices.ContainsFunc(fields, func(f field) bool { return isHostRole(f.role) && f.text != "" }) {
		return
	}
	at := -1
	for i, f := range fields {
		if c, ok := readCell(f.text); ok && c.sure && f.role == roleOther && c.is(Address) {
			if at >= 0 {
				return
			}
			at = i
		}
	}
	if at >= 0 {
		fields[at].role = roleIP
	}
}

// usedRoles returns the roles that are indicators in this row: the value if there is one, else all except the source of a
// connection.
func usedRoles(fields []field) []role {
	used := []role{roleName, roleURL, roleHash, roleFile}
	has := func(want role) bool { return first(fields, want) != "" }
	switch {
	case has(roleValue):
		return []role{roleValue}
	case has(roleTarget):
		return append(used, roleTarget)
	case has(roleIP):
		return append(used, roleIP)
	case has(roleSource) && !has(roleMask) && !has(roleFirst) && !slices.ContainsFunc(fields, func(f field) bool { return f.role == roleTarget }):
		return append(used, roleSource)
	}
	return used
}

// fits reports whether a field with this role may hold these indicators. A bare number is never a host.
func fits(c cell, of role) bool {
	switch of {
	case roleHash:
		return c.is(Hash)
	case roleFile:
		return c.is(Name, Path)
	case roleValue:
		return !c.is(Port)
	}
	return c.is(Address, Range, Name)
}

// mayHaveHost reports whether a field is for an address or name, or has one although its column says nothing of it: Peer, Endpoint.
func mayHaveHost(f field) bool {
	c, ok := readCells(f.text)
	return isHostRole(f.role) || f.role == roleOther && ok && c.is(Address, Range, Name)
}

func isHostRole(of role) bool {
	return slices.Contains([]role{roleValue, roleTarget, roleIP, roleSource, roleFirst, roleLast, roleMask, roleName, roleURL}, of)
}

// rangeOf returns the range that a row gives in two fields: first and last address, or network and length or mask; or in
// one field, a network. It empties the fields that it used.
func rangeOf(fields []field) (found []*Indicator, why string) {
	if start, end := first(fields, roleFirst), first(fields, roleLast); start != "" && end != "" {
		list, ok := between(start, end)
		if !ok {
			return nil, "its first and last address are no range"
		}
		empty(fields, roleFirst, roleLast, roleMask)
		return list, ""
	}
	mask, column := "", ""
	for _, f := range fields {
		if f.role == roleMask && maskLike(f.text) {
			mask = f.text
		}
	}
	for i, f := range fields {
		if f.role != roleMask || f.text == "" || f.text == mask {
			continue
		}
		c, ok := readCells(f.text)
		switch {
		case ok && mask != "" && c.is(Address):
			continue // a network, and its mask beside it
		case ok && c.is(Address, Range) && (column == "" || column == f.name):
			found, column = append(found, c.list...), f.name
			fields[i].text = ""
		case strings.ContainsAny(f.text, "0123456789"):
			return nil, noNetwork // such as a mask with holes
		}
	}
	if mask == "" || len(found) > 0 {
		return found, "" // the length is redundant: DShield has it beside the ends, other lists beside the network
	}
	for _, f := range fields {
		if f.text == mask || !slices.Contains([]role{roleTarget, roleIP, roleValue, roleFirst, roleMask}, f.role) {
			continue
		}
		if i, ok := masked(f.text, strings.TrimPrefix(mask, "/")); ok {
			empty(fields, roleMask, f.role)
			return []*Indicator{i}, ""
		}
	}
	return nil, noNetwork
}

const noNetwork = "it has no network where there must be one"

// empty clears the fields with these roles.
func empty(fields []field, roles ...role) {
	for i := range fields {
		if slices.Contains(roles, fields[i].role) {
			fields[i].text = ""
		}
	}
}

func portsOf(fields []field) ([]uint16, bool) {
	var all []uint16
	first, last := "", ""
	for _, f := range fields {
		if f.role == rolePort {
			switch words := wordsOf(f.name); {
			case words.hasAny("from", "start", "first", "min", "begin", "low"):
				first = f.text
			case words.hasAny("to", "end", "last", "max", "high"):
				last = f.text
			}
		}
	}
	if first != "" && last != "" && first != last {
		return nil, false // a range
	}
	for _, f := range fields {
		if f.role != rolePort {
			continue
		}
		ports, ok := readPorts(f.text)
		if !ok {
			return nil, false
		}
		all = append(all, ports...)
	}
	return all, true
}

// tellUnused counts the fields that look like indicators but were not used as such.
func (r *Reading) tellUnused(fields []field, used []role) {
	for _, f := range fields {
		if f.text == "" || slices.Contains(used, f.role) || f.role == rolePort {
			continue
		}
		switch c, ok := readCell(f.text); {
		case f.role == roleSource:
			r.leaveOut(sourceBeside)
		case ok && c.sure && !c.is(Hash) || isHostRole(f.role):
			r.leaveOut(otherColumn + ": " + cutLabel(f.name))
		}
	}
}

// first returns the first non-empty text with this role.
func first(fields []field, of role) string {
	for _, f := range fields {
		if f.role == of && f.text != "" {
			return f.text
		}
	}
	return ""
}

// labelOf returns the label of a row's indicators: its comment, or else its category.
func labelOf(fields []field) string {
	for _, words := range [][]string{{"comment", "description", "desc", "label", "note", "notes", "bemerkung", "kommentar", "beschreibung", "commentaire", "comentario", "commento", "descripción", "descripcion", "descrizione"}, {"name", "threat", "malware", "title", "printable", "info"}} {
		for _, f := range fields {
			if f.role == roleLabel && f.text != "" && wordsOf(f.name).hasAny(words...) {
				return f.text
			}
		}
	}
	return first(fields, roleLabel)
}

func isFalse(flag string) bool {
	return slices.Contains([]string{"0", "false", "no", "f"}, strings.ToLower(flag))
}

func isTrue(flag string) bool {
	return slices.Contains([]string{"1", "true", "yes", "t"}, strings.ToLower(flag))
}
