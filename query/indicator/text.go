package indicator

import (
	"bufio"
	"encoding/csv"
	"errors"
	"io"
	"regexp"
	"strings"
)

// textReader reads a list line by line. After a header it reads the lines as records with these columns.
type textReader struct {
	*Reading
	in    *bufio.Reader
	queue []string // lines that were read ahead
	line  int      // number of the last line taken
	table *table   // nil: no header yet
	maybe *table   // header in a comment, if the next line has as many cells
	skip  string   // why the lines of a block are left out; "": they are not
	depth int      // indentation of the block's key
	half  halfRange
}

// readText reads a plain list, CSV in any form, or rules. A line of a plain list has one or several indicators; the words
// beside them are their label. #, // and, after white space, ; begin a comment.
func (r *Reading) readText(in *bufio.Reader) error {
	r.Format = "plain"
	t := &textReader{Reading: r, in: in}
	for {
		line, err := t.next()
		switch {
		case err == io.EOF:
			t.endHalf()
			return nil
		case errors.Is(err, errLongLine):
			r.problem(t.line, line, "the line is too long")
			continue
		case err != nil:
			return err
		}
		content := strings.TrimSpace(line)
		before := r.said()
		switch {
		case content == "" || t.isComment(line, content):
			continue
		case t.inBlock(line, content):
			t.leaveOut(t.skip)
			continue
		case t.table == nil && t.rangeEnd(content), t.isHeader(line):
			continue
		case t.table != nil:
			t.tableLine(line)
		default:
			r.plainLine(content, t.line)
		}
		if r.said() == before {
			r.problem(t.line, content, notIndicator)
		}
	}
}

// otherBlocks matches the key of a block of YAML that has no indicators; the second form has those that a rule lets pass.
var otherBlocks = regexp.MustCompile(`(?i)^(?:- )?(?:(references?|refs?|falsepositives|links)|(?:filters?|exclu\w*|except\w*|allow\w*|whitelist\w*|permitted|trusted|safe)[\w-]*):$`)

// inBlock reports whether a line is in such a block, which ends with the first line that is no deeper. Items of a list may
// stand below the key.
func (t *textReader) inBlock(line, content string) bool {
	depth := len(line) - len(strings.TrimLeft(line, " \t"))
	if t.skip != "" && (depth > t.depth || depth == t.depth && strings.HasPrefix(content, "- ")) {
		return true
	}
	t.skip = ""
	if t.table != nil {
		return false
	}
	found := otherBlocks.FindStringSubmatch(content)
	if found == nil {
		return false
	}
	t.skip, t.depth = passes, depth
	if found[1] != "" {
		t.skip = "where to read more"
	}
	return true
}

var errLongLine = errors.New("line too long")

// next returns the next line without its end, which may be LF, CR or both.
func (t *textReader) next() (string, error) {
	t.line++
	if len(t.queue) > 0 {
		line := t.queue[0]
		t.queue = t.queue[1:]
		return line, nil
	}
	line, err := readLine(t.in)
	if err != nil && (err != io.EOF || line == "") {
		return line, err
	}
	if strings.Contains(line, "\r") {
		lines := strings.Split(strings.TrimSuffix(line, "\r"), "\r")
		line, t.queue = lines[0], lines[1:]
	}
	return line, nil
}

// ahead peeks at the line n lines ahead; false if there is none.
func (t *textReader) ahead(n int) (string, bool) {
	for len(t.queue) <= n {
		line, err := readLine(t.in)
		if err != nil {
			return "", false
		}
		t.queue = append(t.queue, line)
	}
	return t.queue[n], true
}

// readLine returns a line without its end. If the line is longer than longest, it returns the beginning and errLongLine.
func readLine(in *bufio.Reader) (string, error) {
	var line []byte
	long := false
	for {
		part, more, err := in.ReadLine()
		switch {
		case err != nil:
			return string(line), err
		case !more && line == nil:
			return string(part), nil
		}
		if len(line) < longest {
			line = append(line, part...)
		} else {
			long = true
		}
		if !more {
			break
		}
	}
	if long {
		return string(line), errLongLine
	}
	return string(line), nil
}

