package indicator

import (
	"bufio"
	"bytes"

	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
)

// binaryKind returns the reason for not reading a binary list, with advice; "" for text.
func binaryKind(in *bufio.Reader) string {
	head, _ := in.Peek(512)
	for _, kind := range []struct{ magic, why string }{
		{"\x1f\x8b", "it is compressed (gzip): unpack it first"},
		{"BZh", "it is compressed (bzip2): unpack it first"},
		{"\xfd7zXZ", "it is compressed (xz): unpack it first"},
		{"\x28\xb5\x2f\xfd", "it is compressed (zstd): unpack it first"},
		{"PK\x03\x04", "it is an archive or a spreadsheet (zip): unpack it, or save it as CSV"},
		{"\xd0\xcf\x11\xe0", "it is an old spreadsheet or document: save it as CSV or text"},
		{"%PDF-", "it is PDF: save it as text"},
		{"\xff\xfe\x00\x00", "it is UTF-32: save it as UTF-8"},
		{"\x00\x00\xfe\xff", "it is UTF-32: save it as UTF-8"},
		{"SQLite format 3\x00", "it is a database and no list"},
	} {
		if bytes.HasPrefix(head, []byte(kind.magic)) {
			return kind.why
		}
	}
	return ""
}

// decoded returns a list as UTF-8 without byte order mark. It recognizes UTF-16 by its mark, or by a zero in every
// other byte.
func decoded(in *bufio.Reader) *bufio.Reader {
	head, _ := in.Peek(512)
	fallback := transform.Transformer(transform.Nop)
	even, odd := 0, 0
	for i, b := range head {
		switch {
		case b != 0:
		case i%2 == 0:
			even++
		default:
			odd++
		}
	}
	switch {
	case len(head) >= 4 && odd > len(head)/3 && even == 0:
		fallback = unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM).NewDecoder()
	case len(head) >= 4 && even > len(head)/3 && odd == 0:
		fallback = unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM).NewDecoder()
	}
	return bufio.NewReaderSize(transform.NewReader(in, unicode.BOMOverride(fallback)), 64<<10)
}
