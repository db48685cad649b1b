package indicator

import "strings"

// A STIX pattern is read as alternatives; all comparisons of an alternative must hold. The rest of the language (order,
// repetition, negation) is reported and not guessed.

// comparison is a field and its required value, or the reason (why) for not looking it up.
type comparison struct{ field, value, why string }

// mostAlternatives is the limit of a pattern's alternatives.
const mostAlternatives = 1000

// pattern is a parsed pattern.
type pattern struct {
	alternatives [][]comparison
	qualified    bool   // it has a qualifier of time or repetition
	why          string // the reason for not reading it; "": it was read
}

const (
	unreadable = "the pattern cannot be read"
	tooDeep    = "the pattern is nested too deep"
)

// parsePattern reads a pattern.
func parsePattern(text string) pattern {
	p := &patternParser{tokens: tokenize(text)}
	found := p.observations(0)
	if p.why == "" && len(p.tokens) > 0 {
		p.why = unreadable
	}
	return pattern{found, p.qualified, p.why}
}

// observations reads observations in brackets or parentheses, joined by OR, with qualifiers.
func (p *patternParser) observations(depth int) (found [][]comparison) {
	if depth > 50 {
		p.why = tooDeep
		return nil
	}
	for {
		switch {
		case p.take("("):
			found = append(found, p.observations(depth+1)...)
			p.want(")")
		case p.take("["):
			found = append(found, p.either(0)...)
			p.want("]")
		default:
			p.want("[")
		}
		for p.why == "" && p.qualifier() {
			p.qualified = true
		}
		switch {
		case p.why != "":
			return nil
		case p.take("OR"):
			if len(found) > mostAlternatives {
				p.why = "the pattern has too many alternatives"
				return nil
			}
		case len(p.tokens) == 0 || p.tokens[0] == ")":
			return found
		case p.tokens[0] == "AND" || p.tokens[0] == "FOLLOWEDBY":
			p.why = "it wants several things at once, or in an order"
			return nil
		default:
			p.why = unreadable
			return nil
		}
	}
}

// qualifier reads WITHIN n SECONDS, REPEATS n TIMES or START t'…' STOP t'…'.
func (p *patternParser) qualifier() bool {
	words := 3
	switch {
	case len(p.tokens) == 0:
		return false
	case p.tokens[0] == "START":
		words = 6 // START t '…' STOP t '…'
	case p.tokens[0] != "WITHIN" && p.tokens[0] != "REPEATS":
		return false
	}
	if len(p.tokens) < words {
		p.why = unreadable
		return false
	}
	p.tokens = p.tokens[words:]
	return true
}

// want reads a required token.
func (p *patternParser) want(token string) {
	if p.why == "" && !p.take(token) {
		p.why = unreadable
	}
}

// patternParser reads tokens; why is the first error, "": none.
type patternParser struct {
	tokens    []string
	qualified bool
	why       string
}

func (p *patternParser) take(token string) bool {
	if len(p.tokens) == 0 || p.tokens[0] != token {
		return false
	}
	p.tokens = p.tokens[1:]
	return true
}

func (p *patternParser) next() string {
	if len(p.tokens) == 0 {
		return ""
	}
	token := p.tokens[0]
	p.tokens = p.tokens[1:]
	return token
}

// either reads terms joined by OR, as alternatives.
func (p *patternParser) either(depth int) [][]comparison {
	found := p.both(depth)
	for p.why == "" && p.take("OR") {
		found = append(found, p.both(depth)...)
	}
	return found
}

// both reads terms joined by AND, and multiplies out their alternatives.
func (p *patternParser) both(depth int) [][]comparison {
	found := p.term(depth)
	for p.why == "" && p.take("AND") {
		right := p.term(depth)
		if len(found)*len(right) > mostAlternatives {
			p.why = "the pattern has too many alternatives"
			return nil
		}
		var product [][]comparison
		for _, a := range found {
			for _, b := range right {
				product = append(product, append(append([]comparison{}, a...), b...))
			}
		}
		found = product
	}
	return found
}

