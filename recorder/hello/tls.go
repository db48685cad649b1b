package hello

import (
	"errors"
	"strings"

	"golang.org/x/crypto/cryptobyte"

	"github.com/conntape/conntape/recorder/dns"
)

// Numbers of RFC 8446, 6066, 7301 and 9849.
const (
	recordHandshake = 22
	clientHello     = 1
	mostRecord      = 1 << 14

	extensionServerName = 0
	extensionALPN       = 16
	extensionECH        = 0xfe0d
	nameTypeHost        = 0
	echOuter            = 0
)

var errTLS = errors.New("it is no ClientHello as TLS has it")

// parseTLS reads records until they have a whole ClientHello.
func parseTLS(b []byte) (Said, error) {
	var message []byte
	for s := cryptobyte.String(b); ; {
		if len(message) >= 4 {
			n := 4 + (int(message[1])<<16 | int(message[2])<<8 | int(message[3]))
			if message[0] != clientHello || n > MostBytes {
				return Said{}, errTLS
			}
			if len(message) >= n {
				return parseClientHello(message[4:n])
			}
		}
		if len(s) < 5 {
			return Said{}, ErrIncomplete
		}
		var kind uint8
		var version, size uint16
		if !s.ReadUint8(&kind) || !s.ReadUint16(&version) || !s.ReadUint16(&size) {
			return Said{}, ErrIncomplete
		}
		if kind != recordHandshake || version>>8 != 3 || size == 0 || size > mostRecord {
			return Said{}, errTLS
		}
		part := min(int(size), len(s))
		message = append(message, s[:part]...)
		s = s[part:]
	}
}

// parseClientHello reads the body of the message.
func parseClientHello(b []byte) (Said, error) {
	said := Said{Kind: SNI}
	var session, suites, methods, extensions cryptobyte.String
	s := cryptobyte.String(b)
	if !s.Skip(2+32) || !s.ReadUint8LengthPrefixed(&session) || !s.ReadUint16LengthPrefixed(&suites) || !s.ReadUint8LengthPrefixed(&methods) {
		return Said{}, errTLS
	}
	if s.Empty() { // as SSL 3.0 has it
		return Said{}, ErrNameless
	}
	if !s.ReadUint16LengthPrefixed(&extensions) || !s.Empty() {
		return Said{}, errTLS
	}
	for !extensions.Empty() {
		var kind uint16
		var data cryptobyte.String
		if !extensions.ReadUint16(&kind) || !extensions.ReadUint16LengthPrefixed(&data) || !said.extension(kind, data) {
			return Said{}, errTLS
		}
	}
	if said.Name == "" {
		return Said{}, ErrNameless
	}
	return said, nil
}

// extension takes one of them. False: it is malformed.
func (s *Said) extension(kind uint16, data cryptobyte.String) bool {
	switch kind {
	case extensionServerName:
		return s.serverName(data)
	case extensionALPN:
		return s.protocols(data)
	case extensionECH:
		s.ECH = len(data) > 0 && data[0] == echOuter
	}
	return true
}

// serverName reads a list of names, of which the first of a host counts.
func (s *Said) serverName(data cryptobyte.String) bool {
	var list cryptobyte.String
	if s.Name != "" || !data.ReadUint16LengthPrefixed(&list) || !data.Empty() {
		return false
	}
	for !list.Empty() {
		var kind uint8
		var name cryptobyte.String
		if !list.ReadUint8(&kind) || !list.ReadUint16LengthPrefixed(&name) {
			return false
		}
		if kind == nameTypeHost && s.Name == "" {
			s.Name = nameText(string(name))
		}
	}
	return true
}

// protocols reads a list of protocols: as many as there is room for.
func (s *Said) protocols(data cryptobyte.String) bool {
	var list cryptobyte.String
	if !data.ReadUint16LengthPrefixed(&list) || !data.Empty() {
		return false
	}
	var all []string
	size := 0
	for !list.Empty() {
		var one cryptobyte.String
		if !list.ReadUint8LengthPrefixed(&one) {
			return false
		}
		text := dns.Text(string(one))
		if size += 1 + len(text); size > mostALPN {
			all = append(all, "…")
			break
		}
		all = append(all, text)
	}
	s.ALPN = strings.Join(all, " ")
	return true
}
