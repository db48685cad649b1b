package indicator

import "testing"

// Lists in which a careless reader takes an address without its port, a range without its exception, or the first line for a header.
func TestReadNeverWiderThanWritten(t *testing.T) {
	readsAs(t, map[string]expectation{
		// Ports in words.
		"198.51.100.66 port 0x1bb":                                             {indicators: "198.51.100.66:443"},
		"198.51.100.66 port https":                                             {problems: 1},
		"198.51.100.66 tcp/https":                                              {problems: 1},
		"198.51.100.66 ports>1024":                                             {problems: 1},
		"198.51.100.66, high ports":                                            {problems: 1},
		"198.51.100.66 port unknown":                                           {problems: 1},
		"198.51.100.66 on 443":                                                 {indicators: "198.51.100.66:443"},
		"198.51.100.66 on 12 hosts":                                            {indicators: "198.51.100.66"},
		"198.51.100.66 via TCP 443":                                            {indicators: "198.51.100.66:443"},
		"198.51.100.66 TCP: 443":                                               {indicators: "198.51.100.66:443"},
		"198.51.100.66 over port #443":                                         {indicators: "198.51.100.66:443"},
		"198.51.100.66 port(s) 443":                                            {indicators: "198.51.100.66:443"},
		"198.51.100.66 Port Nr. 443":                                           {indicators: "198.51.100.66:443"},
		"198.51.100.66 ports 80, 443, and 8443":                                {indicators: "198.51.100.66:443 198.51.100.66:80 198.51.100.66:8443"},
		"198.51.100.66 dst port: 443, src port: 51234":                         {indicators: "198.51.100.66:443", leftOut: 1},
		"198.51.100.66 port scan of our network":                               {indicators: "198.51.100.66"},
		"sshd[1]: Failed password for root from 198.51.100.66 port 51234 ssh2": {indicators: "198.51.100.66", leftOut: 1},
		"downloaded from 198.51.100.66 port 8080":                              {indicators: "198.51.100.66:8080"},
		// Networks with a port, and ports that look like a length.
		"203.0.113.0/24:443": {indicators: "203.0.113.0/24:443"},
		"2001:db8::/32:443":  {indicators: "2001:db8::/32:443"},
		"203.0.113.9/24:443": {problems: 1},
		"203.0.113.9/0":      {problems: 1},
		"%ASA-4-106023: Deny tcp src outside:198.51.100.7/51234 dst inside:10.0.0.5/22": {problems: 1},
		"203.0.113.1, 198.51.100.66:8080/x":                                             {indicators: "198.51.100.66:8080 203.0.113.1"},
		"mongodb://198.51.100.1:27017,198.51.100.2:27018/db":                            {indicators: "198.51.100.1:27017 198.51.100.2:27018"},
		// Exceptions in words.
		"10.5.0.0/16 except 10.5.1.0/24":   {problems: 1},
		"10.5.0.0/16 (excluding 10.5.1.1)": {problems: 1},
		"10.5.0.0/16, not 10.5.1.1":        {problems: 1},
		"10.5.0.0/16 but not 10.5.1[.]1":   {problems: 1},
		"10.5.0.0/16 other than 10.5.1.1":  {problems: 1},
		"Require not ip 198.51.100.66":     {indicators: "198.51.100.66"},
		// Ranges in words.
		"192.0.2.10 until 192.0.2.11":       {indicators: "192.0.2.10/31"},
		"192.0.2.10 bis 192.0.2.11":         {indicators: "192.0.2.10/31"},
		"192.0.2.10 thru 192.0.2.11":        {indicators: "192.0.2.10/31"},
		"between 192.0.2.10 and 192.0.2.11": {indicators: "192.0.2.10/31"},
		// First lines that are no header.
		"md5:0123456789abcdef0123456789abcdef\nmd5:1123456789abcdef0123456789abcdef":               {indicators: "0123456789abcdef0123456789abcdef 1123456789abcdef0123456789abcdef"},
		"url:http://evil.example/x\n198.51.100.66":                                                 {indicators: "198.51.100.66 evil.example"},
		"selection:\n    DestinationIp|startswith:\n        - '198.51.'\n    DestinationPort: 443": {problems: 4},
	})
}

