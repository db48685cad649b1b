package query

import (
	"slices"
	"strings"

	"github.com/conntape/conntape/query/ask"
)

// IsComplete reports whether SQL ends with a semicolon outside quotes and comments.
func IsComplete(sql string) bool {
	complete := false
	for sql != "" {
		switch c := sql[0]; {
		case strings.HasPrefix(sql, "--"):
			_, sql, _ = strings.Cut(sql, "\n")
			continue
		case strings.HasPrefix(sql, "/*"):
			var closed bool
			if _, sql, closed = strings.Cut(sql[2:], "*/"); !closed {
				return false
			}
			continue
		case c == '\'' || c == '"' || c == '`' || c == '[':
			end := string(c)
			if c == '[' {
				end = "]"
			}
			_, rest, closed := strings.Cut(sql[1:], end)
			if !closed {
				return false
			}
			sql, complete = rest, false
			continue
		case c == ';':
			complete = true
		case c != ' ' && c != '\t' && c != '\n' && c != '\r':
			complete = false
		}
		sql = sql[1:]
	}
	return complete
}

// Completer completes names as they are typed.
type Completer struct {
	words   []string            // views, functions and keywords
	columns map[string][]string // by view
	after   map[string][]string // words that may follow the begin of a line
}

// NewCompleter returns a completer for the documented schema, SQL, and words.
func NewCompleter(words ...string) *Completer {
	c := &Completer{columns: make(map[string][]string), after: make(map[string][]string)}
	c.words = append(c.words, ask.ViewNames()...)
	for _, row := range Schema() {
		switch {
		case slices.Contains(ask.ViewNames(), row.In):
			c.columns[row.In] = append(c.columns[row.In], row.Name)
		case row.In == "functions":
			name, _, _ := strings.Cut(row.Name, "(")
			c.words = append(c.words, name+"(")
		}
	}
	c.words = append(c.words, strings.Fields(`select from where group by order limit having distinct as and or not in like glob between is null
		case when then else end with recursive union all join left on using exists over partition asc desc cast
		count( sum( min( max( avg( group_concat( coalesce( nullif( length( substr( instr( replace( lower( upper( printf( round( abs(
		strftime( datetime( date( time( row_number( lag( lead( json_each( total( iif(`)...)
	c.words = append(c.words, words...)
	return c
}

// After makes words the only completions after a begin of a line.
func (c *Completer) After(begin string, words []string) { c.after[begin] = words }

// following returns the words set for the longest matching begin, and whether there is one.
func (c *Completer) following(head string) ([]string, bool) {
	words := strings.Fields(head)
	for n := min(len(words), 2); n > 0; n-- {
		if list, ok := c.after[strings.Join(words[:n], " ")]; ok {
			return list, true
		}
	}
	return nil, false
}

// Complete returns the completions at pos, with the text before and after them. Columns come first: of the views in the
// line, else of all views.
func (c *Completer) Complete(line string, pos int) (head string, completions []string, tail string) {
	start := pos
	for start > 0 && isNameByte(line[start-1]) {
		start--
	}
	if start == 1 && line[0] == '.' {
		start = 0 // a command of the prompt
	}
	following, isCommand := c.following(line[:max(0, strings.LastIndexByte(line[:pos], ' '))])
	if isCommand {
		start = strings.LastIndexByte(line[:pos], ' ') + 1
	}
	head, word, tail := line[:start], line[start:pos], line[pos:]
	if word == "" && !isCommand {
		return head, nil, tail
	}
	lower := strings.ToLower(word)
	add := func(names []string) {
		for _, name := range names {
			if strings.HasPrefix(strings.ToLower(name), lower) && !slices.Contains(completions, name) {
				completions = append(completions, name)
			}
		}
	}
	if isCommand {
		add(following)
		return head, completions, tail
	}
	named := false
	for _, view := range ask.ViewNames() {
		if strings.Contains(strings.ToLower(head+tail), view) {
			named = true
			add(c.columns[view])
		}
	}
	if !named {
		for _, view := range ask.ViewNames() {
			add(c.columns[view])
		}
	}
	add(c.words)
	return head, completions, tail
}

func isNameByte(b byte) bool {
	return b == '_' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9'
}
