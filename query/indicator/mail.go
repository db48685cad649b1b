package indicator

import (
	"strings"
)

// A mail that is pasted whole has the addresses of those who sent it, in its header and in its signature: they are no indicators.

// mailField matches a line of a mail's header, and mailProof one that nothing but a mail has.
var (
	mailField = expr(`(?i)^(?:(?:return-path|received|from|to|cc|bcc|subject|date|sent|message-id|mime-version|delivered-to|reply-to|sender|importance|user-agent|in-reply-to|references|authentication-results|dkim-signature|(?:x|arc|content|list|thread)-[\w-]+|von|an|betreff|gesendet|datum|de|objet|envoyé) ?:|[ \t]+\S)`)
	mailProof = expr(`(?i)^(?:return-path|received|subject|message-id|mime-version|betreff|objet) ?:`)
)

const ofMail = "the header or signature of a mail"

// mailHeader leaves out the header of a mail, which the list begins with and a blank line ends.
func (t *textReader) mailHeader(line string) bool {
	if t.said() > 0 || t.table != nil {
		return false
	}
	proven, length := false, 0
	for ok := true; ok && strings.TrimSpace(line) != ""; line, ok = t.ahead(length - 1) {
		if !mailField.MatchString(line) || length == mostKeys {
			return false
		}
		proven = proven || mailProof.MatchString(line)
		length++
	}
	if !proven || length < 2 {
		return false
	}
	for range length {
		t.leaveOut(ofMail)
	}
	t.queue, t.line = t.queue[length-1:], t.line+length-1
	t.isMail = true
	return true
}

// signature reports whether a line begins the signature of a mail, and leaves out what follows.
func (t *textReader) signature(line string) bool {
	if !t.isMail || strings.TrimRight(line, " ") != "--" {
		return false
	}
	t.skip = skipped{why: ofMail, until: untilEnd}
	t.leaveOut(ofMail)
	return true
}
