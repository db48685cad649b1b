package indicator

import (
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
)

// Every object of a JSON list is a row of a table. Its fields are the columns, and so are the fields of objects in it
// (destination.ip). An object in an array is another row. STIX objects and MISP attributes are rows of a known schema.

// readJSON walks one or several JSON documents. It holds one row at a time.
func (r *Reading) readJSON(in io.Reader) error {
	r.Format = "json"
	w := &walker{reading: r, decoder: json.NewDecoder(in)}
	w.decoder.UseNumber()
	for {
		err := w.value("", "", nil, 0)
		if err == io.EOF && w.open > 0 {
			err = io.ErrUnexpectedEOF
		}
		switch {
		case err == io.EOF:
			w.finish()
			return nil
		case isJSONFault(err):
			r.problem(w.objects+1, "", "broken JSON, and all that follows it: "+err.Error())
			w.finish()
			return nil
		case err != nil:
			return err
		}
	}
}

// isJSONFault reports whether the error is bad JSON and not a failed read.
func isJSONFault(err error) bool {
	var syntax *json.SyntaxError
	return errors.As(err, &syntax) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, errDeep)
}

// deepest is the deepest nesting of a document that is read.
const deepest = 100

var errDeep = errors.New("nested too deep")

// walker reads JSON piece by piece.
type walker struct {
	reading *Reading
	decoder *json.Decoder
	open    int    // objects and arrays that have not ended
	objects int    // rows and texts so far
	empty   int    // objects without an indicator
	event   string // description of the MISP event

	group          []*jsonRow // attributes of the MISP object being read
	inGroup        bool
	stixIndicators int
	observed       []observedObject // of STIX; used if the bundle has no indicator
}

// jsonRow is an object of a list.
type jsonRow struct {
	list     string // name of the enclosing array or object
	fields   []field
	children bool       // it has rows in it
	waiting  []*jsonRow // rows in it that may be at its port, which is not read to its end
}

// get returns the text of a field by its exact name.
func (o *jsonRow) get(name string) string {
	for _, f := range o.fields {
		if f.name == name {
			return f.text
		}
	}
	return ""
}

// text returns the whole row, for a report.
func (o *jsonRow) text() string {
	var parts []string
	for _, f := range o.fields {
		if f.text != "" && len(parts) < 20 {
			parts = append(parts, f.name+"="+f.text)
		}
	}
	return strings.Join(parts, " ")
}

// value reads the value of a row's key; path is the key with the keys of the objects around it.
func (w *walker) value(path, key string, row *jsonRow, depth int) error {
	token, err := w.decoder.Token()
	if err != nil {
		return err
	}
	if depth > deepest {
		return errDeep
	}
	delim, isDelim := token.(json.Delim)
	switch {
	case !isDelim:
		w.scalar(path+key, key, textOf(token), row)
		return nil
	case passKey.MatchString(key):
		return w.skip()
	case delim == '[':
		return w.array(path+key, key, row, depth+1)
	case row == nil || isRowKey(key):
		return w.newRow(key, row, depth+1)
	}
	if c, ok := readCell(key); ok && c.is(Name) {
		w.reading.leaveOut("the key of an object, which looks like the name of a host")
	}
	return w.object(path+key+".", row, depth+1)
}

// isRowKey reports whether an object with this key is a row of its own: the key is a number, as in ThreatFox, or the
// row's address.
func isRowKey(key string) bool {
	c, ok := readCell(key)
	return ok && (c.sure || c.is(Port)) || strings.Trim(key, "0123456789") == ""
}

// newRow reads an object that is a row.
func (w *walker) newRow(list string, parent *jsonRow, depth int) error {
	row := &jsonRow{list: list}
	if parent != nil {
		parent.children = true
		if strings.Trim(list, "0123456789") == "" {
			row.list = parent.list
		}
	}
	if c, ok := readCell(list); ok && c.sure {
		row.fields = append(row.fields, field{roleIP, "", list})
	}
	if err := w.object("", row, depth); err != nil {
		return err
	}
	if parent != nil && parent.isPortAlone() {
		parent.waiting = append(parent.waiting, row)
		return nil
	}
	w.take(row)
	return nil
}

