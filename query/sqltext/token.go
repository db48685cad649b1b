package sqltext

import (
	"errors"
	"regexp"
	"strings"
)

// Kind is the kind of a token.
type Kind int

// The kinds of tokens.
const (
	End    Kind = iota // of the text
	Word               // a keyword or a name
	Quoted             // a name in quotes
	String
	Number
	Blob
	Param
	Sign // an operator, or a sign that parts
)

// Token is a token of SQL. Text is a word in small letters, a name in quotes without them and in small letters, and
// anything else as it is written.
type Token struct {
	Kind     Kind
	Text     string
	From, To int // bytes of the SQL; To is not included
}

// ErrToken is the error of text that is no token of SQL, such as a quote that is not closed.
var ErrToken = errors.New("a text or a name is not closed, or a sign is unknown")

// Tokens returns the tokens of SQL without its comments, the last of kind End.
func Tokens(sql string) ([]Token, error) {
	var list []Token
	for at := 0; ; {
		at += blank(sql[at:])
		if at == len(sql) {
			return append(list, Token{Kind: End, From: at, To: at}), nil
		}
		kind, length := cut(sql[at:])
		if length == 0 {
			return nil, ErrToken
		}
		t := Token{Kind: kind, Text: sql[at : at+length], From: at, To: at + length}
		switch kind {
		case Word:
			t.Text = strings.ToLower(t.Text)
		case Quoted:
			t.Text = strings.ToLower(unquoted(t.Text))
		}
		list = append(list, t)
		at += length
	}
}

// blank returns the length of the white space and the comments that a text begins with.
func blank(sql string) int {
	at := 0
	for at < len(sql) {
		rest := sql[at:]
		switch {
		case strings.IndexByte(" \t\r\n\f", rest[0]) >= 0:
			at++
		case strings.HasPrefix(rest, "\ufeff"):
			at += len("\ufeff")
		case strings.HasPrefix(rest, "--"):
			at += through(rest, "\n", 2)
		case strings.HasPrefix(rest, "/*"):
			at += through(rest, "*/", 2)
		default:
			return at
		}
	}
	return at
}

// through returns the length of a text up to the end of a mark that is looked for from a place on; without it, all of it.
func through(text, mark string, from int) int {
	if i := strings.Index(text[from:], mark); i >= 0 {
		return from + i + len(mark)
	}
	return len(text)
}

// cut returns the kind and the length of the token that a text begins with, 0: it is none.
func cut(sql string) (Kind, int) {
	first := sql[0]
	switch {
	case (first == 'x' || first == 'X') && strings.HasPrefix(sql[1:], "'"):
		return Blob, quote(sql[1:], '\'') + 1
	case first == '\'':
		return String, quote(sql, '\'')
	case first == '"' || first == '`':
		return Quoted, quote(sql, first)
	case first == '[':
		return Quoted, strings.IndexByte(sql, ']') + 1
	case isDigit(first) || first == '.' && len(sql) > 1 && isDigit(sql[1]):
		return Number, number(sql)
	case first == '?':
		return Param, 1 + word(sql[1:])
	case first == ':' || first == '@' || first == '$':
		if n := word(sql[1:]); n > 0 {
			return Param, 1 + n
		}
		return Param, 0
	case isInWord(first):
		return Word, word(sql)
	}
	for _, sign := range []string{"->>", "->", "||", "<<", "<=", "<>", ">>", ">=", "==", "!="} {
		if strings.HasPrefix(sql, sign) {
			return Sign, len(sign)
		}
	}
	if strings.IndexByte("-+*/%(),;.<>=&|~", first) >= 0 {
		return Sign, 1
	}
	return Sign, 0
}

// quote returns the length of what is in quotes, 0: they are not closed. A quote that is doubled is part of it.
func quote(sql string, end byte) int {
	for at := 1; at < len(sql); at++ {
		switch {
		case sql[at] != end:
		case at+1 < len(sql) && sql[at+1] == end:
			at++
		default:
			return at + 1
		}
	}
	return 0
}

// unquoted returns the name that is in quotes.
func unquoted(name string) string {
	end := name[len(name)-1:]
	return strings.ReplaceAll(name[1:len(name)-1], end+end, end)
}

func isDigit(b byte) bool { return b >= '0' && b <= '9' }

func isInWord(b byte) bool {
	return b == '_' || b == '$' || b >= 0x80 || isDigit(b) || b|0x20 >= 'a' && b|0x20 <= 'z'
}

// word returns the length of the word that a text begins with.
func word(sql string) int {
	at := 0
	for at < len(sql) && isInWord(sql[at]) {
		at++
	}
	return at
}

// numberForm is a number of SQL: hexadecimal, or decimal with a fraction and an exponent.
var numberForm = regexp.MustCompile(`^(0[xX][0-9a-fA-F_]+|[0-9_]*\.?[0-9_]*([eE][-+]?[0-9_]+)?)`)

// number returns the length of a number, 0: letters follow it.
func number(sql string) int {
	at := len(numberForm.FindString(sql))
	if at < len(sql) && isInWord(sql[at]) {
		return 0
	}
	return at
}