// isComment reports whether a line is a comment. A comment before a table may be its header, as in feeds of abuse.ch and Zeek.
func (t *textReader) isComment(line, content string) bool {
	if !isComment(content) {
		return false
	}
	if rest, ok := strings.CutPrefix(content, "#"); ok && t.table == nil && !strings.HasPrefix(rest, "types\t") {
		rest = strings.TrimPrefix(strings.TrimPrefix(rest, "fields"), "\t")
		if header := findTable(strings.TrimSpace(rest)); header != nil && len(header.roles) > 1 {
			t.maybe = header
		}
	}
	return true
}

func isComment(line string) bool {
	return strings.HasPrefix(line, "#") || strings.HasPrefix(line, "//") || strings.HasPrefix(line, ";") ||
		line == "!" || strings.HasPrefix(line, "! ")
}

// isHeader reports whether a line is the header of a table, and keeps it. A header may come after other lines, but not
// after indicators.
func (t *textReader) isHeader(line string) bool {
	if t.table != nil {
		return false
	}
	if t.maybe != nil {
		if cells := splitRecord(line, t.maybe.separator); len(cells) == len(t.maybe.roles) {
			t.table, t.maybe, t.Format = t.maybe, nil, "csv"
			return false
		}
	}
	if strings.HasPrefix(strings.ToLower(line), "sep=") && len(strings.TrimSpace(line)) == len("sep=,") {
		return true // for Excel
	}
	if t.Entries > 0 {
		return false
	}
	if t.table = findTable(line); t.table != nil {
		t.Format = "csv"
	}
	return t.table != nil
}

// tableLine reads a line after a header.
func (t *textReader) tableLine(line string) {
	start := t.line
	cells := t.record(line)
	if len(cells) == 1 && len(t.table.roles) > 1 {
		t.plainLine(strings.TrimSpace(line), start)
		return
	}
	if len(t.table.roles) == 1 {
		cells = []string{line}
	}
	before := t.said()
	if why := t.row(t.table.fields(cells), start); why != "" {
		if other := findTable(line); other != nil && other.isWhole() && t.said() == before {
			t.table = other // two tables, one after the other
			t.leaveOut("the header of another table")
			return
		}
		if _, isPort := ParsePort(strings.TrimSpace(line)); len(t.table.roles) == 1 && !isPort {
			t.plainLine(strings.TrimSpace(line), start) // the header was only a heading
			return
		}
		t.problem(start, strings.Join(cells, " "), why)
	}
}

// record returns the cells of the record that begins with this line. A quoted cell may span several lines; an unmatched
// quote does not swallow the lines after it.
func (t *textReader) record(line string) []string {
	const mostLines = 100
	if !strings.Contains(line, `"`) {
		return strings.Split(line, string(t.table.separator))
	}
	whole := line
	for n := range mostLines {
		cells, err := strictRecord(whole, t.table.separator)
		if err == nil {
			t.queue, t.line = t.queue[n:], t.line+n
			return cells
		}
		if strings.Count(whole, `"`)%2 == 0 || errors.Is(err, csv.ErrBareQuote) {
			break
		}
		more, ok := t.ahead(n)
		if !ok || len(whole)+len(more) > longest || t.table.isRow(more) {
			break
		}
		whole += "\n" + more
	}
	return splitRecord(line, t.table.separator)
}

// strictRecord returns the cells of one record according to RFC 4180.
func strictRecord(text string, separator rune) ([]string, error) {
	in := csv.NewReader(strings.NewReader(text))
	in.Comma, in.TrimLeadingSpace = separator, separator != '\t'
	return in.Read()
}

// splitRecord returns the cells of a line that may have wrong quotes.
func splitRecord(line string, separator rune) []string {
	if cells, err := strictRecord(line, separator); err == nil {
		return cells
	}
	cells := strings.Split(line, string(separator))
	for i := range cells {
		cells[i] = strings.Trim(strings.TrimSpace(cells[i]), `"`)
	}
	return cells
}
