package ask

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/conntape/conntape/query/input"
)

func TestFunctions(t *testing.T) {
	conn := memory(t)
	paris, err := input.ParseZone("Europe/Paris")
	if err != nil {
		t.Fatal(err)
	}
	clock := input.Clock{Now: time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC), Zone: paris}
	for _, c := range []struct{ sql, want string }{
		{"cidr_match('10.1.2.3', '10.0.0.0/8')", "1"},
		{"cidr_match('11.1.2.3', '10.0.0.0/8')", "0"},
		{"cidr_match('10.1.2.3', '10.9.9.9/8')", "1"}, // bits beyond the length
		{"cidr_match('10.1.2.3', '10.1.2.3')", "1"},
		{"cidr_match('::ffff:10.1.2.3', '10.0.0.0/8')", "1"},
		{"cidr_match('10.1.2.3', '::ffff:10.0.0.0/104')", "1"},
		{"cidr_match('10.1.2.3', '::/0')", "0"},
		{"cidr_match('2001:db8::1', '2001:DB8:0::/32')", "1"},
		{"cidr_match('fe80::1%eth0', 'fe80::/10')", "1"},
		{"cidr_match('fe80::1%3', 'fe80::1')", "1"},
		{"cidr_match('/run/docker.sock', '0.0.0.0/0')", ""},
		{"cidr_match('@10.0.0.1', '0.0.0.0/0')", ""},
		{"cidr_match(NULL, '0.0.0.0/0')", ""},
		{"cidr_match('10.0.0.1', NULL)", ""},
		{"is_private('192.168.1.1')", "1"},
		{"is_private('172.31.255.255')", "1"},
		{"is_private('172.32.0.0')", "0"},
		{"is_private('8.8.8.8')", "0"},
		{"is_private('::ffff:8.8.8.8')", "0"},
		{"is_private('::1')", "1"},
		{"is_private('fd00::1')", "1"},
		{"is_private('2001:db8::1')", "0"},
		{"is_private('/run/x')", ""},
		{"is_private(NULL)", ""},
		{"ip_int('1.2.3.4')", "16909060"},
		{"ip_int('::ffff:1.2.3.4')", "16909060"},
		{"ip_int('::2')", "x'00000000000000000000000000000002'"},
		{"ip_int('nobody')", ""},
		{"ip_text(16909060)", "1.2.3.4"},
		{"ip_text(ip_int('2001:db8::1'))", "2001:db8::1"},
		{"ip_text(ip_int('255.255.255.255'))", "255.255.255.255"},
		{"ip_text(NULL)", ""},
		{"ip_text(x'01')", ""},
		{"port_name(443, 'tcp')", "https"},
		{"port_name(443, 'UDP')", "quic"},
		{"port_name(53, 'udp')", "dns"},
		{"port_name(22, NULL)", "ssh"},
		{"port_name(4, 'tcp')", ""},
		{"port_name(NULL, 'tcp')", ""},
		{"ago('2h')", "2026-07-01T10:00:00.000000000Z"},
		{"ago('1d12h')", "2026-06-30T00:00:00.000000000Z"},
		{"ago(NULL)", ""},
		{"ns('2026-07-01T12:00:00.000000001Z')", "1782907200000000001"},
		{"ns('2026-07-01 14:00')", "1782907200000000000"}, // in the zone of the clock
		{"ns(1782907200000000001)", "1782907200000000001"},
		{"ns('2h') = ns(ago('2h'))", "1"},
		{"ns(NULL)", ""},
		{"time('2026-07-01T12:00:00Z', '+1 hours')", "13:00:00"}, // SQLite's own
	} {
		got, _, err := ask(t, conn, Request{SQL: "select " + c.sql + " as x, 'end' as y", Clock: clock})
		if want := "x,y\n" + c.want + ",end\n"; err != nil || got != want {
			t.Errorf("%s: got %q, %v", c.sql, got, err)
		}
	}
	// What the asker wrote wrong is never taken for "no".
	for _, sql := range []string{"cidr_match('10.0.0.1', '10.0.0.0/99')", "cidr_match('/run/x', 'ten')", "ip_text(-1)", "ip_text(4294967296)",
		"ago('soon')", "ago('')", "ns('tomorrow')", "ns('2026-02-30')"} {
		if _, _, err := ask(t, conn, Request{SQL: "select " + sql, Clock: clock}); !errors.Is(err, input.ErrUsage) || !strings.HasPrefix(err.Error(), "the SQL is wrong: ") {
			t.Errorf("%s: got %v", sql, err)
		}
	}
}

// A constant range is parsed once, and changes with the row where it is none.
func TestCIDRMatchRows(t *testing.T) {
	conn := memory(t)
	got, _, err := ask(t, conn, Request{SQL: `with a(x) as (values ('10.0.0.1'), ('10.1.0.1'), ('nobody'), ('10.0.0.9'))
		select sum(cidr_match(x, '10.0.0.0/24')) one, sum(cidr_match('10.0.0.1', x || '/24')) two from a where x <> 'nobody'`})
	if err != nil || got != "one,two\n2,2\n" {
		t.Errorf("got %q, %v", got, err)
	}
}

// Every address of a range begins with the start of the range, however it is
// written, and has one plain form.
func TestTextStart(t *testing.T) {
	for cidr, want := range map[string]string{
		"10.9.8.0/24": "10.9.8.", "10.9.8.7": "10.9.8.7", "10.9.8.0/20": "10.9.", "0.0.0.0/0": "", "10.0.0.0/7": "",
		"2001:db8::/32": "2001:db8:", "2001:db8:1:2::/64": "2001:db8:1:2:", "2001:0:1::/48": "2001:", "::/0": "", "fe80::/10": "", "::ffff:10.9.8.0/120": "10.9.8.",
		"2001:db8::1": "2001:db8:",
	} {
		p, ok := ParsePrefix(cidr)
		if got := TextStart(p); !ok || got != want {
			t.Errorf("%s begins with %q, want %q", cidr, got, want)
		}
		for a, n := p.Addr(), 0; n < 5000 && p.Contains(a); a, n = a.Next(), n+1 {
			if !strings.HasPrefix(a.String(), TextStart(p)) {
				t.Fatalf("%s of %s does not begin with %q", a, cidr, TextStart(p))
			}
		}
	}
}
