package indicator

import (
	"bufio"
	"encoding/csv"
	"errors"
	"io"
	"strings"
)

// textReader reads a list line by line. After a header it reads the lines as records with these columns.
type textReader struct {
	*Reading
	in    *bufio.Reader
	queue []readAhead
	line  int     // number of the last line taken
	table *table  // nil: no header yet
	maybe *table  // header in a comment, if the next line has as many cells
	skip  skipped // part of the list that is being left out
	half  halfRange
	zone  zone
	ended bool // all lines are in the queue
	pairs lonePairs

	noBlock int  // no record of keys begins before this line
	isMail  bool // the list is a mail
	sockets bool // the list is of netstat or ss
	page    bool // the list is a page: it has no comments
}

// readText reads a plain list, CSV in any form, or rules. A line of a plain list has one or several indicators; the words
// beside them are their label. #, // and, after white space, ; begin a comment.
func (r *Reading) readText(in *bufio.Reader) error {
	t := &textReader{Reading: r, in: in, page: r.Format == "html"}
	if !t.page {
		r.Format = "plain"
	}
	for {
		line, err := t.next()
		switch {
		case err == io.EOF:
			t.endHalf()
			t.settlePairs()
			return nil
		case errors.Is(err, errLongLine):
			r.problem(t.line, line, "the line is too long")
			continue
		case err != nil:
			return err
		}
		line = withoutMarkdown(t.uncommented(line))
		content := strings.TrimSpace(line)
		before := r.said()
		switch {
		case t.skip.until != untilEnd && (t.mailHeader(line) || t.signature(line)):
			continue
		case content == "":
			t.endHeading()
			continue
		case t.isComment(line, content):
			t.endHeading()
			t.passesBelow(content)
			continue
		case t.inBlock(line, content):
			continue
		case t.exceptsBelow(content):
			t.problem(t.line, content, exception)
			continue
		case t.table == nil && t.rangeEnd(content), t.isHeader(line), t.socketLine(content), t.readBlock(line):
			continue
		case t.table != nil:
			t.tableLine(line)
		case t.zoneLine(line), t.brokenWord(content), t.loneNumber(content):
		default:
			r.plainLine(content, t.line)
		}
		if r.said() == before {
			r.problem(t.line, content, notIndicator)
		}
	}
}

// endHeading ends the lines below a heading, as a blank line or a comment does.
func (t *textReader) endHeading() {
	if t.skip.until == untilBlank {
		t.skip = skipped{}
	}
}

var errLongLine = errors.New("line too long")

// readAhead is a line that was read ahead, or the error in its place.
type readAhead struct {
	text string
	err  error
}

// next returns the next line without its end, which may be LF, CR or both.
func (t *textReader) next() (string, error) {
	t.line++
	t.fill(1)
	if len(t.queue) == 0 {
		return "", io.EOF
	}
	line := t.queue[0]
	t.queue = t.queue[1:]
	return line.text, line.err
}

// ahead peeks at the line n lines ahead; false if there is none.
func (t *textReader) ahead(n int) (string, bool) {
	t.fill(n + 1)
	if len(t.queue) <= n || t.queue[n].err != nil {
		return "", false
	}
	return t.queue[n].text, true
}

// fill reads lines until n are in the queue, or the list or reading it ends.
func (t *textReader) fill(n int) {
	for len(t.queue) < n && !t.ended {
		line, err := readLine(t.in)
		if err != nil && err != errLongLine {
			t.ended = true
			if err != io.EOF {
				t.queue = append(t.queue, readAhead{line, err})
				return
			}
			if line == "" {
				return
			}
			err = nil
		}
		for part := range strings.SplitSeq(strings.TrimSuffix(line, "\r"), "\r") {
			t.queue = append(t.queue, readAhead{part, err})
		}
	}
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
	if t.page && !decoration.MatchString(content) || !isComment(content) {
		return false
	}
	if rest, ok := strings.CutPrefix(content, "#"); ok && t.table == nil && !strings.HasPrefix(rest, "types\t") {
		rest = strings.TrimPrefix(strings.TrimPrefix(rest, "fields"), "\t")
		header := findTable(strings.TrimSpace(rest))
		if header == nil {
			header = findSpaced(strings.TrimPrefix(rest, "Fields:"), t.rowAhead()) // W3C
		}
		if header != nil && len(header.roles) > 1 {
			t.maybe = header
		}
	}
	return true
}

// decoration matches the line below a heading, or between the rows of a table.
var decoration = expr(`^[ |:+]*[-=_*~─]{2,}[-=_*~─ |:+\t┼]*$`)

func isComment(line string) bool {
	if strings.HasPrefix(line, "#") || strings.HasPrefix(line, "//") || strings.HasPrefix(line, ";") || line == "!" || strings.HasPrefix(line, "! ") {
		return true
	}
	if decoration.MatchString(line) {
		return true
	}
	for _, mark := range []string{"-- ", "REM ", "rem "} { // SQL, batch files
		if rest, ok := strings.CutPrefix(line, mark); ok {
			_, isIndicator := readCell(rest)
			return !isIndicator
		}
	}
	return false
}

// rowAhead peeks at the first line that may be a record; "" if there is none.
func (t *textReader) rowAhead() string {
	for n := range 3 {
		line, ok := t.ahead(n)
		if !ok {
			break
		}
		if content := strings.TrimSpace(line); content != "" && !decoration.MatchString(content) {
			return line
		}
	}
	return ""
}

// isHeader reports whether a line is the header of a table, and keeps it. A header may come after other lines, but not
// after indicators.
func (t *textReader) isHeader(line string) bool {
	if t.table != nil || frames.MatchString(strings.TrimSpace(line)) {
		return false
	}
	if t.maybe != nil {
		if cells := t.maybe.cells(line); len(cells) == len(t.maybe.roles) {
			t.table, t.maybe, t.Format = t.maybe, nil, "csv"
			return false
		}
	}
	if strings.HasPrefix(strings.ToLower(line), "sep=") && len(strings.TrimSpace(line)) == len("sep=,") {
		return true // for Excel
	}
	if t.Entries > 0 && !namesColumns(line) {
		return false
	}
	header := findTable(line)
	if header == nil {
		header = findSpaced(line, t.rowAhead())
	}
	if header == nil || t.Entries > 0 && !header.isWhole() {
		return false
	}
	t.table, t.Format = header, "csv"
	return true
}

// namesColumns reports whether a line may be a header that comes after indicators. It is quick: long lists have many lines.
func namesColumns(line string) bool {
	return len(line) < 1000 && line != "" && (line[0] < '0' || line[0] > '9') && strings.ContainsAny(line, ",;\t|") && !strings.ContainsAny(line, ".:/")
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
	if t.table.separator == bySpaces || t.table.separator == byGaps {
		return t.table.cells(line)
	}
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
