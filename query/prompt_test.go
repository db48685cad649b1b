package query

import (
	"fmt"
	"strings"
	"testing"
)

func TestIsComplete(t *testing.T) {
	for sql, want := range map[string]bool{
		"select 1;": true, "select 1; -- done": true, "select 1 ; \n": true, "select ';'": false, "select ';';": true, "select 1": false,
		"select 'it''s';": true, `select "a;`: false, "select /* ; */ 1": false, "select /* ;": false, "select 1; /* x */": true,
		"-- ;": false, "": false, ";": true, "select [a;b": false, "select [a;b];": true, "select 1; select 2": false, "select `;`;": true,
	} {
		if got := IsComplete(sql); got != want {
			t.Errorf("%q: %v", sql, got)
		}
	}
}

func TestComplete(t *testing.T) {
	c := NewCompleter(".tables", "who", "first-seen")
	c.After(".ask", []string{"failed", "fanout", "first-seen", "who"})
	c.After(".ask first-seen", []string{"--since", "--all"})
	c.After("who", []string{"--port"})
	for line, want := range map[string]string{
		"select remote_a| from connections":     "remote_address",
		"select remote_p":                       "remote_port",
		"select cidr_m":                         "cidr_match(",
		"select * from con":                     "container connects connections contacts",
		"select caus| from gaps":                "cause",
		"select back| from segments":            "backend",
		"sel":                                   "select",
		".ta":                                   ".tables",
		".ask fi":                               "first-seen",
		".ask first-s":                          "first-seen",
		".ask ":                                 "failed fanout first-seen who",
		".ask first-seen --s":                   "--since",
		".ask first-seen --since 2h --a":        "--all",
		"who 10.0.0.1 --p":                      "--port",
		"wh":                                    "where when who",
		"select AGO":                            "ago(",
		"select ":                               "",
		"select zzz":                            "",
		"select c.remote_a| from connections c": "remote_address",
	} {
		before, after, _ := strings.Cut(line, "|")
		head, got, tail := c.Complete(before+after, len(before))
		if fmt.Sprint(strings.Join(got, " ")) != want || tail != after || !strings.HasPrefix(before, head) {
			t.Errorf("%q: %q, %v, %q", line, head, got, tail)
		}
	}
}
