package query

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// Every canned query has a whole header, and its parameters are those of its SQL.
func TestLibrary(t *testing.T) {
	library, err := Library()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range library {
		values, err := c.Bind(map[string]string{})
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
		if slices.Contains([]string{"sql", "list", "show", "schema"}, c.Name) {
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
	values, err := c.Bind(map[string]string{"address": "192.0.2.1", "limit": "0"})
	if err != nil || string(values["address"].Bytes) != "192.0.2.1" || values["limit"].Int != -1 {
		t.Errorf("got %v, %v", values, err)
	}
	if _, err := c.Bind(map[string]string{"address": "x", "limit": "few"}); err == nil {
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
