package report

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/input"
)

// Every canned query has a whole header, and its parameters are those of its SQL.
func TestLibrary(t *testing.T) {
	library, err := Library()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range library {
		given := make(map[string]string)
		for i, word := range strings.Fields(c.Examples[0])[3:] {
			if i < len(c.Params) && c.Params[i].Argument && !strings.HasPrefix(word, "--") {
				given[c.Params[i].Name] = word
			}
		}
		values, err := c.Bind(given, input.Clock{}, input.Window{Since: time.Unix(1, 0)})
		if err != nil {
			t.Errorf("%s: defaults: %v", c.Name, err)
		}
		for name := range values {
			if !strings.Contains(c.Source, ":"+name) {
				t.Errorf("%s: parameter %s is not in its SQL", c.Name, name)
			}
		}
		for _, example := range c.Examples {
			if !strings.HasPrefix(example, "conntape query "+c.Name) {
				t.Errorf("%s: example %q", c.Name, example)
			}
		}
		if slices.Contains([]string{"sql", "list", "show", "schema", "match", "shell"}, c.Name) {
			t.Errorf("the name %s is taken", c.Name)
		}
	}
}

func TestReadLibrary(t *testing.T) {
	const whole = `-- purpose: Everything that touched an address.
-- param: limit integer = 10 | how many
-- arg: address text | the address
-- column: time | when
-- note: First.
-- note: Second.
-- false-positives: None.
-- example: conntape query who 192.0.2.1
SELECT time FROM connections WHERE remote_address = :address LIMIT :limit
`
	library, err := readLibrary(fstest.MapFS{"q/who.sql": {Data: []byte(whole)}}, "q")
	if err != nil {
		t.Fatal(err)
	}
	c := library[0]
	if c.Name != "who" || len(c.Notes) != 2 || c.FalsePositives != "None." || !c.Params[0].Argument || c.Params[1].Default != "10" {
		t.Errorf("got %+v", c)
	}
	values, err := c.Bind(map[string]string{"address": "192.0.2.1", "limit": "0"}, input.Clock{}, input.Window{})
	if err != nil || string(values["address"].Bytes) != "192.0.2.1" || values["limit"].Int != -1 {
		t.Errorf("got %v, %v", values, err)
	}
	if _, err := c.Bind(map[string]string{"address": "x", "limit": "few"}, input.Clock{}, input.Window{}); err == nil {
		t.Error("a limit that is no number is taken")
	}
	for name, text := range map[string]string{
		"no purpose":  strings.Replace(whole, "purpose", "note", 1),
		"no example":  strings.Replace(whole, "-- example: conntape query who 192.0.2.1\n", "", 1),
		"unknown key": strings.Replace(whole, "-- note: First.", "-- nota: First.", 1),
		"no key":      strings.Replace(whole, "-- note: First.", "-- First.", 1),
		"bad param":   strings.Replace(whole, "integer", "float", 1),
	} {
		if _, err := readLibrary(fstest.MapFS{"q/who.sql": {Data: []byte(text)}}, "q"); err == nil {
			t.Errorf("%s: it is taken", name)
		}
	}
}

func TestBindTypes(t *testing.T) {
	const header = `-- purpose: All types.
-- window: parameters
-- arg: by one|two = two | which
-- arg: pid integer | whose
-- param: port integer | to where
-- param: base_since time | since when
-- param: all flag | everything
-- column: x | y
-- example: conntape query types one 7 --since 1h
`
	library, err := readLibrary(fstest.MapFS{"q/types.sql": {Data: []byte(header)}}, "q")
	if err != nil {
		t.Fatal(err)
	}
	c, clock := library[0], input.Clock{Now: time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC), Zone: time.UTC}
	hour := input.Window{Since: clock.Now.Add(-time.Hour)}
	if c.Params[3].Flag() != "base-since" || !c.OwnWindow {
		t.Errorf("got %+v", c)
	}
	values, err := c.Bind(map[string]string{"pid": "7", "base_since": "2h", "all": "true"}, clock, hour)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"by": "two", "pid": "7", "port": "", "all": "1",
		"base_since": "2026-07-01T10:00:00.000000000Z", "since": "2026-07-01T11:00:00.000000000Z", "until": ""} {
		if got := string(values[name].AppendPlain(nil, false)); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	for _, bad := range []map[string]string{{}, {"pid": "x"}, {"pid": "-1"}, {"pid": "7", "by": "tow"}, {"pid": "7", "base_since": "soon"}} {
		if _, err := c.Bind(bad, clock, hour); !errors.Is(err, input.ErrUsage) {
			t.Errorf("%v: got %v", bad, err)
		}
	}
	if v, err := c.Bind(map[string]string{"pid": "7"}, clock, input.Window{}); err != nil || string(v["since"].Bytes) != clock.Now.Add(-24*time.Hour).Format(format.TapeTime) {
		t.Errorf("without a window: got %v", err)
	}
}
