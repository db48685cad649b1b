package indicator

import (
	"slices"
	"strings"
)

// Lines of keys and values that stand together are one record, as in YAML, TOML, an INI file or a report:
//
//	- ip: 198.51.100.66
//	  port: 443
//
// The keys are the columns. Read line by line, the address would lose its port, or the flag that takes it from the list.

// keyLine matches a key and its value. The value may follow in a list below.
var keyLine = expr(`^([ \t]*(?:- +)?)["']?([A-Za-z][\w .|/-]{0,39}?)["']?(?:[ \t]*[:=][ \t]+(\S.*)|=(\S.*)|[ \t]*:[ \t]*)$`)

// itemLine matches an item of such a list.
var itemLine = expr(`^([ \t]*)- +(\S.*)$`)

// mostKeys is the limit of a record, in lines.
const mostKeys = 64

// keyBlock is a record, and its lines.
type keyBlock struct {
	fields []field
	lines  []int // of each field: how many lines ahead, 0 is the first
	length int   // in lines
}

// readBlock reads the record that begins with this line. It returns false for other lines, and for records in which no line
// says anything about another: those are read line by line.
func (t *textReader) readBlock(line string) bool {
	if t.table != nil || t.line < t.noBlock {
		return false
	}
	block := t.blockAt(line)
	t.noBlock = t.line + block.length
	if !block.isRecord() {
		return false
	}
	start := t.line
	lines := []string{line}
	for _, one := range t.queue[:block.length-1] {
		lines = append(lines, one.text)
	}
	t.queue, t.line = t.queue[block.length-1:], t.line+block.length-1
	var fields []field
	for i, f := range block.fields {
		c, ok := readCells(f.text)
		switch {
		case (f.role == roleOther || f.role == roleLabel) && ok && c.sure && !c.is(Hash) && !aboutList(f.name): // another indicator
			t.plainLine(strings.TrimSpace(lines[block.lines[i]]), start+block.lines[i])
		default:
			fields = append(fields, f)
		}
	}
	if why := t.row(fields, start); why != "" {
		t.problem(start, strings.Join(lines, " "), why)
	}
	return true
}

// blockAt returns the record that begins with this line.
func (t *textReader) blockAt(line string) (block keyBlock) {
	depth := 0
	seen := make(map[string]bool)
	for block.length < mostKeys {
		if block.length > 0 {
			var ok bool
			if line, ok = t.ahead(block.length - 1); !ok {
				break
			}
		}
		content := strings.TrimSpace(line)
		found := keyLine.FindStringSubmatch(line)
		if found == nil || otherBlocks.MatchString(content) || isSetting(content) || rangeLine.MatchString(content) {
			break
		}
		if block.length == 0 {
			depth = len(found[1])
		} else if len(found[1]) != depth || strings.Contains(found[1], "-") || seen[found[2]] {
			break
		}
		seen[found[2]] = true
		value, more := blockValue(found[3]+found[4]), 0
		if value == "" {
			if value, more = t.listBelow(block.length, depth); more == 0 {
				break
			}
		}
		name, _, _ := strings.Cut(found[2], "|") // Sigma's modifiers
		block.fields = append(block.fields, field{roleOf(name), name, value})
		block.lines = append(block.lines, block.length)
		block.length += 1 + more
	}
	block.length = max(block.length, 1)
	return block
}

// blockValue returns a value without its comment, quotes and brackets.
func blockValue(text string) string {
	if at := strings.Index(text, " #"); at >= 0 {
		text = text[:at]
	}
	text = strings.TrimSuffix(strings.TrimSpace(text), ",")
	if inside, ok := strings.CutPrefix(text, "["); ok && strings.HasSuffix(text, "]") && !strings.Contains(text, "].") {
		text = strings.NewReplacer(`"`, "", "'", "").Replace(strings.TrimSuffix(inside, "]"))
	}
	return undecorated(text)
}

// listBelow returns the items below a key, parted by commas, and their number of lines; 0 if the key has something else below it.
func (t *textReader) listBelow(from, depth int) (value string, lines int) {
	var items []string
	for lines < mostKeys {
		line, ok := t.ahead(from + lines)
		if !ok {
			break
		}
		found := itemLine.FindStringSubmatch(line)
		if found == nil || len(found[1]) < depth {
			break
		}
		if keyLine.MatchString(line) {
			return "", 0
		}
		items = append(items, blockValue(found[2]))
		lines++
	}
	return strings.Join(items, ", "), lines
}

// isRecord reports whether a record has an indicator, and a line that says something about it: its port, its type, or that it is none.
func (b *keyBlock) isRecord() bool {
	host, tells := false, false
	for _, f := range b.fields {
		c, ok := readCells(f.text)
		switch f.role {
		case rolePort:
			_, isPort := readPorts(f.text)
			tells = tells || isPort || portRangeCell(f.text)
		case roleDeleted, roleDetect, roleAction, roleSourcePort:
			tells = true
		case roleTarget:
			tells = tells || first(b.fields, roleSource) != ""
			fallthrough
		case roleIP, roleSource, roleName, roleURL, roleMask:
			host = host || ok && fits(c, f.role)
		case roleValue:
			host = host || ok
			tells = tells || first(b.fields, roleType) != ""
		}
	}
	return host && tells && slices.ContainsFunc(b.fields, func(f field) bool { return isHostRole(f.role) })
}
