package report

import "testing"

// Every way to write a destination that reports, lists and people have.
func TestParseRemote(t *testing.T) {
	for text, want := range map[string]remoteAsked{
		"198.51.100.66":                      {"198.51.100.66", -1},
		"198[.]51[.]100[.]66":                {"198.51.100.66", -1},
		"198.51.100[.]66:443":                {"198.51.100.66", 443},
		"198[dot]51(.)100.66[:]4443":         {"198.51.100.66", 4443},
		"198.51.100[.]0/24":                  {"198.51.100.0/24", -1},
		"2001[:]db8[:]0[:]0[:]0[:]0[:]0[:]1": {"2001:db8:0:0:0:0:0:1", -1},
		"[2001:db8::1]:22":                   {"2001:db8::1", 22},
		"[2001:db8::1]":                      {"2001:db8::1", -1},
		"www.evil[.]example":                 {"www.evil.example", -1},
		"*.evil[.]example":                   {"*.evil.example", -1},
		"443":                                {"443", -1},
		":443":                               {"443", -1},
		"/run/a[.]b":                         {"/run/a[.]b", -1}, // a path is what it is
		"@a[.]b":                             {"@a[.]b", -1},
		"docker.sock":                        {"docker.sock", -1},
	} {
		if got, err := parseRemote(text); err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", ":0", ":65536", "0", "198[.]51[.]100[.]66/33", "hxxp://198.51.100[.]66/", "[::1x]"} {
		if got, err := parseRemote(text); err == nil {
			t.Errorf("%s: %+v", text, got)
		}
	}
}
