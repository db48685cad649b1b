package store

import (
	"strconv"
	"strings"

	"github.com/conntape/conntape/store/escape"
)

// maxAncestors limits the text: a chain of a thousand forks must not cost a thousand names per process. The processes
// themselves are all kept.
const maxAncestors = 32

// ancestry returns the line of descent of p as text, oldest first:
//
//	systemd(1) > sshd(812) > bash(901) > curl(950)
//
// A name cannot forge an arrow or a pid: > ( ) and a space at either end are escaped. An unknown name is "?". A leading
// "… > " means that more ancestors exist; "?(812) > " that only the pid of the parent is known.
func ancestry(p *Process) string {
	var chain [maxAncestors]*Process
	n := 0
	q := p
	for ; q != nil && n < maxAncestors; q = q.Parent {
		chain[n] = q
		n++
	}
	var b strings.Builder
	if q != nil {
		b.WriteString("… > ")
	} else if oldest := chain[n-1]; oldest.PPID != 0 {
		b.WriteString("?(" + strconv.FormatUint(uint64(oldest.PPID), 10) + ") > ")
	}
	for i := n - 1; i >= 0; i-- {
		b.WriteString(ancestorName(chain[i].Comm))
		b.WriteByte('(')
		b.WriteString(strconv.FormatUint(uint64(chain[i].Key.Tgid), 10))
		b.WriteByte(')')
		if i > 0 {
			b.WriteString(" > ")
		}
	}
	return b.String()
}

// ancestorName escapes a comm for use in a line of descent.
func ancestorName(comm string) string {
	switch comm {
	case "":
		return "?"
	case "?":
		return `\x3f`
	}
	text := escape.String(comm, func(c byte) bool { return c == '>' || c == '(' || c == ')' })
	if text[0] == ' ' {
		text = `\x20` + text[1:]
	}
	if last := len(text) - 1; text[last] == ' ' {
		text = text[:last] + `\x20`
	}
	return text
}
