package indicator

import "strings"

// A STIX pattern that can be looked for is one of alternatives, each of which is a
// few comparisons that all must hold. Everything else is told and not guessed:
// what must happen in an order, or repeatedly, or must not be.

// comparison is one field that must have a value.
type comparison struct{ field, value string }

// mostAlternatives is how many alternatives a pattern may have.
const mostAlternatives = 1000

// parsePattern returns the alternatives of a pattern, or why there are none.
func parsePattern(text string) (alternatives [][]comparison, why string) {
	p := &patternParser{tokens: tokenize(text)}
	for {
		if !p.take("[") {
			return nil, "the pattern cannot be read"
		}
		inside := p.either(0)
		if p.why == "" && !p.take("]") {
			p.why = "the pattern cannot be read"
		}
		if p.why != "" {
			return nil, p.why
		}
		alternatives = append(alternatives, inside...)
		switch {
		case len(p.tokens) == 0:
			return alternatives, ""
		case !p.take("OR"):
			return nil, "it wants several things at once, or in an order"
		}
	}
}

// patternParser reads tokens; why is what is wrong, "" nothing.
type patternParser struct {
	tokens []string
	why    string
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

// either reads terms joined by OR.
func (p *patternParser) either(depth int) [][]comparison {
	found := p.both(depth)
	for p.why == "" && p.take("OR") {
		found = append(found, p.both(depth)...)
	}
	return found
}

// both reads terms joined by AND, and multiplies them out.
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

// term reads a comparison, or what stands in parentheses.
func (p *patternParser) term(depth int) [][]comparison {
	if depth > 50 {
		p.why = "the pattern is nested too deep"
		return nil
	}
	if p.take("(") {
		inside := p.either(depth + 1)
		if p.why == "" && !p.take(")") {
			p.why = "the pattern cannot be read"
		}
		return inside
	}
	field, operator := p.next(), p.next()
	switch operator {
	case "=", "==", "ISSUBSET":
		value, ok := literal(p.next())
		if !ok {
			p.why = "the pattern cannot be read"
		}
		return [][]comparison{{{field, value}}}
	case "IN":
		return p.members(field)
	case "LIKE", "MATCHES", "!=", "<>", "NOT", "<", ">", "<=", ">=", "ISSUPERSET", "EXISTS":
		p.why = "it compares with " + operator + ", which cannot be looked up"
	default:
		p.why = "the pattern cannot be read"
	}
	return nil
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
		found = append(found, []comparison{{field, value}})
		if p.take(")") {
			return found
		}
		ok = p.take(",")
	}
	p.why = "the pattern cannot be read"
	return nil
}

// literal returns the value of a text in quotes or of a number.
func literal(token string) (string, bool) {
	if rest, ok := strings.CutPrefix(token, "'"); ok {
		return rest, true
	}
	return token, token != "" && token[0] >= '0' && token[0] <= '9'
}

// tokenize parts a pattern into its words. A text in quotes becomes a token that
// begins with a quote. What follows something that cannot be read is one token.
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
	for i, t := range tokens { // quotes in a field are only around its parts
		if !strings.HasPrefix(t, "'") && strings.Contains(t, ":") {
			tokens[i] = strings.ReplaceAll(t, "'", "")
		}
	}
	return tokens
}

// quoted returns the text in quotes that s begins with, and what follows it.
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