// isPortAlone reports whether a row has a port and no address so far. The rows in it are at this port, as in rules of clouds.
func (o *jsonRow) isPortAlone() bool {
	has := func(is func(role) bool) bool {
		return slices.ContainsFunc(o.fields, func(f field) bool { return f.text != "" && is(f.role) })
	}
	return has(func(of role) bool { return of == rolePort }) && !has(isHostRole)
}

// takeWaiting reads the rows that waited for the end of the row around them, at its ports.
func (w *walker) takeWaiting(row *jsonRow) {
	for _, one := range row.waiting {
		if row.isPortAlone() && first(one.fields, rolePort) == "" {
			for _, f := range row.fields {
				if f.role == rolePort || f.role == roleAction {
					one.fields = append(one.fields, f)
				}
			}
		}
		w.take(one)
	}
}

func (w *walker) object(path string, row *jsonRow, depth int) error {
	w.open++
	for w.decoder.More() {
		token, err := w.decoder.Token()
		if err != nil {
			return err
		}
		key, ok := token.(string)
		if !ok {
			return &json.SyntaxError{}
		}
		if err := w.value(path, key, row, depth); err != nil {
			return err
		}
	}
	return w.close()
}

// close reads the end of an object or array.
func (w *walker) close() error {
	_, err := w.decoder.Token()
	if err == nil {
		w.open--
	}
	return err
}

// array reads the members of a list. Texts in a row's list are fields of the row.
func (w *walker) array(path, key string, row *jsonRow, depth int) error {
	if depth > deepest {
		return errDeep
	}
	w.open++
	grouped := key == "Attribute" && row != nil && row.list == "Object"
	if grouped {
		w.inGroup, w.group = true, nil
	}
	for w.decoder.More() {
		token, err := w.decoder.Token()
		if err != nil {
			return err
		}
		switch delim, isDelim := token.(json.Delim); {
		case !isDelim:
			w.scalar(path, key, textOf(token), row)
		case delim == '[':
			err = w.array(path, key, row, depth+1)
		default:
			err = w.newRow(key, row, depth+1)
		}
		if err != nil {
			return err
		}
	}
	if grouped {
		w.inGroup = false
		w.mispObject()
	}
	return w.close()
}

// scalar adds a text, number or flag to its row, or reads it as a member of a list.
func (w *walker) scalar(name, key, text string, row *jsonRow) {
	if key == "info" {
		w.event = text
	}
	if c, ok := readCells(text); ok && !c.is(Port) && passKey.MatchString(key) {
		w.reading.leaveOut(passes)
		return
	}
	if row == nil {
		w.member(text)
		return
	}
	if c, ok := readCell(key); ok && c.sure { // {"198.51.100.66": 443}
		row.children = true
		if port, isPort := parsePortNumber(text); isPort && len(c.list) == 1 && c.list[0].Port == 0 && c.is(Address, Range) {
			w.objects++
			c.list[0].Port, c.list[0].beside = port, true
			w.reading.add(w.objects, "", c.list...)
			return
		}
		if isNoPort(text) {
			w.reading.besides.noPorts++
		}
		w.take(&jsonRow{fields: []field{{roleIP, "", key}, {roleLabel, key, text}}})
		return
	}
	row.fields = append(row.fields, field{roleOf(name), name, text})
}

// member reads a text of a list of texts. It takes no numbers: nothing says that they are ports.
func (w *walker) member(text string) {
	w.objects++
	if c, ok := readCells(text); ok && !c.is(Port) {
		w.reading.add(w.objects, w.event, c.list...)
		return
	}
	w.reading.problem(w.objects, text, notIndicator)
}

