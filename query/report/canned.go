package report

import (
	"bufio"
	"cmp"
	"embed"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/input"
)

//go:embed canned/*.sql
var cannedFiles embed.FS

// Canned is a question that comes with the program: a file with SQL over the public views and a header. The header is
// comments of the form "-- key: text" before the SQL:
//
//	-- purpose: one sentence
//	-- arg: name type | what the argument is; arguments are taken in this order
//	-- param: name type = default | what the flag --name changes
//	-- window: parameters
//	-- narrow: what | what is resolved before the question is asked, for speed alone
//	-- fold: scans
//	-- column: name | what the column holds
//	-- note: something to know about the answer; more than one may be given
//	-- false-positives: what else looks like this
//	-- example: a line to type
//
// A push-down resolves the connections to an indicator, or, as tables WHERE condition, the tasks (t, with p for the
// process), shapes, or rows of the views endpoints or processes that match; the condition may use the query's own WITH.
//
// With "fold: scans" the rows of a scan become one, see [Folding].
//
// Types are integer, text, time (nanoseconds in the SQL), flag (1 when given,
// else 0), remote (an endpoint as column remote shows it; its port becomes the
// parameter port), and words to choose from, as in process|port.
//
// With "window: parameters" the window is not pushed down to the views, because the query looks beyond it: :since and
// :until are its ends. Without --since it is the last day. An integer or time flag without value and default is NULL.
type Canned struct {
	Name           string
	Purpose        string
	Params         []Param // arguments first
	OwnWindow      bool    // the window is in the parameters since and until
	Columns        []ColumnDoc
	Notes          []string
	FalsePositives string
	Examples       []string
	FoldsScans     bool   // the answer goes through a [Folding] unless --all is given
	Narrowing      string // push-down before the question is asked; "": none
	Source         string // the whole file
}

// Param is a parameter of a canned query: :name in its SQL.
type Param struct {
	Name, Type, Default, Purpose string
	Argument                     bool // positional
}

// Flag returns the name of the parameter's flag.
func (p Param) Flag() string { return strings.ReplaceAll(p.Name, "_", "-") }

// Choices returns the allowed words, nil for any text.
func (p Param) Choices() []string {
	if strings.Contains(p.Type, "|") {
		return strings.Split(p.Type, "|")
	}
	return nil
}

// ColumnDoc describes one column of an answer.
type ColumnDoc struct{ Name, Purpose string }

// LimitParam is the parameter for --limit; 0: all.
const LimitParam = "limit"

// Library returns every canned query, sorted by name.
func Library() ([]*Canned, error) { return readLibrary(cannedFiles, "canned") }

