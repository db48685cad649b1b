package indicator

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// told prints a reading, to compare.
func told(r *Reading) string {
	var all []string
	for _, list := range r.Set.ranges.All() {
		for _, i := range list {
			all = append(all, fmt.Sprintf("%d %s %s | %s", i.Line, i.Kind, i, i.Label))
		}
	}
	for _, words := range r.Set.words {
		for _, list := range words {
			for _, i := range list {
				all = append(all, fmt.Sprintf("%d %s %s | %s", i.Line, i.Kind, i, i.Label))
			}
		}
	}
	slices.SortFunc(all, func(a, b string) int {
		var x, y int
		fmt.Sscan(a, &x)
		fmt.Sscan(b, &y)
		if x != y {
			return x - y
		}
		return strings.Compare(a, b)
	})
	for _, p := range r.Problems {
		all = append(all, fmt.Sprintf("PROBLEM %d %q: %s", p.Line, p.Text, p.Why))
	}
	for why, n := range r.LeftOut {
		all = append(all, fmt.Sprintf("LEFT OUT %d %s", n, why))
	}
	slices.SortFunc(all[len(all)-len(r.LeftOut):], strings.Compare)
	return fmt.Sprintf("%s: %d entries, %d duplicates\n%s\n", r.Format, r.Entries, r.Duplicates, strings.Join(all, "\n"))
}