// What a list calls harmless, in the words beside it, in a column or under a key, is looked for by nobody.
func TestReadWhatIsCalledHarmless(t *testing.T) {
	readsAs(t, map[string]expectation{
		"198.51.100.66 is not malicious":                                                               {problems: 1},
		"198.51.100.66 (false positive)":                                                               {problems: 1},
		"198.51.100.66 # whitelisted":                                                                  {problems: 1},
		"198.51.100.66 - benign, do not block":                                                         {problems: 1},
		"not 198.51.100.66":                                                                            {problems: 1},
		"All except 198.51.100.66":                                                                     {problems: 1},
		"NOT malicious: 198.51.100.66":                                                                 {problems: 1},
		"no longer active: 198.51.100.66":                                                              {problems: 1},
		"~~198.51.100.66~~":                                                                            {problems: 1},
		"evil.example ; known good":                                                                    {problems: 1},
		"198.51.100.66 # C2 on a compromised legitimate host":                                          {indicators: "198.51.100.66"},
		"198.51.100.66 blocklist of a feed, not seen since May":                                        {indicators: "198.51.100.66"},
		"198.51.100.66 # notes: benign-looking beacon, clean-up first":                                 {indicators: "198.51.100.66"},
		"ip,comment\n198.51.100.66,C2\n203.0.113.9,False positive":                                     {indicators: "198.51.100.66", leftOut: 1},
		"ip,status\n198.51.100.66,active\n203.0.113.9,whitelisted":                                     {indicators: "198.51.100.66", leftOut: 1},
		"ip,enabled\n198.51.100.66,1\n203.0.113.9,0":                                                   {indicators: "198.51.100.66", leftOut: 1},
		`[{"ip":"198.51.100.66","malicious":true},{"ip":"203.0.113.9","malicious":false}]`:             {indicators: "198.51.100.66", leftOut: 1},
		`[{"ip":"198.51.100.66","block":true},{"ip":"203.0.113.9","block":false}]`:                     {indicators: "198.51.100.66", leftOut: 2},
		`[{"ip":"198.51.100.66","tags":["c2"]},{"ip":"203.0.113.9","tags":["seen","false positive"]}]`: {indicators: "198.51.100.66", leftOut: 1},
		`[{"ip":"198.51.100.66","list":"block"},{"ip":"203.0.113.9","list":"allowlist"}]`:              {indicators: "198.51.100.66", leftOut: 1},
	})
}

// JSON: what is under a key that says to let it pass, an address as a number beside itself, links of MISP, labels of STIX.
func TestReadKeysOfJSON(t *testing.T) {
	readsAs(t, map[string]expectation{
		`{"blocklist":["198.51.100.66"],"allowlist":["198.51.100.2"],"whitelist":[{"ip":"198.51.100.3"}],"exceptions":{"ips":["198.51.100.5","198.51.100.6"]}}`: {indicators: "198.51.100.66", leftOut: 4},
		`{"allow":{"ips":["198.51.100.7"]},"block":{"ips":["198.51.100.66"]}}`:                                                                                  {indicators: "198.51.100.66", leftOut: 1},
		`{"allowed_ips":"198.51.100.7","ip":"198.51.100.66"}`:                                                                                                   {indicators: "198.51.100.66", leftOut: 1},
		`{"allowlist":["198.51.100.7"`: {leftOut: 1, problems: 1},
		`{"ip_str":"198.51.100.66","port":443,"ip":3325256770,"hostnames":["evil.example"]}`: {indicators: "198.51.100.66:443 evil.example:443"},
		`{"ip":3325256770,"port":443}`: {problems: 1},
		`{"Event":{"Attribute":[{"type":"link","value":"https://blog.example/x"},{"type":"ip-dst","value":"198.51.100.66"}]}}`:  {indicators: "198.51.100.66", leftOut: 1},
		`{"type":"bundle","objects":[{"type":"indicator","labels":["benign"],"pattern":"[ipv4-addr:value = '198.51.100.4']"}]}`: {leftOut: 1},
	})
}

