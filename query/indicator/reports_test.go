package indicator

import "testing"

// Lists as responders get them: exports of clouds and of agents on hosts, mails, chats, logs. Ports in words and in comments, versions that
// look like addresses, and settings of a router itself are read as a careful person does, or told.
func TestReadWhatRespondersGet(t *testing.T) {
	readsAs(t, map[string]expectation{
		// Ports that are not written as most do.
		"198.51.100.66 p443":                                     {problems: 1},
		"198.51.100.66:p443":                                     {problems: 1},
		"198.51.100.66 port four":                                {problems: 1},
		"198.51.100.66 at port eighty":                           {problems: 1},
		"evil.example port eight":                                {problems: 1},
		"2001:db8::66 port https":                                {problems: 1},
		"198.51.100.66;uses random ports":                        {problems: 1},
		"198.51.100.66;443;uses random ports":                    {indicators: "198.51.100.66:443", notes: 1},
		"198.51.100.66 any port":                                 {indicators: "198.51.100.66"},
		"198.51.100.66 Port-Scanner":                             {indicators: "198.51.100.66"},
		"198.51.100.66 tcp443":                                   {indicators: "198.51.100.66:443"},
		"198.51.100.66 on UDP-53":                                {indicators: "198.51.100.66:53"},
		"IP:198.51.100.66,PORT:443":                              {indicators: "198.51.100.66:443"},
		"198.51.100.66,C2,seen on port 443":                      {indicators: "198.51.100.66:443"},
		"198.51.100.66 puerto 443":                               {indicators: "198.51.100.66:443"},
		"198.51.100.66 порт 443":                                 {indicators: "198.51.100.66:443"},
		"198.51.100.66 Port 443 und 8443":                        {indicators: "198.51.100.66:443 198.51.100.66:8443"},
		"198.51.100.66 # port 443\n203.0.113.9\t# C2 (8443/tcp)": {indicators: "198.51.100.66:443 203.0.113.9:8443"},
		"198.51.100.66 #443":                                     {indicators: "198.51.100.66:443", notes: 1},
		"198.51.100.66 # seen with 203.0.113.9 port 443":         {indicators: "198.51.100.66"},
		// Of which address the port is.
		"198.51.100.66, 203.0.113.9 (port 443)":      {problems: 1},
		"198.51.100.66 / 203.0.113.9 (443/tcp)":      {problems: 1},
		"198.51.100.66 port 80, and 203.0.113.9":     {problems: 1},
		"198.51.100.66, 203.0.113.9 (both port 443)": {indicators: "198.51.100.66:443 203.0.113.9:443"},
		"198.51.100.66, 203.0.113.9 port 443":        {indicators: "198.51.100.66:443 203.0.113.9:443"},
		"198.51.100.66 (port 443)":                   {indicators: "198.51.100.66:443"},
		// Versions.
		"nginx:1.2.3.4":                            {problems: 1},
		"image: nginx:1.2.3.4":                     {problems: 1},
		"OpenSSL 1.1.1.0":                          {problems: 1},
		"openssl,1.1.1.0":                          {problems: 1},
		"Version: 1.2.3.40":                        {problems: 1},
		"FortiOS 7.4.1.0 used by 198.51.100.66":    {indicators: "198.51.100.66", problems: 1},
		`[{"name":"openssl","version":"1.1.1.0"}]`: {leftOut: 1},
		"5.9.11.3\nC2 5.9.11.4\ndns 8.8.8.8":       {indicators: "5.9.11.3 5.9.11.4 8.8.8.8"},
		// Ends of ranges, zones, markup around an address.
		"198.51.100.10 bis .11":       {indicators: "198.51.100.10/31"},
		"198.51.100.10-.11":           {indicators: "198.51.100.10/31"},
		"fe80::1%eth0/64":             {problems: 1},
		"203.0.113.0/24</address>":    {problems: 1},
		"**198[.]51[.]100[.]66:443**": {indicators: "198.51.100.66:443"},
		// Chats.
		"<http://198.51.100.66:8080|198.51.100.66:8080>\n<http://evil.example|evil.example> too\n<@U02ABC> 203.0.113.9": {indicators: "198.51.100.66:8080 203.0.113.9 evil.example"},
		"[10:42] Alice: 198.51.100.66 (port 443)": {indicators: "198.51.100.66:443"},
		// A mail.
		"Return-Path: <cert@cert.example>\nReceived: from mx.cert.example ([192.0.2.25])\n\tby mail.example; Tue, 01 Dec 2026\nSubject: C2 192.0.2.99\n\n198.51.100.66\n> 203.0.113.9\n\n-- \nCERT, 192.0.2.200\n\nhttps://cert.example": {indicators: "198.51.100.66 203.0.113.9", leftOut: 7},
		"Subject: C2\nFrom: cert@cert.example\nC2: 198.51.100.66": {indicators: "198.51.100.66", leftOut: 1, problems: 1},
		"Date: today\nSource: 198.51.100.66":                      {indicators: "198.51.100.66", problems: 1},
		// Logs.
		"Dec  1 00:00:01 lb haproxy[123]: 198.51.100.66:51234 [01/Dec/2026:00:00:01.123] in be/s 0/0/1 200 512 \"GET / HTTP/1.1\"": {indicators: "198.51.100.66", leftOut: 1},
		"haproxy[123]: 2001:db8::66:51234 [01/Dec/2026:00:00:01.123] in be/s 0/0/1 200":                                            {indicators: "2001:db8::66", leftOut: 1},
		"198.51.100.66 - - [01/Dec/2026:00:00:01 +0000] \"GET / HTTP/1.1\" 200 443 \"http://192.0.2.99/\" \"Chrome/120.0.0.0\"":    {indicators: "198.51.100.66"},
		"2026-12-01T00:00:01Z my-lb 198.51.100.66:51234 10.0.0.5:80 0.1 200":                                                       {problems: 1},
		"tcp 0 0 10.0.0.5:22 198.51.100.66:51234 ESTABLISHED":                                                                      {problems: 1},
		"198.51.100.66:443 203.0.113.9:8443":                                                                                       {indicators: "198.51.100.66:443 203.0.113.9:8443"},
		"version srcaddr dstaddr srcport dstport start end\n2 10.0.0.5 198.51.100.66 51234 443 1418530010 1418530070":              {indicators: "198.51.100.66:443", leftOut: 1},
		"Timestamp,RemoteIP,RemotePort,LocalIP,InitiatingProcessFileName\n2026,198.51.100.66,443,10.0.0.5,curl":                    {indicators: "198.51.100.66:443", leftOut: 1},
		// Routers and filters.
		"interface Gi0/1\nip address 192.0.2.1 255.255.255.0\nntp server 192.0.2.123\nip route 198.51.100.7 255.255.255.255 Null0": {indicators: "198.51.100.7", leftOut: 2, problems: 1},
		"IP address 198.51.100.66":                                  {indicators: "198.51.100.66"},
		"route add 198.51.100.66 127.0.0.1":                         {indicators: "198.51.100.66", leftOut: 1},
		"elements = { 198.51.100.66 : accept, 203.0.113.9 : drop }": {indicators: "203.0.113.9", leftOut: 1},
		"198.51.100.66 : accept,":                                   {leftOut: 1},
		"198.51.100.66 : jump logit":                                {problems: 1},
		"sshd : 198.51.100.7 : allow":                               {leftOut: 1},
		"*filter\n:INPUT ACCEPT [0:0]\n-A OUTPUT -d 198.51.100.66/32 -j REJECT --reject-with icmp-port-unreachable\nCOMMIT": {indicators: "198.51.100.66/32", leftOut: 3},
		// Clouds.
		`{"IpPermissions":[{"IpProtocol":"tcp","FromPort":443,"IpRanges":[{"CidrIp":"198.51.100.0/24"}],"ToPort":443},{"FromPort":80,"ToPort":90,"IpRanges":[{"CidrIp":"203.0.113.9/32"}]}]}`: {indicators: "198.51.100.0/24:443", problems: 1},
		`[{"sourceAddressPrefix":"10.0.0.0/8","sourcePortRange":"*","destinationPortRange":"443","destinationAddressPrefix":"198.51.100.66","access":"Deny"}]`:                                {indicators: "198.51.100.66:443", leftOut: 1},
		`[{"destinationAddressPrefix":"203.0.113.9","access":"Allow"}]`:                                                                                         {leftOut: 1},
		`[{"RemoteIpDetails":{"IpAddressV4":"198.51.100.66"},"RemotePortDetails":{"Port":443,"PortName":"HTTPS"},"LocalIpDetails":{"IpAddressV4":"10.0.0.5"}}]`: {indicators: "198.51.100.66:443", leftOut: 1},
		`[{"indicator":"198.51.100.66","type":"IPv4","is_active":1},{"indicator":"198.51.100.7","type":"IPv4","is_active":0}]`:                                  {indicators: "198.51.100.66", leftOut: 1},
	})
}