func textOf(token json.Token) string {
	switch token := token.(type) {
	case string:
		return token
	case json.Number:
		return token.String()
	case bool:
		if token {
			return "true"
		}
		return "false"
	}
	return ""
}

// take reads a complete row.
func (w *walker) take(row *jsonRow) {
	w.takeWaiting(row)
	isAttribute := row.list == "Attribute" || row.list == "ShadowAttribute"
	if isAttribute {
		w.reading.Format = "misp"
		if w.inGroup {
			w.group = append(w.group, row)
			return
		}
	}
	row.fields = identified(row)
	if row.children && !slices.ContainsFunc(row.fields, func(f field) bool { return f.text != "" && isHostRole(f.role) }) {
		return // it only contains rows
	}
	w.objects++
	switch {
	case isAttribute:
		w.mispAttribute(row, nil)
	case w.stixRow(row):
	default:
		w.anyRow(row)
	}
}

// aboutList reports whether a field describes the list itself: its terms, licence or source.
func aboutList(name string) bool {
	return wordsOf(name).hasAny("terms", "license", "licence", "copyright", "schema", "homepage", "documentation", "docs", "help", "feed", "self", "href", "next", "prev", "previous",
		"link", "links", "reference", "references", "permalink", "contact", "publisher", "provider", "generator", "vendor")
}

// anyRow reads a row of no known schema.
func (w *walker) anyRow(row *jsonRow) {
	if strings.EqualFold(row.get("type"), "metadata") {
		w.reading.leaveOut("about the list itself")
		return
	}
	before := w.reading.said()
	why := portAlone
	if ports, _ := portsOf(row.fields); len(ports) == 0 || slices.ContainsFunc(row.fields, func(f field) bool { return f.text != "" && isHostRole(f.role) }) {
		if why = w.reading.row(row.fields, w.objects); why == "" || w.reading.said() > before {
			return
		}
	}
	var texts []string
	hosts := false
	for _, f := range row.fields {
		hosts = hosts || f.text != "" && isHostRole(f.role)
		if f.role == roleOther && (aboutList(f.name) || wordsOf(f.name).has("version")) {
			if c, ok := readCell(f.text); ok && c.sure {
				w.reading.leaveOut(otherColumn + ": " + cutLabel(f.name))
			}
			continue
		}
		if _, isPort := parsePortNumber(f.text); !isPort {
			texts = append(texts, f.text)
		}
	}
	if ports, ok := portsOf(row.fields); ok && !hosts && w.reading.loose(texts, ports, w.objects) || w.reading.said() > before {
		return
	}
	if hosts || why != notIndicator {
		w.reading.problem(w.objects, row.text(), why)
		return
	}
	w.empty++
}

// identified returns the fields of a row. Of an object of VirusTotal, whose type and id say what it is, it makes the id the
// value; the rest describes it: the network of an address is no indicator.
func identified(row *jsonRow) []field {
	kind, id := row.get("type"), row.get("id")
	if c, ok := readCell(id); !ok || !c.is(Address, Name, Hash) || !slices.Contains([]string{"ip_address", "domain", "file"}, kind) {
		return row.fields
	}
	fields := []field{{roleType, "type", kind}, {roleValue, "id", id}}
	for _, f := range row.fields {
		if f.name != "type" && f.name != "id" {
			fields = append(fields, field{roleOther, f.name, f.text})
		}
	}
	return fields
}

const portAlone = "it has a port and no address"

// finish reads the observed objects of a bundle without indicators: it is a list. In a bundle with indicators an observed
// object may be anything, even the victim. A document without anything understood is a problem.
func (w *walker) finish() {
	for _, o := range w.observed {
		if w.stixIndicators > 0 {
			w.reading.leaveOut("observed, and no indicator")
			continue
		}
		w.reading.add(o.line, "", o.indicator)
	}
	if w.reading.said() == 0 {
		w.reading.problem(1, "", "the JSON has no object with an indicator, and no list of texts")
		return
	}
	for range w.empty {
		w.reading.leaveOut("an object without an indicator")
	}
}
