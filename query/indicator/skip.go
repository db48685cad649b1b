package indicator

import (
	"strings"
)

// Parts of a list that are no indicators: a block of YAML, a section of an INI file, or the lines below a heading, that say what to
// let pass or where to read more.

// otherBlocks matches the key of a block of YAML that has no indicators; the second form has those that a rule lets pass.
var otherBlocks = expr(`(?i)^(?:- )?(?:(references?|refs?|falsepositives|links)|(?:filters?|exclu\w*|except\w*|allow\w*|whitelist\w*|permitted|trusted|safe)[\w-]*):$`)

// passHeading matches a heading of a plain list, perhaps in a comment, over what is not to be looked for.
var passHeading = expr(`(?i)^[#;/*= ]*(?:(?:our |my |the )?(?:allow|white|safe|pass)[ -]?list(?:ed)?(?: \w+)?|(?:please )?(?:do not|don'?t|never) (?:block|alert|match)(?: \w+){0,2}|(?:known )?false[ -]?positives?|(?:known )?(?:good|benign|legitimate|harmless)(?: (?:ips?|hosts?|addresses|domains|servers?|traffic|infrastructure))?|exclu(?:ded?|sions)|exceptions?)[ :#=*]*$`)

// section matches the head of a section: [c2], [[c2]].
var section = expr(`^\[+ *([A-Za-z][^\[\]]*?) *\]+$`)

// Reasons for leaving out such parts.
const (
	readMore     = "where to read more"
	underHeading = "below a heading that says to let it pass"
)

// skipped is the part that is being left out.
type skipped struct {
	why   string // "": none
	depth int    // indentation of a block's key
	until skipEnd
}

// skipEnd is how a part ends.
type skipEnd int

const (
	untilShallow skipEnd = iota // the first line that is no deeper; items of a list may stand below the key
	untilSection
	untilEnd   // of the list
	untilBlank // or another heading
)

// inBlock reports whether a line is in such a part, or begins one, and says so.
func (t *textReader) inBlock(line, content string) bool {
	depth := len(line) - len(strings.TrimLeft(line, " \t"))
	if t.skip.until == untilEnd {
		t.leaveOut(t.skip.why)
		return true
	}
	head := section.FindStringSubmatch(content)
	if _, isIndicator := readCell(content); isIndicator || t.table != nil {
		head = nil
	}
	switch {
	case head != nil:
		t.skip = skipped{}
		if passHeading.MatchString(head[1]) || otherBlocks.MatchString(head[1]+":") {
			t.skip = skipped{why: underHeading, until: untilSection}
		}
		t.leaveOut(aroundIndicators)
		return true
	case t.skip.why == "":
	case t.skip.until == untilShallow && (depth > t.skip.depth || depth == t.skip.depth && strings.HasPrefix(content, "- ")),
		t.skip.until == untilSection,
		t.skip.until == untilBlank && !strings.HasSuffix(content, ":"):
		t.leaveOut(t.skip.why)
		return true
	}
	t.skip = skipped{}
	if t.table != nil {
		return false
	}
	if found := otherBlocks.FindStringSubmatch(content); found != nil {
		t.skip = skipped{why: passes, depth: depth}
		if found[1] != "" {
			t.skip.why = readMore
		}
		if next, ok := t.ahead(0); ok && depth == 0 && startsIndicator(next) {
			t.skip.until = untilBlank
		}
		t.leaveOut(t.skip.why)
		return true
	}
	return t.passesBelow(content)
}

// passesBelow reports whether a line is a heading over indicators that are not to be looked for.
func (t *textReader) passesBelow(content string) bool {
	if t.table != nil || !passHeading.MatchString(content) {
		return false
	}
	if next, ok := t.ahead(0); !ok || !startsIndicator(strings.TrimSpace(next)) {
		return false
	}
	t.skip = skipped{why: underHeading, until: untilBlank}
	t.leaveOut(t.skip.why)
	return true
}

// exceptKey matches the key of YAML below a range that lists what the range does not have.
var exceptKey = expr(`(?i)^(?:- )?["']?(?:except(?:ions?)?|exclu(?:de[ds]?|sions?)|not)["']?:`)

// exceptsBelow reports whether a line has a range, and the next one says that something is not in it, as in policies of Kubernetes.
func (t *textReader) exceptsBelow(content string) bool {
	if t.table != nil || !strings.Contains(content, "/") || !strings.Contains(content, ":") {
		return false
	}
	_, value, ok := strings.Cut(content, ": ")
	if !ok {
		return false
	}
	c, ok := readCell(value)
	if !ok || !c.is(Range) {
		return false
	}
	next, ok := t.ahead(0)
	return ok && exceptKey.MatchString(strings.TrimSpace(next))
}

// startsIndicator reports whether a line at the margin begins with an indicator.
func startsIndicator(line string) bool {
	word, _, _ := strings.Cut(bullet.ReplaceAllString(line, ""), " ")
	_, ok := readCell(word)
	return ok && !strings.HasPrefix(line, " ") && !strings.HasPrefix(line, "\t")
}
