// Package hello reads which server a client names in the first bytes that it sends on a TCP connection: the server_name of a TLS
// ClientHello, or the Host of an HTTP request.
//
// The bytes are an attacker's. It knows nothing of who sent them, and keeps nothing of them but the name and what protocols the client
// offers.
package hello

import (
	"errors"
	"net/netip"
	"strings"
	"unicode/utf8"

	"github.com/conntape/conntape/recorder/dns"
)

// Kind is the protocol that has a name.
type Kind uint8

// The kinds.
const (
	SNI  Kind = iota + 1 // server_name of TLS (RFC 6066)
	Host                 // of HTTP/1
)

// Said is what a client says first.
type Said struct {
	Kind Kind
	Name string // in lower case, without port and the dot at its end, escaped (see [dns.Text]); "…" at its end: it is longer
	ALPN string // protocols of the application that it offers, with a space between two, escaped
	ECH  bool   // there is an Encrypted ClientHello too (or GREASE, which looks the same): Name may be that of the outer one
}

// Bounds of what is kept.
const (
	mostName = 255 // bytes; no DNS name is longer
	mostALPN = 256
)

// Errors of Parse.
var (
	// ErrIncomplete means that more bytes may name a server.
	ErrIncomplete = errors.New("it is not complete")
	// ErrNameless means that it is complete and names none: there is no name, or it is an address.
	ErrNameless = errors.New("it names no server")

	errOther = errors.New("it is neither TLS nor HTTP")
)

// Parse reads the first bytes of a connection.
func Parse(b []byte) (Said, error) {
	if len(b) == 0 {
		return Said{}, ErrIncomplete
	}
	if b[0] == recordHandshake {
		return parseTLS(b)
	}
	return parseHTTP(b)
}

// nameText returns a name of a server as it is kept, "" if it is none.
func nameText(name string) string {
	if _, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
		return ""
	}
	if len(name) <= mostName {
		return dns.Text(name)
	}
	cut := mostName
	for cut > mostName-utf8.UTFMax && !utf8.RuneStart(name[cut]) {
		cut--
	}
	return dns.Text(name[:cut]) + "…"
}