// term reads a comparison, or an expression in parentheses.
func (p *patternParser) term(depth int) [][]comparison {
	if depth > 50 {
		p.why = tooDeep
		return nil
	}
	if p.take("(") {
		inside := p.either(depth + 1)
		if p.why == "" && !p.take(")") {
			p.why = unreadable
		}
		return inside
	}
	return p.comparison()
}

// comparison reads a field, an operator and a value. An operator that cannot be looked up drops its own alternative only.
func (p *patternParser) comparison() [][]comparison {
	field, operator := p.next(), p.next()
	not := field == "NOT"
	if not {
		field, operator = operator, p.next()
	}
	if operator == "NOT" {
		not, operator = true, p.next()
	}
	var found [][]comparison
	why := ""
	switch operator {
	case "IN":
		found = p.members(field)
	case "=", "==", "ISSUBSET", "!=", "<>", "<", ">", "<=", ">=", "LIKE", "MATCHES", "ISSUPERSET":
		value, ok := literal(p.next())
		if !ok {
			p.why = unreadable
		}
		found = [][]comparison{{{field: field, value: value}}}
		if operator != "=" && operator != "==" && operator != "ISSUBSET" {
			why = "it compares with " + operator + ", which cannot be looked up"
		}
	default:
		p.why = unreadable
	}
	if not {
		why = "it has a negation, which cannot be looked up"
	}
	if why != "" {
		return [][]comparison{{{why: why}}}
	}
	return found
}

// members reads the list after IN.
func (p *patternParser) members(field string) [][]comparison {
	var found [][]comparison
	ok := p.take("(")
	for ok {
		var value string
		if value, ok = literal(p.next()); !ok {
			break
		}
		found = append(found, []comparison{{field: field, value: value}})
		if p.take(")") {
			return found
		}
		ok = p.take(",")
	}
	p.why = unreadable
	return nil
}

// literal returns the value of a text in quotes or of a number.
func literal(token string) (string, bool) {
	if rest, ok := strings.CutPrefix(token, "'"); ok {
		return rest, true
	}
	return token, token != "" && token[0] >= '0' && token[0] <= '9'
}

// tokenize splits a pattern into words. A text in quotes becomes a token that begins with a quote. From the first
// unreadable character on, the rest is one token.
func tokenize(text string) []string {
	var tokens []string
	for text != "" {
		switch c := text[0]; {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			text = text[1:]
		case c == '\'':
			value, rest, ok := quoted(text)
			if !ok {
				return append(tokens, text)
			}
			tokens, text = append(tokens, "'"+value), rest
		case strings.IndexByte("[](),", c) >= 0:
			tokens, text = append(tokens, text[:1]), text[1:]
		case strings.IndexByte("=!<>", c) >= 0:
			n := 1
			for n < len(text) && strings.IndexByte("=!<>", text[n]) >= 0 {
				n++
			}
			tokens, text = append(tokens, text[:n]), text[n:]
		default:
			n := wordLength(text)
			tokens, text = append(tokens, text[:n]), text[n:]
		}
	}
	for i, t := range tokens { // quotes in a field are around its parts
		if !strings.HasPrefix(t, "'") && strings.Contains(t, ":") {
			tokens[i] = strings.ReplaceAll(t, "'", "")
		}
	}
	return tokens
}

// quoted returns the text in quotes at the start of s, and the rest.
func quoted(s string) (value, rest string, ok bool) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case s[i] == '\'':
			return b.String(), s[i+1:], true
		default:
			b.WriteByte(s[i])
		}
	}
	return "", "", false
}

// wordLength returns the length of the word at the start of s: a keyword, a
// number, or a field such as file:hashes.'SHA-256' or a:list[*].part.
func wordLength(s string) int {
	inQuotes, inBrackets := false, false
	for i := range len(s) {
		switch c := s[i]; {
		case inQuotes:
			inQuotes = c != '\''
		case inBrackets:
			inBrackets = c != ']'
		case c == '\'' && i > 0 && s[i-1] == '.':
			inQuotes = true
		case c == '[' && i > 0:
			inBrackets = true
		case strings.IndexByte(" \t\r\n[](),=!<>'", c) >= 0:
			return max(i, 1)
		}
	}
	return len(s)
}
