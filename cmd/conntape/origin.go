package main

import (
	"strings"

	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/store/proof"
)

// origin describes the source of an answer. A tape has several hosts only if it was assembled by hand.
func (h *host) origin(q question, tape *store.Tape, c store.Coverage) *format.Origin {
	o := &format.Origin{Question: q.asked, Exported: h.now(), Version: readBuild().Version, TapeID: c.TapeID}
	for _, s := range tape.Segments() {
		if s.Host != "" && !strings.Contains(", "+o.Host+",", ", "+s.Host+",") {
			o.Host = strings.TrimPrefix(o.Host+", "+s.Host, ", ")
		}
	}
	head, err := proof.ReadCheckpoint(q.dir)
	if o.Head = string(head); err != nil {
		o.Head = "none: " + err.Error()
	}
	return o
}

// commandLine quotes words for a shell.
func commandLine(words []string) string {
	quoted := make([]string, len(words))
	for i, word := range words {
		quoted[i] = word
		if word == "" || strings.ContainsAny(word, " \t\n'\"\\$`!*?[](){}<>|&;~#") {
			quoted[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
		}
	}
	return strings.Join(append([]string{"conntape"}, quoted...), " ")
}
