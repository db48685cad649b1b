package indicator

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.1": "address 192.0.2.1", "::ffff:192.0.2.1": "address 192.0.2.1", "2001:DB8:0::1": "address 2001:db8::1",
		"fe80::1%eth0": "address fe80::1", "[2001:db8::1]": "address 2001:db8::1", " 192.0.2.1\t": "address 192.0.2.1",
		"192.0.2.1:4444": "address 192.0.2.1:4444", "[2001:db8::1]:443": "address [2001:db8::1]:443",
		"192.0.2.7/24": "range 192.0.2.0/24", "2001:db8::/32": "range 2001:db8::/32", "::ffff:10.0.0.0/104": "range 10.0.0.0/8",
		"4444": "port 4444", ":4444": "port 4444", "tcp/4444": "port 4444", "53/udp": "port 53", "port 8": "port 8",
		"evil.example": "name evil.example", "*.Evil.Example.": "name evil.example", "c2.evil.example:8443": "name c2.evil.example:8443",
		"evil[.]example": "name evil.example", "192[.]0[.]2[.]1": "address 192.0.2.1", "hxxps://evil[.]example/x?y": "name evil.example",
		"http://192.0.2.1:8080/a": "address 192.0.2.1:8080", "http://[2001:db8::1]/": "address 2001:db8::1",
		"/tmp/.x/kworker": "path /tmp/.x/kworker", "@abstract": "path @abstract", "dropper.exe": "name dropper.exe",
		"D41D8CD98F00B204E9800998ECF8427E": "hash d41d8cd98f00b204e9800998ecf8427e", strings.Repeat("aB", 32): "hash " + strings.Repeat("ab", 32),
	} {
		i, ok := Parse(text)
		if !ok || fmt.Sprint(i.Kind, " ", i) != want {
			t.Errorf("%q is %v, %v, want %s", text, i, ok, want)
		}
	}
	for _, text := range []string{"", "hello", "0", "65536", "-1", "1.2.3", "256.1.1.1", "192.0.2.1/33", "a..b", "evil.example:0", "http://", "two words.example",
		"1.2.3.4.5", "zz" + strings.Repeat("a", 30), "-x.example", "x\x00.example", "@", strings.Repeat("a.", 200) + "example", "192.0.2.1:99999", "http://evil.example:0/"} {
		if i, ok := Parse(text); ok {
			t.Errorf("%q is taken for %s %s", text, i.Kind, i)
		}
	}
}

// set reads a list that must have no problem.
func set(t *testing.T, text string) *Set {
	t.Helper()
	r, err := Read(strings.NewReader(text))
	if err != nil || len(r.Problems) > 0 {
		t.Fatalf("%q: %v, %v", text, err, r.Problems)
	}
	return &r.Set
}

func TestLookUp(t *testing.T) {
	s := set(t, "10.0.0.0/8\n10.1.0.0/16\n10.1.2.3\n10.1.2.3:22\n2001:db8::/32\n4444\nevil.example\ntool.sh\n/tmp/x\n")
	addresses := func(text string, port uint16) string {
		return fmt.Sprint(s.ByAddress(netip.MustParseAddr(text), port))
	}
	for got, want := range map[string]string{
		addresses("10.1.2.3", 80):                 "[10.1.2.3 10.1.0.0/16 10.0.0.0/8]",
		addresses("10.1.2.3", 22):                 "[10.1.2.3 10.1.2.3:22 10.1.0.0/16 10.0.0.0/8]",
		addresses("::ffff:10.9.9.9", 4444):        "[10.0.0.0/8 4444]",
		addresses("2001:db8::9%eth0", 0):          "[2001:db8::/32]",
		addresses("11.0.0.1", 0):                  "[]",
		fmt.Sprint(s.ByHost("a.b.EVIL.example.")): "[evil.example]",
		fmt.Sprint(s.ByHost("notevil.example")):   "[]",
		fmt.Sprint(s.ByHost("example")):           "[]",
		fmt.Sprint(s.ByFile("TOOL.sh")):           "[tool.sh]",
		fmt.Sprint(s.ByPath("/tmp/x")):            "[/tmp/x]",
		fmt.Sprint(s.ByPath("/tmp/x/")):           "[]",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if n := s.Len(); n != 9 || s.Count(Address) != 2 || s.Count(Range) != 3 || s.Count(Hash) != 0 {
		t.Errorf("%d indicators", n)
	}
	if found := new(Set).ByAddress(netip.MustParseAddr("10.1.2.3"), 22); found != nil {
		t.Errorf("an empty set has %v", found)
	}
}
