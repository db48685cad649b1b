package escape

import (
	"fmt"
	"strings"
)

// Cmdline escapes raw arguments and joins them with spaces to one line. An argument that is empty or has a space or a
// quote gets double quotes; a double quote in it becomes \". [SplitCmdline] is the reverse.
func Cmdline(argv []string) string {
	if len(argv) == 1 && !needsQuotes(argv[0]) {
		return String(argv[0], nil)
	}
	var b strings.Builder
	for i, arg := range argv {
		if i > 0 {
			b.WriteByte(' ')
		}
		text := String(arg, nil)
		if !needsQuotes(arg) {
			b.WriteString(text)
			continue
		}
		b.WriteByte('"')
		b.WriteString(strings.ReplaceAll(text, `"`, `\"`))
		b.WriteByte('"')
	}
	return b.String()
}

func needsQuotes(arg string) bool { return arg == "" || strings.ContainsAny(arg, ` '"`) }

// SplitCmdline returns the raw arguments that [Cmdline] joined. An empty line has no arguments.
func SplitCmdline(line string) ([]string, error) {
	var argv []string
	for i := 0; i < len(line); i++ { // steps over the space
		word, end, err := cutWord(line, i)
		if err != nil {
			return nil, err
		}
		raw, err := Unescape(word)
		if err != nil {
			return nil, fmt.Errorf("split command line: %w", err)
		}
		argv = append(argv, string(raw))
		i = end
		if i == len(line)-1 { // a trailing space
			return nil, fmt.Errorf("split command line at byte %d: %w", i, errEscape)
		}
	}
	return argv, nil
}

// cutWord returns the escaped word that begins at line[i], without quotes, and the index of the space after it or of the
// end.
func cutWord(line string, i int) (string, int, error) {
	if line[i] != '"' {
		end := strings.IndexByte(line[i:], ' ')
		if end < 0 {
			end = len(line) - i
		}
		return line[i : i+end], i + end, nil
	}
	var b strings.Builder
	for j := i + 1; j < len(line); j++ {
		switch {
		case line[j] == '"':
			if j+1 < len(line) && line[j+1] != ' ' {
				return "", 0, fmt.Errorf("split command line at byte %d: %w", j, errEscape)
			}
			return b.String(), j + 1, nil
		case line[j] == '\\' && j+1 < len(line):
			j++
			if line[j] != '"' {
				b.WriteByte('\\')
			}
			b.WriteByte(line[j])
		default:
			b.WriteByte(line[j])
		}
	}
	return "", 0, fmt.Errorf("split command line: no closing quote: %w", errEscape)
}
