package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/conntape/conntape/store/escape"
	"github.com/conntape/conntape/store/proof"
)

// writeVerification writes the result of verify as text. Names come from a tape that may be hostile.
func writeVerification(w io.Writer, v *proof.Verification) error {
	b := &strings.Builder{}
	line := func(name, format string, args ...any) {
		fmt.Fprintf(b, "%-12s %s\n", name, escape.Safe(fmt.Sprintf(format, args...)))
	}
	line("tape", "%s", v.Tape)
	if v.Leaves > 0 {
		line("log", "%d leaves, %s to %s, %s", v.Leaves, moment(v.LogFrom), moment(v.LogTo), howProven(v))
		line("first key", "%s", v.FirstKey+matched(v.KeyMatched, " (the one that was given)"))
	}
	if v.HeadMatched {
		line("head", "the log is an extension of the %d leaves that were kept", v.HeadSize)
	}
	for _, c := range v.Cosigned {
		line("cosigned", "%d leaves by %s, %s; %d leaves since then", c.Leaves, c.Witness, moment(c.At), v.Leaves-c.Leaves)
	}
	for _, s := range v.Segments {
		state := s.State
		if !s.SealedAt.IsZero() {
			state += " " + moment(s.SealedAt)
		}
		verdict := "ok"
		if !s.OK {
			verdict = "WRONG"
		}
		line(s.File, "%s, %d connections, %s to %s: %s", state, s.Rows, moment(s.From), moment(s.To), verdict)
	}
	for _, e := range v.Expired {
		line("expired", "segment %d, %s to %s, removed %s: %s", e.Segment, moment(e.From), moment(e.To), moment(e.At), e.Why)
	}
	for _, note := range v.Notes {
		line("note", "%s", note)
	}
	for _, p := range v.Problems {
		where := p.File
		if where == "" {
			where = "tape"
		}
		since := ""
		if !p.Since.IsZero() {
			since = fmt.Sprintf(" (right until %s)", moment(p.Since))
		}
		line("PROBLEM", "%s: %s%s", where, p.What, since)
	}
	if len(v.Problems) == 0 {
		line("verdict", "nothing is wrong")
	} else {
		line("verdict", "%d problems", len(v.Problems))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// howProven says how many leaves are linked by their keys.
func howProven(v *proof.Verification) string {
	if v.Proven == v.Leaves {
		return "each signed by the key that the previous leaf names"
	}
	return fmt.Sprintf("the first %d signed by the key that the previous leaf names", v.Proven)
}

func matched(yes bool, text string) string {
	if yes {
		return text
	}
	return ""
}

// moment returns a time to the second, "?" for none.
func moment(t time.Time) string {
	if t.IsZero() {
		return "?"
	}
	return t.UTC().Format(time.RFC3339)
}
