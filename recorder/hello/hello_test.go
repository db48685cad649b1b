package hello

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// said is what crypto/tls says first.
func said(t testing.TB, config *tls.Config) []byte {
	t.Helper()
	client, server := net.Pipe()
	defer server.Close()
	go func() { _ = tls.Client(client, config).Handshake(); client.Close() }()
	b := make([]byte, 64<<10)
	n, err := server.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}

// extended is a ClientHello with these extensions, in records of so many bytes.
func extended(record int, extensions ...[]byte) []byte {
	all := slices.Concat(extensions...)
	body := append(make([]byte, 34), 0, 0, 2, 0x13, 1, 1, 0)
	body = append(binary.BigEndian.AppendUint16(body, uint16(len(all))), all...)
	message := append([]byte{1, byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body))}, body...)
	var b []byte
	for part := range slices.Chunk(message, record) {
		b = append(binary.BigEndian.AppendUint16(append(b, 22, 3, 1), uint16(len(part))), part...)
	}
	return b
}

func extension(kind uint16, data string) []byte {
	b := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, kind), uint16(len(data)))
	return append(b, data...)
}

func named(name string) []byte {
	n := len(name)
	return extension(0, string([]byte{byte((n + 3) >> 8), byte(n + 3), 0, byte(n >> 8), byte(n)})+name)
}