// readLibrary reads every .sql file of a directory.
func readLibrary(files fs.FS, dir string) ([]*Canned, error) {
	entries, err := fs.ReadDir(files, dir)
	if err != nil {
		return nil, fmt.Errorf("list canned queries: %w", err)
	}
	var library []*Canned
	for _, e := range entries {
		text, err := fs.ReadFile(files, path.Join(dir, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("read canned query: %w", err)
		}
		c, err := parseCanned(strings.TrimSuffix(e.Name(), ".sql"), string(text))
		if err != nil {
			return nil, fmt.Errorf("parse canned query %s: %w", e.Name(), err)
		}
		library = append(library, c)
	}
	slices.SortFunc(library, func(a, b *Canned) int { return strings.Compare(a.Name, b.Name) })
	return library, nil
}

// parseCanned reads the header of one file.
func parseCanned(name, source string) (*Canned, error) {
	c := &Canned{Name: name, Source: source}
	lines := bufio.NewScanner(strings.NewReader(source))
	for lines.Scan() {
		comment, ok := strings.CutPrefix(lines.Text(), "-- ")
		if !ok {
			break
		}
		key, text, ok := strings.Cut(comment, ": ")
		if !ok {
			return nil, fmt.Errorf("header line %q is not key: text", comment)
		}
		if err := c.set(key, strings.TrimSpace(text)); err != nil {
			return nil, err
		}
	}
	if c.Purpose == "" || len(c.Columns) == 0 || len(c.Examples) == 0 {
		return nil, fmt.Errorf("header lacks a purpose, a column or an example")
	}
	slices.SortStableFunc(c.Params, func(a, b Param) int { return format.ZeroOrOne(b.Argument) - format.ZeroOrOne(a.Argument) })
	return c, lines.Err()
}

// set reads one line of the header.
func (c *Canned) set(key, text string) error {
	what, purpose, _ := strings.Cut(text, " | ")
	switch key {
	case "purpose":
		c.Purpose = text
	case "arg", "param":
		p, err := parseParamDoc(what, purpose)
		if err != nil {
			return err
		}
		p.Argument = key == "arg"
		c.Params = append(c.Params, p)
	case "window":
		c.OwnWindow = text == "parameters"
	case "fold":
		c.FoldsScans = text == "scans"
	case "narrow":
		c.Narrowing = what
	case "column":
		c.Columns = append(c.Columns, ColumnDoc{what, purpose})
	case "note":
		c.Notes = append(c.Notes, text)
	case "false-positives":
		c.FalsePositives = text
	case "example":
		c.Examples = append(c.Examples, text)
	default:
		return fmt.Errorf("unknown header key %q", key)
	}
	return nil
}

func parseParamDoc(what, purpose string) (Param, error) {
	what, value, _ := strings.Cut(what, " = ")
	name, kind, _ := strings.Cut(what, " ")
	p := Param{Name: name, Type: kind, Default: value, Purpose: purpose}
	known := slices.Contains([]string{"integer", "text", "time", "flag", "remote"}, kind) || p.Choices() != nil
	if name == "" || !known || purpose == "" {
		return Param{}, fmt.Errorf("parameter %q is not name type [= default] | purpose", what)
	}
	return p, nil
}

// Bind reads the given values of parameters by name, and sets the others to their defaults. Relative times refer to the
// clock.
func (c *Canned) Bind(given map[string]string, clock input.Clock, w input.Window) (map[string]format.Value, error) {
	values := make(map[string]format.Value, len(c.Params)+2)
	asked := remoteAsked{port: -1}
	for _, p := range c.Params {
		text, ok := given[p.Name]
		if !ok {
			text = p.Default
		}
		if p.Type == "remote" {
			var err error
			if asked, err = parseRemote(text); err != nil {
				return nil, err
			}
			text = asked.indicator
		}
		v, err := p.read(text, clock)
		if err != nil {
			return nil, err
		}
		if p.Name == LimitParam && v.Int == 0 {
			v.Int = -1 // how SQLite says no limit
		}
		values[p.Name] = v
	}
	if asked.port >= 0 {
		if port := values["port"]; port.Kind == format.Integer && port.Int != asked.port {
			return nil, input.Usagef("leave one of them out", "the port is both %d and %d", asked.port, port.Int)
		}
		values["port"] = format.IntValue(asked.port)
	}
	if c.OwnWindow {
		w = c.WindowOf(w, clock, time.Time{})
		values["since"], values["until"] = tapeTimeValue(w.Since), tapeTimeValue(w.Until)
	}
	return values, nil
}

// WindowOf returns the query's window. A query with a window of its own and no given start gets the day before the end,
// the tape's end (if not zero) or now.
func (c *Canned) WindowOf(w input.Window, clock input.Clock, ended time.Time) input.Window {
	if c.OwnWindow && w.Since.IsZero() {
		end := w.Until
		if end.IsZero() && !ended.IsZero() && ended.Before(clock.Now) {
			end = ended
		}
		if end.IsZero() {
			end = clock.Now
		}
		w.Since = end.Add(-24 * time.Hour)
	}
	return w
}

// FilteredView returns the view that filters of the query apply to, "" if none do.
func (c *Canned) FilteredView() string {
	for _, f := range filtersOf {
		if strings.Contains(c.Source, "FROM "+f.view) {
			return f.view
		}
	}
	return ""
}

// filtersOf are the filters that apply to a view.
var filtersOf = []struct {
	view  string
	names []string
}{
	{Connections, []string{"exe", "user", "pid", "port", "to", "container", "outcome", "name"}},
	{"inbound", []string{"exe", "user", "pid", "port", "to", "from", "container"}},
	{"listeners", []string{"exe", "user", "pid", "port", "container"}},
	{"sockets_opened", []string{"exe", "user", "pid", "container"}},
	{"lookups", []string{"exe", "user", "pid", "container"}},
}

// FiltersOf returns the names of the filters that apply to a view.
func FiltersOf(view string) []string {
	for _, f := range filtersOf {
		if f.view == view {
			return f.names
		}
	}
	return nil
}

// read reads the text of one parameter.
func (p Param) read(text string, clock input.Clock) (format.Value, error) {
	choices := p.Choices()
	switch {
	case choices != nil:
		word, hint := format.ChooseWord(text, choices, map[string]string{
			"exe": "process", "program": "process", "command": "process", "remote": "destination", "address": "destination", "dest": "destination",
			"ip": "destination", "uid": "user",
		})
		if word == "" && isWholeNumber(text) {
			hint += "; -n " + text + " limits the rows"
		}
		if word == "" {
			return format.Value{}, input.Usagef(hint, "%s cannot be %q", strings.ToUpper(p.Name), text)
		}
		return format.TextValue(word), nil
	case p.Type == "flag":
		return format.Value{Kind: format.Integer, Int: int64(format.ZeroOrOne(text == "true"))}, nil
	case text == "" && (p.Type == "time" || p.Type == "integer" && !p.Argument):
		return format.Value{Kind: format.Null}, nil
	case p.Type == "time":
		t, err := clock.ParseTime(text, input.Since)
		return tapeTimeValue(t), err
	case p.Type == "integer":
		v := ask.ParseValue(text)
		if v.Kind != format.Integer || v.Int < 0 {
			name, hint := "--"+p.Flag(), "give a number without unit or sign, such as "+cmp.Or(p.Default, "60")
			if p.Argument {
				name = strings.ToUpper(p.Name)
			}
			if p.Argument && p.Name == "process" {
				hint = "give a pid, such as 901; conntape query recent --exe curl shows those of curl"
			}
			return format.Value{}, input.Usagef(hint, "%s takes a whole number, not %q", name, text)
		}
		return v, nil
	}
	return format.Value{Kind: format.Text, Bytes: []byte(text)}, nil
}

// tapeTimeValue returns a time as the views have it in time, NULL for none.
func tapeTimeValue(t time.Time) format.Value {
	if t.IsZero() {
		return format.Value{Kind: format.Null}
	}
	return format.Value{Kind: format.Text, Bytes: []byte(t.UTC().Format(format.TapeTime))}
}

// Has reports whether the query has a parameter of that name.
func (c *Canned) Has(name string) bool {
	return slices.ContainsFunc(c.Params, func(p Param) bool { return p.Name == name })
}
