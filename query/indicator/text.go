package indicator

import (
	"bufio"
	"encoding/csv"
	"errors"
	"io"
	"slices"
	"strings"
)

// readText reads a plain list or CSV. In a plain list a line is an indicator, and
// what follows it after white space says what it is; # and // begin a comment, and
// so does ; after white space. In CSV the header tells which column holds the
// indicators; without a header the first cell that is one does.
func (r *Reading) readText(in *bufio.Reader) error {
	r.Format = "plain"
	for number := 1; ; number++ {
		line, err := readLine(in)
		if errors.Is(err, errLongLine) {
			r.problem(number, line, "the line is too long")
			continue
		}
		if err != nil && (err != io.EOF || line == "") {
			if err == io.EOF {
				err = nil
			}
			return err
		}
		content := strings.TrimSpace(line)
		switch {
		case content == "" || isComment(content):
		case separatorOf(content) != 0:
			return r.readCSV(in, line, number, separatorOf(content))
		default:
			r.plainLine(content, number)
		}
	}
}

var errLongLine = errors.New("line too long")

// readLine returns a line without its end. Of one that is longer than longest it
// returns the beginning, and errLongLine.
func readLine(in *bufio.Reader) (string, error) {
	var line []byte
	long := false
	for {
		part, more, err := in.ReadLine()
		if err != nil {
			return string(line), err
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

func isComment(line string) bool {
	return strings.HasPrefix(line, "#") || strings.HasPrefix(line, "//") || strings.HasPrefix(line, ";")
}

// separatorOf returns what parts the cells of a line of CSV, 0 when it is none.
func separatorOf(line string) rune {
	for _, separator := range []string{",", "\t", ";"} {
		before, _, ok := strings.Cut(line, separator)
		if ok && before == strings.TrimRight(before, " ") && !strings.ContainsAny(before, "'()") {
			return rune(separator[0])
		}
	}
	return 0
}

// plainLine reads one line of a plain list.
func (r *Reading) plainLine(line string, number int) {
	if i, ok := Parse(line); ok {
		r.add(i, "", number)
		return
	}
	word, rest, _ := strings.Cut(line, " ")
	word, rest = strings.TrimRight(word, ",;"), strings.TrimSpace(rest)
	if word == "0.0.0.0" || word == "127.0.0.1" { // a hosts file
		name, label, _ := strings.Cut(rest, " ")
		if i, ok := Parse(name); ok && i.Kind == Name {
			r.add(i, trimComment(label), number)
			return
		}
	}
	if i, ok := Parse(word); ok && i.Kind != Port {
		r.add(i, trimComment(rest), number)
		return
	}
	r.problem(number, line, "it is no address, CIDR, port, name, path or hash")
}

func trimComment(text string) string { return strings.TrimLeft(text, "#;/ \t-") }

// columnNames are the headers of columns with indicators, the surest first.
func columnNames() []string {
	return []string{"indicator", "indicator_value", "value", "ioc", "ioc_value", "observable", "dst_ip", "ip", "ip_address", "ipaddress", "address", "addr", "cidr",
		"network", "netblock", "subnet", "domain", "hostname", "host", "fqdn", "url", "sha256", "sha1", "md5", "hash", "file", "filename", "path"}
}

// labelNames are the headers of columns that say what an indicator is.
func labelNames() []string {
	return []string{"comment", "description", "label", "name", "threat", "malware", "malware_printable", "tags", "category", "info", "event_info", "reason"}
}

// readCSV reads records, the first of which begins with a line that was read.
func (r *Reading) readCSV(in io.Reader, first string, number int, separator rune) error {
	r.Format = "csv"
	table := csv.NewReader(io.MultiReader(strings.NewReader(first+"\n"), in))
	table.Comma, table.FieldsPerRecord, table.LazyQuotes, table.TrimLeadingSpace, table.ReuseRecord = separator, -1, true, separator != '\t', true
	var columns csvColumns
	for header := true; ; header = false {
		cells, err := table.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		line := number
		if err == nil {
			at, _ := table.FieldPos(0)
			line += at - 1
		}
		var broken *csv.ParseError
		if errors.As(err, &broken) {
			r.problem(number+broken.StartLine-1, "", "broken CSV: "+broken.Err.Error())
			continue
		}
		if err != nil {
			return err
		}
		if header {
			if columns = findColumns(cells); columns.found {
				continue
			}
		}
		if len(cells) == 1 {
			if cell := strings.TrimSpace(cells[0]); cell == "" || isComment(cell) {
				continue
			}
		} else if isComment(strings.TrimSpace(cells[0])) {
			continue
		}
		r.csvRow(columns, cells, line)
	}
}

// csvColumns is what the header of a CSV file told.
type csvColumns struct {
	found              bool
	value, kind        int // -1 none
	label, toIDs, port int
}

// findColumns reads a header. A record with an indicator in it is none.
func findColumns(cells []string) csvColumns {
	lower := make([]string, len(cells))
	for i, cell := range cells {
		lower[i] = strings.ToLower(strings.Trim(strings.TrimSpace(cell), `#"' `))
	}
	find := func(names []string) int {
		for _, name := range names {
			if i := slices.Index(lower, name); i >= 0 {
				return i
			}
		}
		return -1
	}
	c := csvColumns{
		value: find(columnNames()), kind: find([]string{"type", "indicator_type", "ioc_type", "attribute_type"}),
		label: find(labelNames()), toIDs: find([]string{"to_ids"}), port: find([]string{"port", "dst_port"}),
	}
	c.found = c.value >= 0 || c.port >= 0
	return c
}

// csvRow reads one record.
func (r *Reading) csvRow(columns csvColumns, cells []string, line int) {
	cell := func(i int) string {
		if i < 0 || i >= len(cells) {
			return ""
		}
		return strings.TrimSpace(cells[i])
	}
	whole := strings.Join(cells, " ")
	if !columns.found && len(cells) == 1 {
		r.plainLine(strings.TrimSpace(whole), line)
		return
	}
	if !columns.found {
		for at, text := range cells {
			if i, ok := Parse(text); ok && i.Kind != Port {
				r.add(i, strings.Join(append(slices.Clone(cells[:at]), cells[at+1:]...), " "), line)
				return
			}
		}
		r.problem(line, whole, "no cell is an address, CIDR, name, path or hash")
		return
	}
	if flag := strings.ToLower(cell(columns.toIDs)); flag == "0" || flag == "false" {
		r.leaveOut(notForDetection)
		return
	}
	if columns.kind >= 0 && isMISPType(cell(columns.kind)) {
		r.misp(cell(columns.kind), cell(columns.value), cell(columns.label), line)
		return
	}
	value := cell(columns.value)
	i, ok := Parse(value)
	if port, isPort := parsePortNumber(cell(columns.port)); isPort {
		switch {
		case value == "":
			i, ok = ParsePort(cell(columns.port))
		case ok && (i.Kind == Address || i.Kind == Range || i.Kind == Name) && i.Port == 0:
			i.Port = port
		}
	}
	if !ok {
		r.problem(line, whole, "it is no address, CIDR, port, name, path or hash")
		return
	}
	r.add(i, cell(columns.label), line)
}