// Lines that say what their value is, Markdown, logs of what came in, names in other letters.
func TestReadAsItIsMeant(t *testing.T) {
	readsAs(t, map[string]expectation{
		"domain:evil.example\ndomain:worse.example":                          {indicators: "evil.example worse.example"},
		"Imphash: f34d5f2d4577ed6d9ceec516c1f5a744":                          {leftOut: 1},
		"JA3=b386946a5a44d1ddcc843bc75336dfce":                               {leftOut: 1},
		"Mutex: 4444\nSize: 8080\nASN: 443":                                  {leftOut: 3},
		"port:4444":                                                          {problems: 1},
		"ip-dst|port 198.51.100.66|4444\nfilename x.exe\nAS AS64500":         {indicators: "198.51.100.66:4444 x.exe", leftOut: 1},
		"source: blog.example\nC2: evil.example":                             {indicators: "evil.example", leftOut: 1},
		"198.51.100.66 TCP 3 packets":                                        {indicators: "198.51.100.66"},
		"domain evil.example":                                                {indicators: "evil.example"},
		"[198.51.100.66](hxxps://blog.example/198.51.100.66)":                {indicators: "198.51.100.66"},
		"- [evil\\[.\\]example](https://blog.example/evil)":                  {problems: 1},
		"_198.51.100.66_":                                                    {indicators: "198.51.100.66"},
		"| IP | Port |\n|---|---|\n| 198.51.100.66<br>203.0.113.9 | 443 |":   {indicators: "198.51.100.66:443 203.0.113.9:443"},
		"See [1]: https://blog.example/192.0.2.1\n[1]: https://blog.example": {leftOut: 2},
		"kernel: [UFW BLOCK] IN=eth0 OUT= MAC= SRC=198.51.100.66 DST=10.0.0.5 PROTO=TCP SPT=51234 DPT=22": {indicators: "198.51.100.66", leftOut: 1},
		"kernel: [UFW BLOCK] IN= OUT=eth0 SRC=10.0.0.5 DST=198.51.100.66 PROTO=TCP SPT=51234 DPT=22":      {indicators: "198.51.100.66:22", leftOut: 1},
		"bücher.example": {indicators: "xn--bcher-kva.example"},
	})
	if found := set(t, "BÜCHER.example").ByHost("www.bücher.example"); len(found) != 1 {
		t.Error("a name in other letters does not match itself")
	}
}

// Rules, searches and exports that name the other side, take back, except, or have columns of other names.
func TestReadRulesOfOthers(t *testing.T) {
	readsAs(t, map[string]expectation{
		// Columns that no word of the header tells.
		"Peer,Port\n198.51.100.66,443":                         {indicators: "198.51.100.66:443"},
		"Endpoint,Port\n198.51.100.66,443":                     {indicators: "198.51.100.66:443"},
		"attacker,victim,port\n198.51.100.66,198.51.100.7,443": {problems: 1},
		"Node,Port\nevil.example,443":                          {problems: 1},
		"IP-Adresse,Portnummer\n198.51.100.66,443":             {indicators: "198.51.100.66:443"},
		"ip,rport\n198.51.100.66,443":                          {indicators: "198.51.100.66:443"},
		"ip,tcp\n198.51.100.66,443":                            {indicators: "198.51.100.66:443"},
		"port,description\n4444,shell of evil.example":         {indicators: "4444"},
		// Labels of hex digits before IPv6.
		"Bad:2001:db8::10-2001:db8::11":   {indicators: "2001:db8::10/127"},
		"x Bad:2001:db8::10-2001:db8::11": {indicators: "2001:db8::10/127"},
		"C2:2001:db8::1":                  {indicators: "2001:db8::1"},
		"64:ff9b::1":                      {indicators: "64:ff9b::1"},
		"bad::1-2001:db8::9":              {problems: 1},
		// Two sides.
		"-A OUTPUT -s 10.0.0.5 -d 198.51.100.66 -p tcp --dport 25 -j DROP":      {indicators: "198.51.100.66:25", leftOut: 1},
		"src net 10.0.0.0/8 and dst net 198.51.100.0/28":                        {indicators: "198.51.100.0/28", leftOut: 1},
		"access-list 1 deny tcp host 10.0.0.5 eq 1024 host 198.51.100.5 eq 443": {indicators: "198.51.100.5:443", leftOut: 1},
		"C2 198.51.100.66 port 80 and 198.51.100.7 port 443":                    {problems: 1},
		"C2 198.51.100.66 and 198.51.100.7, ports 80 and port 443":              {indicators: "198.51.100.66:443 198.51.100.66:80 198.51.100.7:443 198.51.100.7:80"},
		// Exceptions of searches.
		"dst host 198.51.100.66 and not port 22":                 {problems: 1},
		"not host 198.51.100.66":                                 {problems: 1},
		"(ip.dst == 198.51.100.1) or !(ip.dst == 198.51.100.66)": {problems: 1},
		"dest_ip!=\"198.51.100.66\"":                             {problems: 1},
		"NOT dest_ip=\"198.51.100.66\"":                          {problems: 1},
		"where DstIP <> '198.51.100.66'":                         {problems: 1},
		"where DstIP not in ('198.51.100.66')":                   {problems: 1},
		// Rules that are none.
		"no access-list 101 deny ip any host 198.51.100.66":                                                            {leftOut: 1},
		"access-list 101 remark block 198.51.100.66":                                                                   {leftOut: 1},
		"access-list 1 deny ip 198.51.100.0 0.255.0.255 any":                                                           {problems: 1},
		"suppress gen_id 1, sig_id 2, track by_src, ip 198.51.100.66":                                                  {leftOut: 1},
		"-A PREROUTING -d 192.0.2.1 -p tcp --dport 80 -j DNAT --to-destination 10.0.0.5:8080":                          {leftOut: 1},
		"firewall-cmd --add-rich-rule='rule family=\"ipv4\" source address=\"198.51.100.66\" accept'":                  {leftOut: 1},
		"firewall-cmd --add-rich-rule='rule family=\"ipv4\" source NOT address=\"198.51.100.66\" drop'":                {problems: 1},
		"ip daddr 198.51.100.66 tcp dport ssh drop":                                                                    {problems: 1},
		"ip daddr 198.51.100.66 tcp dport >= 1024 drop":                                                                {problems: 1},
		"gcloud compute firewall-rules create x --action=DENY --destination-ranges=198.51.100.66/32 --rules=tcp:443":   {indicators: "198.51.100.66/32:443"},
		"aws ec2 create-network-acl-entry --cidr-block 198.51.100.66/32 --rule-action deny --port-range From=80,To=90": {problems: 1},
		"alert tcp any any -> 198.51.100.66 :1024 (sid:1;)":                                                            {problems: 1},
		"alert tcp any any -> 198.51.100.66 [22,1024:] (sid:1;)":                                                       {problems: 1},
		"create b hash:ip,port family inet\nadd b 198.51.100.66,tcp:443\nadd b 203.0.113.9,tcp:8443":                   {indicators: "198.51.100.66:443 203.0.113.9:8443", leftOut: 1, notes: 2},
		"\xff\xfe\x00\x001\x00\x00\x00":                                                                                {problems: 1},
	})
}

