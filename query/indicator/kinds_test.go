package indicator

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// expectation is the expected reading of a list.
type expectation struct {
	indicators string // sorted, separated by spaces
	leftOut    int
	problems   int
	notes      int
}

// readsAs reads lists and compares with what is expected.
func readsAs(t *testing.T, lists map[string]expectation) {
	t.Helper()
	for text, want := range lists {
		r, err := Read(strings.NewReader(text))
		if err != nil || got(r) != want {
			t.Errorf("%q, %v: %+v, want %+v\n%s", text, err, got(r), want, told(r))
		}
	}
}

// got returns a reading in the form of an expectation.
func got(r *Reading) expectation {
	var list []string
	for _, of := range r.Set.ranges.All() {
		for _, i := range of {
			list = append(list, i.String())
		}
	}
	for _, words := range r.Set.words {
		for _, of := range words {
			for _, i := range of {
				list = append(list, i.String())
			}
		}
	}
	slices.Sort(list)
	notes := 0
	for _, n := range r.Notes {
		notes += n
	}
	return expectation{strings.Join(list, " "), r.leftOut, len(r.Problems), notes}
}

// Reads the lists of testdata/kinds. A port is never read without its address, a hosts file never gives the blocking
// address (0.0.0.0), and everything that is not read is reported.
func TestReadKinds(t *testing.T) {
	want := map[string]expectation{
		"one_line_commas.txt":      {indicators: "198.51.100.1 198.51.100.2 198.51.100.66"},
		"report_line.txt":          {indicators: "198.51.100.1 198.51.100.2 198.51.100.66"},
		"et_compromised.rules":     {indicators: "198.51.100.1 198.51.100.2 198.51.100.66"},
		"quote_in_description.csv": {indicators: "198.51.100.1 198.51.100.66 198.51.100.7"},
		"h_ip_address_port.csv":    {indicators: "198.51.100.66:8443"},
		"excel_semicolon.csv":      {indicators: "198.51.100.66:8443"},
		"dshield_block.txt":        {indicators: "198.51.100.0/24 203.0.113.0/24"},
		"h_iprange.csv":            {indicators: "198.51.100.0/24"},
		"iblocklist.p2p":           {indicators: "198.51.100.0/24 203.0.113.0/24"},
		"hosts_loopback.txt":       {indicators: "another-bad.example bad-domain.example"},
		"hosts_zero.txt":           {indicators: "another-bad.example bad-domain.example", leftOut: 9},
		"plain_comma_label.txt":    {indicators: "198.51.100.66 198.51.100.7"},
		"zeek_intel.dat":           {indicators: "198.51.100.0/24 198.51.100.66 evil.example"},
		"drop_v4.json":             {indicators: "198.51.100.0/24 203.0.113.0/24", leftOut: 1},
		"feodo.json":               {indicators: "198.51.100.66:443"},
		"misp_ipport_only.json":    {indicators: "203.0.113.9:443"},
		"misp.csv":                 {indicators: "198.51.100.66", leftOut: 4},
		"h_type_value.csv":         {indicators: "198.51.100.66 4444", leftOut: 2},
		"misp_string_flags.json":   {indicators: "198.51.100.66 198.51.100.7"},
		"stix_parens.json":         {indicators: "198.51.100.66 198.51.100.99"},
		"stix_within.json":         {indicators: "198.51.100.66", notes: 1},
		"stix_array.json":          {indicators: "198.51.100.66"},
		"stix_or_email.json":       {indicators: "198.51.100.66", problems: 1},
		"stix_and_resolves.json":   {indicators: "198.51.100.66 evil.example", notes: 1},
		"source_first.csv":         {indicators: "198.51.100.66", leftOut: 1},
		"header_destination.csv":   {indicators: "198.51.100.66:443", leftOut: 1},
		"utf16le_crlf.txt":         {indicators: "198.51.100.66 198.51.100.7"},
		"defanged.txt":             {indicators: "198.51.100.0/24 198.51.100.66 198.51.100.66:443 2001:db8::1 evil.example www.evil.example"},
	}
	files, err := filepath.Glob("testdata/kinds/*")
	if err != nil || len(files) != len(want) {
		t.Fatalf("%d lists and %d expectations, %v", len(files), len(want), err)
	}
	for _, name := range files {
		file, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		r, err := Read(file)
		file.Close()
		if err != nil || got(r) != want[filepath.Base(name)] {
			t.Errorf("%s, %v: %+v\n%s", name, err, got(r), told(r))
		}
	}
}