func TestParse(t *testing.T) {
	long := strings.Repeat("a", 16_000)
	for name, c := range map[string]struct {
		bytes []byte
		want  Said
		err   error
	}{
		"crypto/tls":         {said(t, &tls.Config{ServerName: "WWW.Example.com", NextProtos: []string{"h2", "http/1.1"}}), Said{Kind: SNI, Name: "www.example.com", ALPN: "h2 http/1.1"}, nil},
		"without a name":     {said(t, &tls.Config{InsecureSkipVerify: true}), Said{}, ErrNameless},
		"an address":         {extended(9999, named("192.0.2.1")), Said{}, ErrNameless},
		"small records":      {extended(7, named("example.com")), Said{Kind: SNI, Name: "example.com"}, nil},
		"ECH":                {extended(9999, named("outer.example"), extension(0xfe0d, "\x00\x00\x01")), Said{Kind: SNI, Name: "outer.example", ECH: true}, nil},
		"long":               {extended(16384, named(long)), Said{Kind: SNI, Name: long[:255] + "…"}, nil},
		"NUL, ANSI and bidi": {extended(9999, named("a\x00\x1b[31m\u202e b,c")), Said{Kind: SNI, Name: `a\x00\x1b[31m\u{202e}\x20b\x2cc`}, nil},
		"two names":          {extended(9999, named("a.example"), named("b.example")), Said{}, errTLS},
		"no ClientHello":     {[]byte{22, 3, 3, 0, 4, 2, 0, 0, 0}, Said{}, errTLS},
		"not TLS":            {[]byte{22, 9, 3, 0, 4}, Said{}, errTLS},
		"begun":              {[]byte{22, 3, 3}, Said{}, ErrIncomplete},
		"nothing":            {nil, Said{}, ErrIncomplete},
		"too long":           {[]byte{22, 3, 3, 0, 4, 1, 0xff, 0, 0}, Said{}, errTLS},
		"HTTP":               {[]byte("GET / HTTP/1.1\r\nUser-Agent: x\r\nhOST:  Example.COM:8080 \r\n"), Said{Kind: Host, Name: "example.com"}, nil},
		"HTTP, LF alone":     {[]byte("GET / HTTP/1.0\nHost: example.com\n\n"), Said{Kind: Host, Name: "example.com"}, nil},
		"HTTP by address":    {[]byte("GET / HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n\r\n"), Said{}, ErrNameless},
		"HTTP without Host":  {[]byte("GET / HTTP/1.0\r\n\r\n"), Said{}, ErrNameless},
		"a proxy's":          {[]byte("GET http://example.com:81/x HTTP/1.0\r\n\r\n"), Said{Kind: Host, Name: "example.com"}, nil},
		"CONNECT":            {[]byte("CONNECT example.com:443 HTTP/1.0\r\n\r\n"), Said{Kind: Host, Name: "example.com"}, nil},
		"a proxy's, whose Host says something else": {[]byte("GET http://bad.example/x HTTP/1.1\r\nHost: good.example\r\n\r\n"), Said{Kind: Host, Name: "bad.example"}, nil},
		"CONNECT, whose Host says something else":   {[]byte("CONNECT bad.example:443 HTTP/1.1\r\nHost: good.example\r\n\r\n"), Said{Kind: Host, Name: "bad.example"}, nil},
		"a proxy's by address":                      {[]byte("GET http://192.0.2.1:81/x HTTP/1.1\r\nHost: good.example\r\n\r\n"), Said{}, ErrNameless},
		"OPTIONS of all":                            {[]byte("OPTIONS * HTTP/1.1\r\nHost: example.com\r\n\r\n"), Said{Kind: Host, Name: "example.com"}, nil},
		"Host in the body":                          {[]byte("POST / HTTP/1.0\r\n\r\nHost: example.com\r\n"), Said{}, ErrNameless},
		"HTTP begun":                                {[]byte("GET / HTTP/1.1\r\nHost: example.com"), Said{}, ErrIncomplete},
		"HTTP that is long":                         {[]byte("GET / HTTP/1.1\r\nCookie: " + strings.Repeat("x", MostRequest)), Said{}, ErrNameless},
		"hostile Host":                              {[]byte("GET / HTTP/1.1\r\nHost: a\x1b]0;x\a\u202eb\r\n"), Said{Kind: Host, Name: `a\x1b]0;x\x07\u{202e}b`}, nil},
		"no HTTP":                                   {[]byte("GET me\r\nHost: example.com\r\n\r\n"), Said{}, errOther},
	} {
		if got, err := Parse(c.bytes); got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
}

func TestStreams(t *testing.T) {
	b := extended(100, named("example.com"))
	for size := range len(b) {
		if len(b)/(size+1) >= mostParts {
			continue
		}
		var s Streams[int]
		found := 0
		at := 0
		for part := range slices.Chunk(b, size+1) {
			for range 2 { // each comes twice
				if said, ok := s.Add(1, at, part); ok && said.Name == "example.com" {
					found++
				}
			}
			at += len(part)
		}
		if want := 1; found != want && size+1 < len(b) || s.Broken() != 0 || len(s.of) != 0 {
			t.Errorf("in parts of %d: found %d times, %d broken", size+1, found, s.Broken())
		}
	}
	var s Streams[int]
	s.Add(1, 0, b[:20])
	if _, ok := s.Add(1, 30, b[30:]); ok || s.Broken() != 1 {
		t.Error("a part was missing, and nobody saw it")
	}
	for i := range mostParts + 1 {
		s.Add(1, i, []byte{22, 3, 3, 9}[min(i, 3):][:1])
	}
	if len(s.of) != 0 || s.Broken() != 2 {
		t.Errorf("%d streams of too many parts, %d broken", len(s.of), s.Broken())
	}
	for i := range 1000 {
		s.Add(i, 0, b[:20])
	}
	if len(s.of) != mostStreams || s.Broken() != 2+1000-mostStreams {
		t.Errorf("%d streams, %d broken", len(s.of), s.Broken())
	}
}

func FuzzParse(f *testing.F) {
	f.Add(extended(100, named("example.com"), extension(16, "\x00\x03\x02h2"), extension(0xfe0d, "\x00")))
	f.Add([]byte("GET http://x/ HTTP/1.1\r\nHost: example.com:80\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		said, err := Parse(b)
		if (err == nil) != (said.Name != "") {
			t.Errorf("%q: %+v, %v", b, said, err)
		}
		for _, text := range []string{said.Name, said.ALPN} {
			if len(text) > 4*(mostName+mostALPN) || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f || unicode.Is(unicode.Cf, r) }) {
				t.Errorf("%q has %q", b, text)
			}
		}
		if strings.Contains(said.Name, " ") {
			t.Errorf("%q is several names", said.Name)
		}
		var s Streams[int]
		for i := range b { // byte by byte it is the same, or malformed sooner
			if got, ok := s.Add(1, i, b[i:i+1]); ok && got.Name == "" {
				t.Errorf("%q: %+v", b, got)
			}
		}
	})
}
