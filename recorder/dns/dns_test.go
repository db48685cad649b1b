package dns

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"unicode"

	"golang.org/x/net/dns/dnsmessage"
)

// answer makes an answer about a name.
func answer(t testing.TB, name string, kind dnsmessage.Type, records ...dnsmessage.Resource) []byte {
	t.Helper()
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 7, Response: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET}},
		Answers:   records,
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func resource(owner string, ttl uint32, body dnsmessage.ResourceBody) dnsmessage.Resource {
	return dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(owner), Class: dnsmessage.ClassINET, TTL: ttl}, Body: body}
}

func a(address string) dnsmessage.ResourceBody {
	return &dnsmessage.AResource{A: netip.MustParseAddr(address).As4()}
}

func aaaa(address string) dnsmessage.ResourceBody {
	return &dnsmessage.AAAAResource{AAAA: netip.MustParseAddr(address).As16()}
}

func cname(to string) dnsmessage.ResourceBody {
	return &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(to)}
}

func addresses(all ...string) (out []netip.Addr) {
	for _, one := range all {
		out = append(out, netip.MustParseAddr(one))
	}
	return out
}

func TestParse(t *testing.T) {
	for name, c := range map[string]struct {
		message []byte
		want    Message
	}{
		"addresses, in order, each once": {
			answer(t, "WWW.Example.com.", dnsmessage.TypeA, resource("www.example.com.", 300, a("192.0.2.9")), resource("www.EXAMPLE.com.", 60, a("192.0.2.10")), resource("www.example.com.", 60, a("192.0.2.10"))),
			Message{Name: "www.example.com", Type: 1, TTL: 60, Answers: "192.0.2.9 192.0.2.10", Addresses: addresses("192.0.2.9", "192.0.2.10")}},
		"a chain, whatever its order, and an address of somebody else": {
			answer(t, "a.example.", dnsmessage.TypeAAAA, resource("c.example.", 500, aaaa("2001:db8::1")), resource("b.example.", 20, cname("c.example.")), resource("a.example.", 100, cname("b.example.")), resource("other.example.", 1, aaaa("2001:db8::2"))),
			Message{Name: "a.example", Type: 28, TTL: 20, Answers: "cname:c.example cname:b.example 2001:db8::1", Addresses: addresses("2001:db8::1")}},
		"a circle of names": {
			answer(t, "a.example.", dnsmessage.TypeA, resource("a.example.", 9, cname("b.example.")), resource("b.example.", 8, cname("a.example."))),
			Message{Name: "a.example", Type: 1, TTL: 8, Answers: "cname:b.example cname:a.example"}},
		"hints of HTTPS": {
			answer(t, "shop.example.", dnsmessage.TypeHTTPS, resource("shop.example.", 30, &dnsmessage.HTTPSResource{SVCBResource: dnsmessage.SVCBResource{Priority: 1, Target: dnsmessage.MustNewName("."), Params: []dnsmessage.SVCParam{
				{Key: dnsmessage.SVCParamIPv4Hint, Value: []byte{192, 0, 2, 1, 192, 0, 2, 2}}, {Key: dnsmessage.SVCParamIPv6Hint, Value: netip.MustParseAddr("2001:db8::5").AsSlice()}}}})),
			Message{Name: "shop.example", Type: 65, TTL: 30, Answers: "192.0.2.1 192.0.2.2 2001:db8::5 https:.", Addresses: addresses("192.0.2.1", "192.0.2.2", "2001:db8::5")}},
		"no address": {
			answer(t, "example.com.", dnsmessage.TypeTXT, resource("example.com.", 9, &dnsmessage.TXTResource{TXT: []string{"secret"}}), resource("example.com.", 8, &dnsmessage.MXResource{MX: dnsmessage.MustNewName("mail.example.com.")})),
			Message{Name: "example.com", Type: 16, TTL: 8, Answers: "mx:mail.example.com txt:7"}},
		"nothing": {answer(t, ".", dnsmessage.TypeNS), Message{Name: ".", Type: 2}},
	} {
		got, err := Parse(c.message)
		if err != nil || got.Name != c.want.Name || got.Type != c.want.Type || got.TTL != c.want.TTL || got.Answers != c.want.Answers || !slices.Equal(got.Addresses, c.want.Addresses) {
			t.Errorf("%s:\ngot  %+v, %v\nwant %+v", name, got, err, c.want)
		}
	}
	refused := answer(t, "no.example.", dnsmessage.TypeA)
	refused[3] |= 3
	if got, err := Parse(refused); err != nil || got.Rcode != 3 {
		t.Errorf("got %+v, %v", got, err)
	}
}

