package indicator

import (
	"strings"
	"testing"
)

// Lists as people hand them on: pages, records of keys, tables of programs, cells copied one below the other, zones, comments of all
// styles. An address keeps its port, what is called harmless is left out, and each line that is not read is told.
func TestReadPeoplesLists(t *testing.T) {
	const two = "198.51.100.66:443 203.0.113.9:8443"
	readsAs(t, map[string]expectation{
		// Records of keys.
		"iocs:\n  - ip: 198.51.100.66\n    port: 443\n  - ip: 203.0.113.9\n    port: 8443\n":                       {indicators: two, problems: 1},
		"[[c2]]\nip = \"198.51.100.66\"\nport = 443\n[[c2]]\nip = \"203.0.113.9\"\nport = 8443":                    {indicators: two, leftOut: 2},
		"IP: 198.51.100.66\nPort: 443\nCountry: US\n\nIP: 203.0.113.9\nPort: 8443":                                 {indicators: two},
		"\"ip\": \"198.51.100.66\",\n\"port\": 443,\n\"tags\": [\"c2\"]":                                           {indicators: "198.51.100.66:443"},
		"- type: ipv4\n  value: 198.51.100.66\n- type: ipv4\n  value: 203.0.113.9\n  whitelisted: true":            {indicators: "198.51.100.66", leftOut: 1},
		"- ip: 198.51.100.66\n  port: 8000-8010\n- ip: 203.0.113.9\n  ports:\n    - 80\n    - 443":                 {indicators: "203.0.113.9:443 203.0.113.9:80", problems: 1},
		"- ip: 198.51.100.66\n  port: any":                                                                         {indicators: "198.51.100.66"},
		"c2:\n  hosts: [198.51.100.66, 203.0.113.9]\n  ports: [443]":                                               {indicators: "198.51.100.66:443 203.0.113.9:443", problems: 1},
		"selection:\n    DestinationIp:\n        - 198.51.100.66\n        - 203.0.113.9\n    DestinationPort: 443": {indicators: "198.51.100.66:443 203.0.113.9:443", problems: 1},
		"Source IP: 192.0.2.1\nSource Port: 51234\nDestination IP: 198.51.100.66\nDestination Port: 443":           {indicators: "198.51.100.66:443", leftOut: 1},
		"C2 one: 198.51.100.66\nC2 two: 203.0.113.9":                                                               {indicators: "198.51.100.66 203.0.113.9"},
		"IP: 198.51.100.66\nPort: 443\nSeen with: 203.0.113.9":                                                     {indicators: "198.51.100.66:443 203.0.113.9"},
		"IP: 198.51.100.66\nPort: 99999":                                                                           {indicators: "198.51.100.66", problems: 1},
		"Report: 192.0.2.5 of today\nIP,Port\n198.51.100.66,443":                                                   {indicators: "192.0.2.5 198.51.100.66:443"},
		// Tables of programs.
		"src_ip     dest_ip        dest_port\n192.0.2.1  198.51.100.66  443\n192.0.2.2  203.0.113.9    8443":     {indicators: two, leftOut: 2},
		"RemoteAddress RemotePort State\n------------- ---------- -----\n198.51.100.66 443        Established":   {indicators: "198.51.100.66:443"},
		"+---------------+------+\n| ip            | port |\n+---------------+------+\n| 198.51.100.66 |  443 |": {indicators: "198.51.100.66:443"},
		"Address        Port  Comment\n=============  ====  =======\n198.51.100.66  443   C2 one":                {indicators: "198.51.100.66:443"},
		"#Software: Microsoft Internet Information Services 10.0\n#Fields: date time s-ip cs-method cs-uri-stem cs-uri-query s-port cs-username c-ip cs(User-Agent) cs(Referer) sc-status time-taken\n" +
			"2026-11-01 00:00:01 10.0.0.5 GET /index.htm - 443 - 198.51.100.7 Mozilla/5.0+(Windows+NT) - 200 15\n2026-11-01 00:00:03 10.0.0.5 POST /up.aspx id=10.9.9.9 443 - 203.0.113.99 curl/8.0 http://good.example/ 200 31": {indicators: "198.51.100.7 203.0.113.99", leftOut: 3},
		"#Fields: date time c-ip cs-method cs-uri-stem\n2026-11-01 00:00:01 2001:db8::66 GET /index.htm":          {indicators: "2001:db8::66"},
		"#Fields: date time src-ip dst-ip src-port dst-port\n2026-06-30 12:00 192.0.2.1 198.51.100.66 51234 443":  {indicators: "198.51.100.66:443", leftOut: 1},
		"IP addresses\n198.51.100.66 C2\n203.0.113.9 proxy":                                                       {indicators: "198.51.100.66 203.0.113.9", problems: 1},
		"Proto Local Address Foreign Address\ntcp 192.0.2.1:51234 198.51.100.66:443\ntcp6 ::1:9 2001:db8::66:443": {indicators: "198.51.100.66:443 [2001:db8::66]:443", leftOut: 3},
		"State Local Address:Port Peer Address:Port\nLISTEN 0.0.0.0:22 0.0.0.0:*":                                 {leftOut: 2},
		"{TCP} 192.0.2.10:51234 -> 198.51.100.66:443":                                                             {indicators: "198.51.100.66:443", leftOut: 1},
		"curl 9 TCP 192.0.2.10:51234->198.51.100.66:443 (ESTABLISHED)":                                            {indicators: "198.51.100.66:443", leftOut: 1},
		"198.51.100.1 -> 198.51.100.66":                                                                           {indicators: "198.51.100.1 198.51.100.66"},
		"Host: 198.51.100.66 ()\tStatus: Up":                                                                      {indicators: "198.51.100.66"},
		"ip | port\n--- | ---\n198.51.100.66 | 443":                                                               {indicators: "198.51.100.66:443"},
		"\"ip\",\"port\"\n=\"198.51.100.66\",=\"443\"\n'203.0.113.9,'8443":                                        {indicators: two},
		"INSERT INTO iocs VALUES (1,'198.51.100.66',443),(2,'203.0.113.9',8443);":                                 {indicators: two, notes: 2},
		// Cells copied one below the other, and words in two lines.
		"198.51.100.66\n443\n203.0.113.9\n8443":                         {indicators: two, notes: 2},
		"198.51.100.66\n443\n2026-05-01\n203.0.113.9\n8443\n2026-05-02": {indicators: two, problems: 2, notes: 2},
		"198.51.100.66\n443":                                            {indicators: "198.51.100.66", problems: 1},
		"198.51.100.66\n4444\nevil.example":                             {indicators: "198.51.100.66 4444 evil.example"},
		"4444\n443\n5555":                                               {indicators: "443 4444 5555"},
		"198.51.100.\n7":                                                {problems: 1},
		"evil-\ndomain.example":                                         {problems: 1},
		// Pages.
		"<table><tr><th>#</th><th>IP</th><th>Port</th></tr><tr><td>1</td><td>198.51.100.66</td><td>443</td></tr></table>":             {indicators: "198.51.100.66:443"},
		"<html><head><script>var x='192.0.2.1'</script></head><body><p>C2 <b>198</b>[.]51[.]100[.]66<li>evil[.]example</body></html>": {indicators: "198.51.100.66 evil.example"},
		"<div><pre># one\n198.51.100.66\n203.0.113.9</pre>":                                                                           {indicators: "198.51.100.66 203.0.113.9", problems: 1},
		// XML.
		strings.Replace(openIOC("OR", "PortItem/remoteIP=198.51.100.66"), "?>", " encoding=\"us-ascii\"?>", 1):                                                                                      {indicators: "198.51.100.66"},
		"<pfsense><aliases><alias><name>b</name><type>host</type><address>198.51.100.66 203.0.113.0/24</address></alias><alias><type>port</type><address>443</address></alias></aliases></pfsense>": {indicators: "198.51.100.66 203.0.113.0/24", leftOut: 1},
		"<OPNsense><alias><enabled>1</enabled><type>network</type><content>203.0.113.0/24\n!203.0.113.7</content></alias><alias><enabled>0</enabled></alias></OPNsense>":                            {indicators: "203.0.113.0/24", leftOut: 1, problems: 1},
		// Zones, resolvers, hosts.
		"$ORIGIN rpz.corp.example.\nevil.example.rpz.corp.example. 60 IN CNAME .\nworse.example A 192.0.2.80": {indicators: "evil.example worse.example", leftOut: 2},
		"@ IN SOA ns. root. 1 2 3 4 5\n32.66.100.51.198.rpz-ip 60 CNAME .\nok.example CNAME rpz-passthru.":    {indicators: "198.51.100.66/32", leftOut: 2},
		"address=/a.example/b.example/127.0.0.1":                                                              {indicators: "a.example b.example"},
		"host-record=foo.example,192.0.2.1\ndhcp-range=192.0.2.50,192.0.2.99,12h":                             {leftOut: 2},
		"0 evil.example\n::ffff:127.0.0.1 worse.example":                                                      {indicators: "evil.example worse.example"},
		"sshd: ALL EXCEPT 192.0.2.1":                                                                          {problems: 1},
		// Comments, headings, sections.
		"/*\n * made 2026 on 192.0.2.99\n */\n198.51.100.66":                 {indicators: "198.51.100.66"},
		"/* never closed\n198.51.100.66":                                     {indicators: "198.51.100.66", problems: 1},
		"<!-- 192.0.2.77 -->\n203.0.113.9 /* was 192.0.2.1 */":               {indicators: "203.0.113.9"},
		"198.51.100.66 <!-- 192.0.2.77 -->\n203.0.113.9 /* was 192.0.2.1 */": {indicators: "198.51.100.66 203.0.113.9"},
		"-- dumped from 192.0.2.5\nREM 192.0.2.6 is ours\n198.51.100.66":     {indicators: "198.51.100.66"},
		"[c2]\n198.51.100.66\n[whitelist]\n192.0.2.1":                        {indicators: "198.51.100.66", leftOut: 3},
		"198.51.100.66\nDo not block:\n192.0.2.1\n192.0.2.2\n\n203.0.113.9":  {indicators: "198.51.100.66 203.0.113.9", leftOut: 3},
		"198.51.100.66\n# Whitelist\n192.0.2.1\n# More\n203.0.113.9":         {indicators: "198.51.100.66 203.0.113.9", leftOut: 2},
		"# Do not block without asking Bob first\n198.51.100.66":             {indicators: "198.51.100.66"},
		"C2 servers\n==========\n198.51.100.66":                              {indicators: "198.51.100.66", problems: 1},
		// An address with its length or port, and what only looks like one.
		"198.51.100.0 /25":                       {indicators: "198.51.100.0/25"},
		"198.51.100.66/tcp/443":                  {indicators: "198.51.100.66:443"},
		"198.51.100.66 : 443":                    {indicators: "198.51.100.66:443"},
		"198.51.100.66 - 443":                    {indicators: "198.51.100.66:443", notes: 1},
		"198.51.100.66 443 8443":                 {indicators: "198.51.100.66:443", leftOut: 1, notes: 1},
		"/ads/*$script":                          {problems: 1},
		"/tmp/*.sh":                              {problems: 1},
		"firmware 10.2.3.4 talks to 203.0.113.9": {indicators: "203.0.113.9", problems: 1},
		"evil [.] example\n2001[:]db8[::]77":     {indicators: "2001:db8::77 evil.example"},
	})
}

// A line too long for reading is told, wherever it is read ahead.
func TestReadLongLineAhead(t *testing.T) {
	long := strings.Repeat("x", longest+70000)
	for _, text := range []string{"198.51.100.66\n" + long + "\n203.0.113.9", "ip,note\n198.51.100.66,\"a\n" + long + "\n203.0.113.9,b", "ip: 198.51.100.66\n" + long + "\n203.0.113.9"} {
		r, err := Read(strings.NewReader(text))
		if err != nil || r.Set.Len() != 2 || len(r.Problems) == 0 {
			t.Errorf("%.20q, %v: %d indicators, %d problems", text, err, r.Set.Len(), len(r.Problems))
		}
	}
}
