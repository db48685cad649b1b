package format

import "testing"

// A cell that is too wide keeps what tells it from others: an address its port and both ends, a path its last element, a list its first
// item. Expectations are counted by hand; no cell is wider than asked for.
func TestShorten(t *testing.T) {
	for _, c := range []struct {
		cell  string
		width int
		want  string
	}{
		{"198.51.100.66:443", 17, "198.51.100.66:443"},
		{"198.51.100.66:443", 16, "198.….100.66:443"},
		{"198.51.100.66:443", 15, "198.51.….66:443"},
		{"198.51.100.66:443", 12, "198.….66:443"},
		{"198.51.100.66:443", 11, "198….66:443"},
		{"255.255.255.255:65535", 15, "255.….255:65535"},
		{"255.255.255.255:65535", 9, "2…5:65535"},
		{"198.51.100.66", 10, "198.….66"},
		{"10.0.5.1 22", 10, "10.….1 22"},
		{"[2001:db8:bad::7]:443", 16, "[2001:…::7]:443"},
		{"[2001:db8:bad::7]:443", 18, "[2001:db8:…:7]:443"},
		{"[2001:db8:1:2:3:4:5:6789]:65535", 19, "[2001:…:6789]:65535"},
		{"[2001:db8:1:2:3:4:5:6789]:65535", 15, "[200…789]:65535"},
		{"2001:db8:1:2:3:4:5:6789", 12, "2001:…:6789"},
		{"198.51.100.7:4444 (1), 10.0.7.7:6379 (1)", 22, "198.51.100.7:4444 (1)…"},
		{"198.51.100.7:4444 (1), 10.0.7.7:6379 (1)", 13, "198.….7:4444"},
		{"/run/docker.sock (1), 10.0.7.7:6379 (1)", 14, "…/docker.sock"},
		{"/usr/lib/x/python3.12", 12, "…/python3.12"},
		{"/tmp/.x/kworker", 12, "…/.x/kworker"},
		{"/tmp/x (deleted)", 12, "…x (deleted)"},
		{"/var/tmp/dropper (deleted)", 16, "…/dropper (dele…"},
		{"/run/docker.sock", 11, "docker.sock"},
		{"/run/docker.sock", 10, "…cker.sock"},
		{"cdn.static.evil.example:8443", 22, "cdn.….example:8443"},
		{"established", 8, "establi…"},
		{"evil.example:443", 8, "ev…e:443"},
	} {
		w := &tableWriter{columns: []string{"remote"}, natural: []int{len(c.cell)}}
		got := w.shorten(c.cell, 0, c.width)
		if got != c.want || displayWidth(got) > c.width {
			t.Errorf("%q at %d is %q, want %q", c.cell, c.width, got, c.want)
		}
	}
}