// Configurations and searches in which the next word, or the next line, changes what an address means.
func TestReadWhatFollows(t *testing.T) {
	readsAs(t, map[string]expectation{
		"(ip.src eq 198.51.100.66 and http.host eq \"x.example\")":         {indicators: "198.51.100.66", leftOut: 3},
		"(ip.src in {198.51.100.66 203.0.113.0/24})":                       {indicators: "198.51.100.66 203.0.113.0/24", leftOut: 1},
		"ignoreip = 127.0.0.1/8 ::1 198.51.100.66":                         {leftOut: 1},
		"allowlist: [198.51.100.66]\n- 203.0.113.9":                        {indicators: "203.0.113.9", leftOut: 1},
		"198.51.100.66 OK\n203.0.113.9 REJECT":                             {indicators: "203.0.113.9", problems: 1},
		"Our own range 192.0.2.0/24 is not affected.":                      {problems: 1},
		"cidr: 10.5.0.0/16\nexcept:\n- 10.5.1.0/24":                        {leftOut: 2, problems: 1},
		"cidr_block = \"198.51.100.0/24\"\nfrom_port = 443\nto_port = 443": {indicators: "198.51.100.0/24:443"},
		"cidr_block = \"198.51.100.0/24\"\nfrom_port = 80\nto_port = 90":   {problems: 1},
		"ip,start_port,end_port\n198.51.100.66,80,90":                      {problems: 1},
		"ripencc|DE|ipv6|2001:db8::|32|20200101|allocated":                 {problems: 1},
		"198.51.100.66|tcp|443":                                            {indicators: "198.51.100.66:443"},
		"198.51.100.66 => 443":                                             {indicators: "198.51.100.66:443", notes: 1},
		"198.51.100.66 @ 443":                                              {indicators: "198.51.100.66:443", notes: 1},
		"Source Address: 10.0.0.5 Source Port: 51234 Destination Address: 198.51.100.66 Destination Port: 443": {indicators: "198.51.100.66:443", leftOut: 2},
		"198.051.100.066":              {indicators: "198.51.100.66"},
		"user:pass@198.51.100.66:3128": {problems: 1},
	})
}