// What cannot be read is said, and what came before it is kept.
func TestParseHostile(t *testing.T) {
	whole := answer(t, "a.example.", dnsmessage.TypeA, resource("a.example.", 9, a("192.0.2.1")), resource("a.example.", 9, a("192.0.2.2")))
	if got, err := Parse(whole[:len(whole)-2]); err != nil || got.Answers != "192.0.2.1 …" {
		t.Errorf("cut: %+v, %v", got, err)
	}
	query := slices.Clone(whole)
	query[2] &^= 0x80
	circle := []byte{0, 0, 0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1}
	for name, b := range map[string][]byte{"empty": nil, "a question": query, "a pointer to itself": circle, "no question": {0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0}} {
		if got, err := Parse(b); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
	odd := "\x00\x1b[31m \u202eexe.\\,b.example."
	if got, err := Parse(answer(t, odd, dnsmessage.TypeA)); err != nil || got.Name != `\x00\x1b[31m\x20\u{202e}exe.\\\x2cb.example` {
		t.Errorf("got %+v, %v", got, err)
	}
	dotted := append([]byte{0, 7, 0x80, 3, 0, 1, 0, 0, 0, 0, 0, 0}, "\x05A.b,c\x04\x00\x1b.\x80\x04test\x00\x00\x10\x00\x01"...)
	if got, err := Parse(dotted); err != nil || got.Name != `a\x2eb\x2cc.\x00\x1b\x2e\x80.test` || got.Type != 16 || got.Rcode != 3 || got.Answers != "…" {
		t.Errorf("labels with dots: got %+v, %v", got, err)
	}
	for n := range dotted {
		if got, err := Parse(dotted[:n]); err == nil {
			t.Errorf("%d bytes of labels with dots: %+v", n, got)
		}
	}
	var many []dnsmessage.Resource
	for i := range 3000 {
		many = append(many, resource("a.example.", 9, a(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}).String())))
	}
	got, err := Parse(answer(t, "a.example.", dnsmessage.TypeA, many...))
	if err != nil || len(got.Addresses) != mostAddresses || len(got.Answers) > mostText+len(" …") || !strings.HasSuffix(got.Answers, "…") {
		t.Errorf("of 3,000 addresses: %d, %q, %v", len(got.Addresses), got.Answers, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(answer(f, "a.example.", dnsmessage.TypeA, resource("a.example.", 9, a("192.0.2.1"))))
	f.Add(append([]byte{0, 7, 0x80, 3, 0, 1, 0, 0, 0, 0, 0, 0}, "\x05A.b,c\x04test\x00\x00\x10\x00\x01"...))
	f.Add(answer(f, "a.example.", dnsmessage.TypeAAAA, resource("a.example.", 9, cname("b.example.")), resource("b.example.", 9, aaaa("2001:db8::1"))))
	f.Add(answer(f, "a.example.", dnsmessage.TypeHTTPS, resource("a.example.", 9, &dnsmessage.HTTPSResource{SVCBResource: dnsmessage.SVCBResource{Target: dnsmessage.MustNewName("."), Params: []dnsmessage.SVCParam{{Key: dnsmessage.SVCParamIPv4Hint, Value: []byte{1, 2, 3, 4}}}}})))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Parse(b)
		if err != nil {
			return
		}
		for _, text := range []string{m.Name, m.Answers} {
			if strings.IndexFunc(text, func(r rune) bool { return r != ' ' && !unicode.IsPrint(r) }) >= 0 || len(m.Answers) > mostText+4 {
				t.Errorf("%q", text)
			}
		}
		if strings.Contains(m.Name, " ") || len(m.Addresses) > mostAddresses {
			t.Errorf("%+v", m)
		}
	})
}

func TestStreams(t *testing.T) {
	framed := func(texts ...string) (b []byte) {
		for _, text := range texts {
			b = append(binary.BigEndian.AppendUint16(b, uint16(len(text))), text...)
		}
		return b
	}
	two := framed("first", "second one")
	type segment struct {
		at    int
		bytes []byte
		cut   int // bytes that are not at hand
	}
	for name, c := range map[string]struct {
		segments []segment
		want     []string
		broken   uint64
	}{
		"whole":                     {[]segment{{0, two, 0}}, []string{"first", "second one"}, 0},
		"again, and partly":         {[]segment{{0, two[:9], 0}, {0, two[:9], 0}, {5, two[5:12], 0}, {12, two[12:], 0}}, []string{"first", "second one"}, 0},
		"a hole":                    {[]segment{{0, two[:4], 0}, {7, two[7:], 0}}, []string{"second one"}, 1},
		"cut, and what comes then":  {[]segment{{0, two[:5], 2}, {7, two[7:], 0}}, []string{"second one"}, 1},
		"no length":                 {[]segment{{0, []byte{0, 0, 1}, 0}, {3, two, 0}}, []string{"first", "second one"}, 1},
		"an end that does not come": {[]segment{{0, two[:8], 0}}, []string{"first"}, 0},
	} {
		for _, begin := range []uint32{0, 1<<32 - 6} { // where numbers begin anew
			var s Streams
			var got []string
			for _, one := range c.segments {
				s.Add(7, begin+uint32(one.at), one.bytes, len(one.bytes)+one.cut, func(b []byte) { got = append(got, string(b)) })
			}
			if !slices.Equal(got, c.want) || s.Broken() != c.broken {
				t.Errorf("%s: got %q, %d broken", name, got, s.Broken())
			}
		}
	}
	var s Streams
	for i := range uint64(1000) {
		s.Add(i, 0, []byte{0xff}, 1, nil)
	}
	if len(s.of) != mostStreams || s.Broken() != 1000-mostStreams {
		t.Errorf("%d streams, %d broken", len(s.of), s.Broken())
	}
}

func FuzzStreams(f *testing.F) {
	f.Add([]byte("\x00\x02ab\x00\x01c"), uint8(3), uint32(5))
	f.Fuzz(func(t *testing.T, b []byte, size uint8, begin uint32) {
		var s Streams
		var got []byte
		at := begin
		for part := range slices.Chunk(b, int(size)+1) {
			s.Add(1, at, part, len(part), func(m []byte) { got = append(append(got, byte(len(m)>>8), byte(len(m))), m...) })
			at += uint32(len(part))
		}
		if s.Broken() == 0 && !bytes.HasPrefix(b, got) {
			t.Errorf("%q gave %q", b, got)
		}
	})
}
