package indicator

import "strings"

// blockComments are the marks of a comment that may span lines.
var blockComments = [][2]string{{"/*", "*/"}, {"<!--", "-->"}}

// mostCommentLines is the limit of such a comment. A mark without its end swallows no line.
const mostCommentLines = 500

// uncommented returns a line without such comments. A comment that spans lines takes those with it.
func (t *textReader) uncommented(line string) string {
	if t.table != nil {
		return line
	}
	for _, marks := range blockComments {
		for {
			at := strings.Index(line, marks[0])
			if at < 0 || at > 0 && line[at-1] != ' ' && line[at-1] != '\t' {
				break
			}
			end := strings.Index(line[at+len(marks[0]):], marks[1])
			if end >= 0 {
				line = line[:at] + " " + line[at+len(marks[0])+end+len(marks[1]):]
				continue
			}
			rest, ok := t.commentEnd(marks[1])
			if !ok {
				break
			}
			line = line[:at] + " " + rest
		}
	}
	return line
}

// commentEnd drops the lines of a comment, and returns what follows its end on the last.
func (t *textReader) commentEnd(mark string) (rest string, ok bool) {
	for n := range mostCommentLines {
		line, ok := t.ahead(n)
		if !ok {
			return "", false
		}
		if _, rest, ok := strings.Cut(line, mark); ok {
			t.queue, t.line = t.queue[n+1:], t.line+n+1
			return rest, true
		}
	}
	return "", false
}