// Reads every list of testdata and compares with the file beside it. UPDATE_SCRIPTS=1 rewrites these files.
func TestReadLists(t *testing.T) {
	lists, err := filepath.Glob("testdata/*.list")
	if err != nil || len(lists) < 8 {
		t.Fatalf("%d lists, %v", len(lists), err)
	}
	for _, name := range lists {
		file, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		r, err := Read(file)
		file.Close()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		golden := strings.TrimSuffix(name, ".list") + ".golden"
		if os.Getenv("UPDATE_SCRIPTS") != "" {
			if err := os.WriteFile(golden, []byte(told(r)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if told(r) != string(want) {
			t.Errorf("%s:\n%s", name, told(r))
		}
	}
}

// Each line of a list is an indicator, a duplicate, or a problem.
func TestEveryLineIsAccounted(t *testing.T) {
	var b strings.Builder
	for i := range 3000 {
		switch i % 3 {
		case 0:
			fmt.Fprintf(&b, "10.%d.%d.%d\n", i>>16, i>>8&255, i&255)
		case 1:
			fmt.Fprintf(&b, "host%d.example\n", i)
		default:
			fmt.Fprintf(&b, "nonsense %d\n", i)
		}
	}
	r, err := Read(strings.NewReader(b.String() + b.String()))
	if err != nil || r.Entries != 4000 || r.Duplicates != 2000 || len(r.Problems) != 2000 || r.Set.Len() != 2000 {
		t.Errorf("%d entries, %d duplicates, %d problems, %d in the set, %v", r.Entries, r.Duplicates, len(r.Problems), r.Set.Len(), err)
	}
}

// Reading any list ends, its indicators can be looked up, and each line is an indicator, left out, or a problem.
func FuzzRead(f *testing.F) {
	for _, pattern := range []string{"testdata/*.list", "testdata/kinds/*"} {
		lists, err := filepath.Glob(pattern)
		if err != nil || len(lists) == 0 {
			f.Fatal(pattern, err)
		}
		for _, name := range lists {
			text, err := os.ReadFile(name)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(string(text))
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := Read(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if r.Set.Len() != r.Entries-r.Duplicates {
			t.Errorf("%d in the set, of %d entries with %d duplicates", r.Set.Len(), r.Entries, r.Duplicates)
		}
		for _, list := range r.Set.ranges.All() {
			for _, i := range list {
				if again, ok := Parse(i.String()); !ok || again.Text != i.Text || again.Port != i.Port {
					t.Errorf("%q was read, and reads again as %v", i, again)
				}
			}
		}
		lines := 0
		for line := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == '\n' || r == '\r' }) {
			if dotted.MatchString(line) && !isComment(strings.TrimSpace(line)) {
				lines++
			}
		}
		if (r.Format == "plain" || r.Format == "rules") && r.said() < lines {
			t.Errorf("%d lines have an address, and %d entries, problems or reasons", lines, r.said())
		}
	})
}

// forms are notations of an address at a port in lists of all kinds. Read returns this address at this port, or reports
// that it did not understand.
var forms = []string{
	"$A:$P", "$A $P", "$A,$P", "$A|$P", "$A;$P", "$A\t$P", "$A port $P", "$A (tcp/$P)", "hxxp://$A:$P/x", "$L $A:$P $L", "$A:$P # $L", "$L, $A, port $P", "- $A:$P",
	"ip,port\n$A,$P", "IP Address;Port;$L\n$A;$P;$L", "port,ip\n$P,$A", "src,dst_ip,dst_port\n192.0.2.77,$A,$P", "type,value\nip-dst|port,$A|$P", "type,value\nip:port,$A:$P",
	"value,port,type\n$A,$P,ipv4", `{"ip": "$A", "port": $P}`, `[{"dst": {"ip": "$A", "port": $P}}]`, `{"$A": {"port": $P}}`, `{"$A": $P}`, `[{"ioc_value": "$A:$P"}]`,
	"alert tcp any any -> $A $P (msg:\"$L\"; sid:1;)", "alert tcp any any -> [$A] [$P] (sid:1;)", "-A INPUT -s $A --dport $P -j DROP",
	"src=192.0.2.77 dst=$A spt=5 dpt=$P", "$A . $P", "$A . tcp . $P", "ip daddr { $A } tcp dport { $P } drop", "access-list 1 deny tcp any host $A eq $P", "add b $A,tcp:$P", "('$A', $P, '$L')",
	"• $A:$P - $L", "INSERT INTO t VALUES ('$A', $P)", "ansible_host=$A ansible_port=$P", "192.0.2.77,$A,5,$P", "ports $P-$P $A", "$A tcp:$P-$P",
	"$A via TCP $P", "$A port(s) $P", "$A port no. $P", "Peer,Port\n$A,$P", "ip,Portnummer\n$A,$P", "--range=$A --rules=tcp:$P", "$A/32:$P", "-s 10.9.8.7 -d $A --dport $P", "ip:$A port:$P",
	"$A#$P", "$A@$P", "$A@$P#dns.example", "$A#$P#dns.example", "server=$A#$P", "forward-addr: $A@$P", "/dev/tcp/$A/$P", "$L >& /dev/tcp/$A/$P 0>&1", "/ip4/$A/tcp/$P", "forwarders { $A port $P; };",
	"/ip firewall filter add chain=forward dst-address=$A dst-port=$P action=drop", "netsh advfirewall firewall add rule action=block remoteip=$A remoteport=$P", "IP 10.0.0.1.5 > $A.$P: Flags",
	`{"Event": {"Attribute": [{"type": "ip-dst|port", "value": "$A|$P", "comment": "$L"}]}}`,
	`{"Object": [{"Attribute": [{"type": "port", "value": "$P"}, {"type": "ip-dst", "value": "$A"}]}]}`,
	`{"type": "indicator", "pattern": "[network-traffic:dst_ref.value = '$A' AND network-traffic:dst_port = $P]"}`,
	`<ioc><Indicator operator="AND"><IndicatorItem condition="is"><Context search="PortItem/remoteIP"/><Content>$A</Content></IndicatorItem><IndicatorItem condition="is"><Context search="PortItem/remotePort"/><Content>$P</Content></IndicatorItem></Indicator></ioc>`,
}

// No indicator matches more than the list says, and no line is passed over silently.
func FuzzNeverWider(f *testing.F) {
	for form := range forms {
		f.Add(uint8(form), uint32(0xc6336442), uint16(443), "a label")
		f.Add(uint8(form), uint32(0x0a000001), uint16(24), "Port L\"")
	}
	f.Fuzz(func(t *testing.T, form uint8, number uint32, port uint16, label string) {
		a := netip.AddrFrom4([4]byte{byte(number >> 24), byte(number >> 16), byte(number >> 8), byte(number)})
		if port == 0 {
			port = 1
		}
		label = strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
				return r
			}
			return ' '
		}, label)
		text := strings.NewReplacer("$A", a.String(), "$P", portText(port), "$L", label).Replace(forms[int(form)%len(forms)])
		r, err := Read(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if found := r.Set.ByAddress(a, port+1); len(found) > 0 {
			t.Errorf("%q is read as %v, which is any port", text, found)
		}
		if found := r.Set.ByAddress(a.Next(), port); len(found) > 0 {
			t.Errorf("%q is read as %v, which is another address", text, found)
		}
		if found := r.Set.ByAddress(a, port); len(found) == 0 && r.said() == 0 {
			t.Errorf("%q is passed over", text)
		}
	})
}
