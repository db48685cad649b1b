package indicator

import (
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/unicode"
)

// Reads lists of the kinds of testdata/kinds and of others, as exports, feeds, firewalls, resolvers and reports write them. Each
// expectation was decided by reading the list: what a person means by it, and what must be said of the rest.
func TestReadManyLists(t *testing.T) {
	want := map[string]expectation{
		"misp_export_bom.csv":    {indicators: "198.51.100.66 198.51.100.7:8443 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa c2.evil.example inv.exe", leftOut: 4},
		"stix21_bundle.json":     {indicators: "198.51.100.66:8443 198.51.100.7 198.51.100.8 203.0.113.0/24", leftOut: 2, problems: 2},
		"otx.csv":                {indicators: "0123456789abcdef0123456789abcdef 198.51.100.66 198.51.100.7:8080 2001:db8::66 203.0.113.0/25 a.evil.example evil.example", leftOut: 2},
		"drop_v6.json":           {indicators: "2001:db8:1::/48 2001:db8:2::/47", leftOut: 1},
		"feodo_full.csv":         {indicators: "198.51.100.66:443 198.51.100.7:2222"},
		"urlhaus_text.txt":       {indicators: "198.51.100.66:41220 203.0.113.9 evil.example"},
		"threatfox.json":         {indicators: "198.51.100.66:4443 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa evil.example:8080"},
		"suricata_vars.rules":    {indicators: "198.51.100.12 198.51.100.66 198.51.100.66/32 198.51.100.7 198.51.100.8:4444 198.51.100.9:53 203.0.113.128/25 www.evil.example", leftOut: 1},
		"zeek_intel_full.dat":    {indicators: "198.51.100.66 203.0.113.0/24 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa evil.example", leftOut: 2},
		"iptables_save2.txt":     {indicators: "198.51.100.0/28 198.51.100.66/32:443 198.51.100.7:53 203.0.113.9/32", leftOut: 3, problems: 2},
		"nft_ruleset.nft":        {indicators: "198.51.100.10 198.51.100.12:443 198.51.100.13:8080 198.51.100.66 198.51.100.7 198.51.100.8:443 198.51.100.8:80 198.51.100.9 2001:db8::1 203.0.113.10 203.0.113.9", problems: 1, notes: 2},
		"ipset_save_full.txt":    {indicators: "198.51.100.66 198.51.100.7 198.51.100.8:53 198.51.100.9:8443 2001:db8:1::/48", leftOut: 5, problems: 1, notes: 2},
		"pf_table.conf":          {indicators: "198.51.100.66 198.51.100.7:443 2001:db8::/64 203.0.113.0/24", leftOut: 2},
		"hosts_adaway.txt":       {indicators: "a.evil.example ads.evil.example b.evil.example c.evil.example", leftOut: 2},
		"dnsmasq_more.conf":      {indicators: "198.51.100.7 a.evil.example c.evil.example evil.example", leftOut: 1, problems: 1},
		"unbound_more.conf":      {indicators: "a.evil.example b.evil.example evil.example", leftOut: 1, problems: 1},
		"rpz.zone":               {indicators: "198.51.100.66/32 2001:db8::1/128 203.0.113.0/24 evil.example", leftOut: 5, problems: 1},
		"excel_de.csv":           {indicators: "198.51.100.66:8443 198.51.100.7:443 203.0.113.9"},
		"excel_sep.csv":          {indicators: "198.51.100.66 203.0.113.0/24 evil.example"},
		"defanged_report.txt":    {indicators: "198.51.100.66:443 198.51.100.7 198.51.100.8 198.51.100.9 2001:db8::5 203.0.113.9 a.evil.example b.evil.example c2.evil.example evil.example", leftOut: 1},
		"ipv6_zones.txt":         {indicators: "198.51.100.66 2001:db8::1/128 2001:db8::2 2001:db8::3 2001:db8::4 64:ff9b::c633:6407 [2001:db8::5]:8443 [fe80::2]:443 fe80::1"},
		"ranges.txt":             {indicators: "192.0.2.1 192.0.2.2 198.51.100.0/25 198.51.100.200/31 198.51.100.210/31 203.0.113.5 203.0.113.6"},
		"ports_words.txt":        {indicators: "198.51.100.11:443 198.51.100.66:443 198.51.100.7:8443 198.51.100.8:80 198.51.100.9:443 443", leftOut: 1, problems: 2, notes: 1},
		"eol_comments.txt":       {indicators: "198.51.100.10 198.51.100.11 198.51.100.66 198.51.100.7 198.51.100.8 198.51.100.9 evil.example"},
		"yara.yar":               {indicators: "198.51.100.66:443", leftOut: 2, problems: 9},
		"sigma.yml":              {indicators: "198.51.100.66:443 198.51.100.7:443", leftOut: 4, problems: 11},
		"defender.csv":           {indicators: "198.51.100.66 198.51.100.7 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa evil.example", leftOut: 1},
		"utf16be_tab.tsv":        {indicators: "198.51.100.66:443"},
		"threatfox_recent.csv":   {indicators: "198.51.100.66:443 evil.example", problems: 1},
		"feodo_block.rules":      {indicators: "198.51.100.66:443 198.51.100.7:447 198.51.100.7:449 198.51.100.8:447 198.51.100.8:449"},
		"hosts_windows_crlf.txt": {indicators: "evil.example www.evil.example", leftOut: 1},
		"hpHosts_pipe.txt":       {indicators: "198.51.100.66 198.51.100.7", leftOut: 2},
		"fortinet_cli.txt":       {indicators: "198.51.100.10/31 198.51.100.66 203.0.113.0/24", leftOut: 9},
		"junos_set.txt":          {indicators: "198.51.100.66/32 198.51.100.7/32 203.0.113.0/24"},
		"checkpoint_feed.csv":    {indicators: "198.51.100.66 203.0.113.1 203.0.113.2 evil.example"},
		"greynoise.json":         {indicators: "198.51.100.66", leftOut: 1, problems: 2},
		"virustotal.json":        {indicators: "198.51.100.66 198.51.100.7 evil.example"},
		"opencti.csv":            {indicators: "198.51.100.66 2001:db8::1 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa evil.example", problems: 1},
		"talos.txt":              {indicators: "198.51.100.10 198.51.100.11 198.51.100.66 198.51.100.7 198.51.100.8 198.51.100.9 203.0.113.9", problems: 1},
		"crowdstrike.json":       {indicators: "198.51.100.66 evil.example", leftOut: 2},
		"h_ip_port_number.csv":   {indicators: "198.51.100.66:8443 198.51.100.7"},
		"h_c2.csv":               {indicators: "198.51.100.66:4782"},
		"h_ipport.csv":           {indicators: "198.51.100.66:8443"},
		"h_dst.csv":              {indicators: "198.51.100.66:443", leftOut: 1},
		"json_flat.json":         {indicators: "198.51.100.66:8443 198.51.100.7:443"},
		"json_ports.json":        {indicators: "198.51.100.66:443 198.51.100.66:80 198.51.100.7"},
		"p2p_colon.p2p":          {indicators: "198.51.100.0/24 203.0.113.0/30"},
		"dshield.txt":            {indicators: "198.51.100.0/24 203.0.113.0/24"},
		"hosts_v6.txt":           {indicators: "evil.example www.evil.example", leftOut: 4},
		"hosts_own.txt":          {indicators: "198.51.100.10 evil.example", leftOut: 4},
		"misp_flags.json":        {indicators: "198.51.100.66", leftOut: 2},
		"misp_object.json":       {indicators: "198.51.100.66:8080 evil.example:8080"},
		"misp_response.json":     {indicators: "198.51.100.66:443 evil.example:81"},
		"stix_port_first.json":   {indicators: "198.51.100.66:443"},
		"stix_src.json":          {indicators: "198.51.100.66", problems: 1},
		"stix_matches.json":      {indicators: "198.51.100.66", problems: 1, notes: 1},
		"stix_within_and.json":   {problems: 1},
		"stix_observed.json":     {indicators: "198.51.100.66", leftOut: 1},
		"stix_not_in.json":       {problems: 2},
		"utf16le_nobom.txt":      {indicators: "198.51.100.66 evil.example"},
		"latin1.csv":             {indicators: "198.51.100.66"},
		"tab_quote.tsv":          {indicators: "198.51.100.66 198.51.100.7"},
		"quote_middle.csv":       {indicators: "198.51.100.66:443 198.51.100.7:8443"},
		"label_first.txt":        {indicators: "198.51.100.66 198.51.100.7 198.51.100.8:443 evil.example", notes: 1},
		"one_line_semicolon.txt": {indicators: "198.51.100.66 198.51.100.7 198.51.100.8"},
		"one_line_or.txt":        {indicators: "198.51.100.66 198.51.100.7", leftOut: 1},
		"splunk.txt":             {indicators: "198.51.100.66:443 198.51.100.7:443"},
		"kql.txt":                {indicators: "198.51.100.66:443 198.51.100.7:443"},
		"rules_any.rules":        {indicators: "198.51.100.10 198.51.100.11 198.51.100.66 198.51.100.7", problems: 4},
		"zeek_min.dat":           {indicators: "198.51.100.0/28 198.51.100.66:443 evil.example"},
		"drop_old.txt":           {indicators: "198.51.100.0/24 203.0.113.0/25"},
		"feodo_json_null.json":   {indicators: "198.51.100.66:443 198.51.100.7 x.evil.example"},
		"range_cols.csv":         {indicators: "198.51.100.0/24"},
		"range_one_col.csv":      {indicators: "198.51.100.0/28 203.0.113.0/28"},
		"integers.csv":           {problems: 1},
		"url_with_user.txt":      {indicators: "198.51.100.66:8080 203.0.113.9.evil.example [2001:db8::1]:8443 evil.example", problems: 1},
		"onion.txt":              {indicators: "abcdefghijklmnop.onion"},
		"wild_domains.txt":       {indicators: "_dmarc.evil5.example evil.example evil2.example evil3.example evil4.example xn--bcher-kva.example"},
		"count_first.txt":        {indicators: "198.51.100.66 198.51.100.7"},
		"whois_ranges.txt":       {indicators: "198.51.100.0/24 203.0.113.0/24", problems: 1},
		"trailing_dates.txt":     {indicators: "198.51.100.66 198.51.100.7 198.51.100.8", notes: 1},
		"iptables_list.txt":      {indicators: "198.51.100.66 203.0.113.0/24:443", leftOut: 3, problems: 2},
		"everything.txt":         {indicators: "0.0.0.0 0.0.0.0/0 198.51.100.0/24 ::/0"},
		"iptables_any.txt":       {indicators: "198.51.100.66/32 198.51.100.7/32", leftOut: 2},
		"header_de.csv":          {indicators: "198.51.100.66:443", leftOut: 1},
		"ipfilter.dat":           {indicators: "198.51.100.0/24", leftOut: 1},
		"excel_from_to.csv":      {indicators: "198.51.100.0/25"},
	}
	lists, err := txtar.ParseFile("testdata/lists.txtar")
	if err != nil || len(lists.Files) != len(want) {
		t.Fatalf("%d lists and %d expectations, %v", len(lists.Files), len(want), err)
	}
	for _, list := range lists.Files {
		r, err := Read(strings.NewReader(encodedAs(t, list.Name, string(list.Data))))
		if is, ok := want[list.Name]; err != nil || !ok || got(r) != is {
			t.Errorf("%s, %v: %+v, want %+v\n%s", list.Name, err, got(r), is, told(r))
		}
	}
}

// encodedAs writes a list in the encoding, and with the ends of lines, that its name has.
func encodedAs(t *testing.T, name, text string) string {
	t.Helper()
	var err error
	switch {
	case strings.Contains(name, "crlf"):
		text = strings.ReplaceAll(text, "\n", "\r\n")
	case strings.Contains(name, "utf16be"):
		text, err = unicode.UTF16(unicode.BigEndian, unicode.UseBOM).NewEncoder().String(text)
	case strings.Contains(name, "utf16le_nobom"):
		text, err = unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM).NewEncoder().String(text)
	case strings.Contains(name, "latin1"):
		text, err = charmap.ISO8859_1.NewEncoder().String(text)
	}
	if err != nil {
		t.Fatal(err)
	}
	return text
}