// More lists of these and other kinds.
func TestReadMoreKinds(t *testing.T) {
	readsAs(t, map[string]expectation{
		// Ports in pairs.
		"198.51.100.66,443\n198.51.100.7,8443,Emotet":                              {indicators: "198.51.100.66:443 198.51.100.7:8443", notes: 2},
		"198.51.100.66 443":                                                        {indicators: "198.51.100.66:443", notes: 1},
		"198.51.100.66|443":                                                        {indicators: "198.51.100.66:443", notes: 1},
		"198.51.100.66 (TCP/443)":                                                  {indicators: "198.51.100.66:443"},
		"198.51.100.66 on ports 80, 443":                                           {indicators: "198.51.100.66:443 198.51.100.66:80"},
		"tcp://198.51.100.66:443":                                                  {indicators: "198.51.100.66:443"},
		"198.51.100.66:99999":                                                      {problems: 1},
		"198.51.100.66 port 99999":                                                 {problems: 1},
		"ip,count\n198.51.100.66,443":                                              {indicators: "198.51.100.66"},
		"ip,port\n,443":                                                            {problems: 1},
		"ip,port\n198.51.100.66,80-90":                                             {problems: 1},
		"ip,ports\n198.51.100.66,\"80,443\"":                                       {indicators: "198.51.100.66:443 198.51.100.66:80"},
		"domain,ip,port\nevil.example,198.51.100.66,443":                           {indicators: "198.51.100.66:443 evil.example:443"},
		"dstIP\tdstPort\n198.51.100.66\t443":                                       {indicators: "198.51.100.66:443"},
		"srcip;srcport;dstip;dstport\n10.0.0.1;5555;198.51.100.66;443":             {indicators: "198.51.100.66:443", leftOut: 1},
		"#fields\tid.orig_h\tid.resp_h\tid.resp_p\n10.0.0.1\t198.51.100.66\t443":   {indicators: "198.51.100.66:443", leftOut: 1},
		"# \"first_seen\",\"dst_ip\",\"dst_port\"\n\"2026\",\"198.51.100.66\",443": {indicators: "198.51.100.66:443"},
		"table <bad> { 198.51.100.66, 203.0.113.0/24, !203.0.113.9 }":              {problems: 1},
		`{"prefixes": [{"ip_prefix": "198.51.100.0/24", "network_border_group": "eu-west-1"}]}`: {indicators: "198.51.100.0/24"},
		// A number after an address that nothing names.
		"198.51.100.66,12\n198.51.100.7,443":                                  {problems: 2},                                                                 // no list of ports has 12
		"198.51.100.66,95\n198.51.100.7,80\n203.0.113.9,100\n203.0.113.10,40": {indicators: "198.51.100.66 198.51.100.7 203.0.113.10 203.0.113.9", notes: 4}, // scores
		"198.51.100.66\t9\n198.51.100.7\t3\n203.0.113.9\t7":                   {indicators: "198.51.100.66 198.51.100.7 203.0.113.9", notes: 3},              // counts
		"198.51.100.66,801\n198.51.100.7,71233":                               {indicators: "198.51.100.66 198.51.100.7", notes: 1},                          // counts
		"198.51.100.66,2026\n198.51.100.7,2025":                               {problems: 2},                                                                 // years
		"198.51.100.66,20260701\n198.51.100.7,20260702":                       {indicators: "198.51.100.66 198.51.100.7"},                                    // dates
		"198.51.100.66,2026-07-01\n198.51.100.7,2026-07-02":                   {indicators: "198.51.100.66 198.51.100.7"},
		"198.51.100.66,16509\n198.51.100.7,13335":                             {problems: 2}, // networks
		"198.51.100.66,AS16509\n198.51.100.7,AS13335":                         {indicators: "198.51.100.66 198.51.100.7"},
		"198.51.100.66,16509\n198.51.100.7,396982":                            {indicators: "198.51.100.66 198.51.100.7", notes: 1},
		"198.51.100.66,US\n198.51.100.7,DE":                                   {indicators: "198.51.100.66 198.51.100.7"},
		"198.51.100.66,0.95\n198.51.100.7,1":                                  {indicators: "198.51.100.66 198.51.100.7", notes: 1},
		"198.51.100.66,443\n198.51.100.7,8080\n203.0.113.9,51234":             {indicators: "198.51.100.66:443 198.51.100.7:8080 203.0.113.9:51234", notes: 3},
		"198.51.100.66,447\n198.51.100.7,449\n203.0.113.9,995":                {indicators: "198.51.100.66:447 198.51.100.7:449 203.0.113.9:995", notes: 3},
		"198.51.100.66,:95\n198.51.100.7,tcp/80":                              {indicators: "198.51.100.66:95 198.51.100.7:80", notes: 1},
		`{"198.51.100.66": 95, "198.51.100.7": 40, "203.0.113.9": 77}`:        {indicators: "198.51.100.66 198.51.100.7 203.0.113.9", notes: 3},
		"22, 4444":         {indicators: "22 4444"},
		"1,2,blue":         {problems: 1},
		"port\n4444":       {indicators: "4444"},
		`["4444", 443]`:    {problems: 2},
		`[{"port": 4444}]`: {problems: 1},
		`{"198.51.100.66": {"port": 443}, "198.51.100.7": 22}`:                                    {indicators: "198.51.100.66:443 198.51.100.7:22", notes: 1},
		`{"destination": {"ip": "198.51.100.66", "port": 443}, "source": {"ip": "10.0.0.5"}}`:     {indicators: "198.51.100.66:443", leftOut: 1},
		`{"7": [{"ioc_value": "198.51.100.66:443", "ioc_type": "ip:port", "threat_type": "c2"}]}`: {indicators: "198.51.100.66:443"},
		"ioc_value,ioc_type,port\nevil.example,domain,8443":                                       {indicators: "evil.example:8443"},
		// Ranges.
		"198.51.100.10-12":                                {indicators: "198.51.100.10/31 198.51.100.12"},
		"198.51.100.0 - 198.51.100.255":                   {indicators: "198.51.100.0/24"},
		"198.51.100.*":                                    {indicators: "198.51.100.0/24"},
		"*.*.*.*":                                         {problems: 1},
		"198.51.100.0/255.255.255.0":                      {indicators: "198.51.100.0/24"},
		"198.51.100.0 255.255.255.0":                      {indicators: "198.51.100.0/24"},
		"198.51.100.0,198.51.100.255,24,17":               {indicators: "198.51.100.0/24"},
		"network,mask\n198.51.100.0,24":                   {indicators: "198.51.100.0/24"},
		"network,netmask\n198.51.100.0,255.0.255.0":       {problems: 1},
		"start,end\n198.51.100.9,198.51.100.2":            {problems: 1},
		"198.051.100.000 - 198.051.100.255 , 100 , x":     {indicators: "198.51.100.0/24"},
		"198.051.100.000 - 198.051.100.255 , 200 , x":     {leftOut: 1},
		"from 10.0.0.9 to 198.51.100.66":                  {indicators: "10.0.0.9 198.51.100.66"},
		"10.0.0.9 - 198.51.100.66 was seen":               {indicators: "10.0.0.9 198.51.100.66"},
		"198.51.100.66/33":                                {problems: 1},
		"198.51.100.300":                                  {problems: 1},
		"A: 198.51.100.66, 198.51.100.300 and more":       {indicators: "198.51.100.66", problems: 1},
		`{"prefixes": [{"ipv4Prefix": "198.51.100.0/24"}`: {indicators: "198.51.100.0/24", problems: 1},
		// Blocklists of other programs.
		"-A INPUT -s 198.51.100.66 -p tcp --dport 443 -j DROP": {indicators: "198.51.100.66:443"},
		"deny 198.51.100.66;":                                    {indicators: "198.51.100.66"},
		"address=/evil.example/0.0.0.0":                          {indicators: "evil.example"},
		"||evil.example^\n@@||good.example^\n! a comment":        {indicators: "evil.example", leftOut: 1},
		"127.0.0.1 a.example b.example # both\n::1 ip6-loopback": {indicators: "a.example b.example", leftOut: 1},
		// Rules.
		`alert tcp $HOME_NET any -> [198.51.100.66,203.0.113.0/24] [80,443] (msg:"c2"; sid:2;)`:     {indicators: "198.51.100.66:443 198.51.100.66:80 203.0.113.0/24:443 203.0.113.0/24:80"},
		`alert tcp any any -> [198.51.100.0/24,!198.51.100.9] any (sid:3;)`:                         {problems: 1},
		`alert tcp any any -> 198.51.100.66 1024: (sid:4;)`:                                         {problems: 1},
		`alert tcp any any -> any 4444 (sid:6;)`:                                                    {problems: 1},
		`alert dns any any -> any any (msg:"d"; dns.query; content:"evil.example"; nocase; sid:5;)`: {indicators: "evil.example"},
		// STIX.
		stix("[ipv4-addr:value = '198.51.100.66'] AND [ipv4-addr:value = '198.51.100.7'] WITHIN 5 SECONDS"):                                              {problems: 1},
		stix("[ipv4-addr:value = '198.51.100.66' AND email-addr:value = 'a@b.example']"):                                                                 {problems: 1},
		stix("[ipv4-addr:value = '198.51.100.66' OR domain-name:value LIKE '%.example']"):                                                                {indicators: "198.51.100.66", problems: 1},
		stix("[NOT ipv4-addr:value = '198.51.100.66']"):                                                                                                  {problems: 1},
		stix("[network-traffic:dst_ref.value = '198.51.100.66' AND network-traffic:dst_port IN (80, 443)] REPEATS 5 TIMES"):                              {indicators: "198.51.100.66:443 198.51.100.66:80", notes: 1},
		stix("(([ipv4-addr:value = '198.51.100.66']) OR [ipv4-addr:value = '198.51.100.7']) START t'2026-01-01T00:00:00Z' STOP t'2026-02-01T00:00:00Z'"): {indicators: "198.51.100.66 198.51.100.7", notes: 1},
		// MISP, where an object's port is never alone.
		`{"Event": {"Object": [{"Attribute": [{"type": "port", "value": "443", "to_ids": true}, {"type": "ip-dst", "value": "198.51.100.66", "to_ids": false}]}]}}`: {leftOut: 1},
		`{"Event": {"Object": [{"Attribute": [{"type": "port", "value": "443", "to_ids": false}, {"type": "ip-dst", "value": "198.51.100.66"}]}]}}`:                 {indicators: "198.51.100.66:443"},
		`{"Event": {"Object": [{"Attribute": [{"type": "port", "value": "443"}]}]}}`:                                                                                {leftOut: 1},
		// OpenIOC.
		openIOC("OR", "PortItem/remoteIP=198.51.100.66", "Network/DNS=evil.example", "RegistryItem/Path=HKLM"): {indicators: "198.51.100.66 evil.example", problems: 1},
		openIOC("AND", "PortItem/remoteIP=198.51.100.66", "PortItem/remotePort=443"):                           {indicators: "198.51.100.66:443"},
		openIOC("AND", "PortItem/remoteIP=198.51.100.66", "ProcessItem/path=/tmp/x"):                           {problems: 1},
		// Text of any form.
		"198.51.100.66\r198.51.100.7\r":                        {indicators: "198.51.100.66 198.51.100.7"},
		"\xfe\xff\x00:\x00:\x002\x00\n":                        {indicators: "::2"},
		"ip,note\n198.51.100.66,\"two\nlines\"\n198.51.100.7,": {indicators: "198.51.100.66 198.51.100.7"},
		"ip,note\n198.51.100.66,\"one\n198.51.100.7,\"two":     {indicators: "198.51.100.66 198.51.100.7"},
		"\x1f\x8b\x08\x00":                                     {problems: 1},
		"type,value\nemail,evil.example\nC2,198.51.100.66":     {indicators: "198.51.100.66", leftOut: 1},
	})
}

// stix returns a bundle of one indicator.
func stix(pattern string) string {
	return fmt.Sprintf(`{"type": "bundle", "objects": [{"type": "indicator", "pattern_type": "stix", "pattern": %q}]}`, pattern)
}

// openIOC returns an indicator of items, each search=content.
func openIOC(operator string, items ...string) string {
	var b strings.Builder
	for _, item := range items {
		search, content, _ := strings.Cut(item, "=")
		fmt.Fprintf(&b, `<IndicatorItem condition="is"><Context search="%s"/><Content>%s</Content></IndicatorItem>`, search, content)
	}
	return fmt.Sprintf(`<?xml version="1.0"?><ioc><definition><Indicator operator=%q>%s</Indicator></definition></ioc>`, operator, b.String())
}
