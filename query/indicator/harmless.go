package indicator

import (
	"strings"
)

// A list may say of an address that it is none to look for, in the words beside it: "198.51.100.66 is not malicious", "(false positive)".
// A reader that takes the address alone gives alarms about what the list calls harmless. A person decides what such words mean.

const calledHarmless = "the words beside it say that it is harmless, or is no longer so: put it on a line without them to look for it"

// harmlessWords matches such words.
var harmlessWords = expr(`(?i)(?:^|[^\w-])(?:not (?:a |an |the )?(?:malicious|bad|evil|hostile|suspicious|infected|c2|c&c|ioc|indicator|threat|block(?:ed)?)|` +
	`false[ -]positives?|(?:is |are |was |were |be |been |now )(?:benign|harmless|legit|legitimate|safe|clean)|known[ -]good|` +
	`(?:do not|don'?t|never|must not|should not) (?:be )?(?:block|alert|ban|drop|match|flag|detect|report|blacklist)(?:ed)?|` +
	`not (?:affected|involved|related|part of)|our own|no longer (?:active|malicious|used|in use|ours|bad|a threat)|all (?:but|except)|everything (?:but|except))(?:$|[^\w-])|` +
	`^[\s#("'\[{,;:.=-]*(?:(?:is |are )?(?:now |already )?(?:on (?:the |our )?)?(?:white|allow|safe|pass)-?list(?:ed)?|(?:is )?(?:benign|harmless|legit|legitimate|known good|safe|clean|trusted|ours|our own)|ok|permit(?:ted)?|accept(?:ed)?|allow(?:ed)?|dunno|not|except|ignored?|exclud(?:ed?|ing)|false positive|fp)[\s)"'\]},;:.=!-]*$`)

// isCalledHarmless reports whether a label has such words. It looks at most labels without the expression, which is slow.
func isCalledHarmless(label string) bool {
	if label == "" {
		return false
	}
	lower := strings.ToLower(label)
	for _, part := range []string{"not", "n't", "dont", "alse", "benign", "harmless", "legit", "safe", "clean", "good", "never", "no longer", "list", "all ", "every", "except", "ignor", "exclud", "trusted", "our", "fp", "ok", "permit", "accept", "allow", "dunno"} {
		if strings.Contains(lower, part) {
			return harmlessWords.MatchString(label)
		}
	}
	return false
}

// harmlessActions are values of a column of verdicts that say so of a row, and harmlessVerdicts values of any column.
var harmlessActions = words{"clean", "safe", "good", "trusted"}

var harmlessVerdicts = map[string]bool{"whitelist": true, "whitelisted": true, "allowlist": true, "allowlisted": true, "allow-listed": true, "false positive": true, "false-positive": true,
	"false_positive": true, "falsepositive": true, "benign": true, "harmless": true, "known good": true, "known-good": true, "goodware": true, "do not block": true, "not malicious": true}

// saysHarmless reports whether a row says of itself that it is harmless, or switched off: in a column for something else, or with a flag.
func saysHarmless(fields []field) bool {
	for _, f := range fields {
		text := strings.ToLower(f.text)
		if f.role == roleAction && harmlessActions.has(text) {
			return true
		}
		if harmlessVerdicts[text] && !isHostRole(f.role) {
			return true
		}
		words := wordsOf(f.name)
		if len(words) > 2 || len(words) == 0 {
			continue
		}
		switch flag := strings.TrimPrefix(strings.Join(words, " "), "is "); flag {
		case "malicious", "block", "blocked", "enabled", "enable", "active":
			if isFalse(text) {
				return true
			}
		case "disabled", "allowed", "trusted", "known good", "good", "harmless", "whitelist", "allowlist":
			if isTrue(text) {
				return true
			}
		}
	}
	return false
}
