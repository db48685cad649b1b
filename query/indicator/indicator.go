// Package indicator reads lists of indicators of compromise: addresses, ranges, ports, names, paths and hashes, as plain
// text, CSV, STIX 2.1 or MISP. It finds the indicators that match an address, name or path, as fast in a long list as in
// a short one.
//
// It knows nothing of tapes. Lists come from anywhere and are not trusted: it reports the lines that it does not
// understand, and never guesses.
//
// Read takes a list through these steps:
//
//  1. decode.go, read.go: text in UTF-8, and by its first bytes one of the formats. JSON (json.go, misp.go, stix.go) and tables with a
//     header (table.go, spaced.go) are records, XML (xml.go) has a schema, a page (html.go) becomes text.
//  2. text.go: lines. Comments, mails' headers and parts below a heading that says to let them pass go (comment.go, mail.go, skip.go); lines
//     that belong together come together (block.go, lone.go, zone.go, and the ends of a range in forms.go).
//  3. line.go: a line alone. It is one indicator; or a form that programs write (lineForms); or an indicator and a comment; or a row without a
//     header; or running text. Markdown, ranges and masks are brought into one notation before (markdown.go, forms.go).
//  4. row.go: a record by the meaning of its columns. cell.go: cells or words without a header: addresses with what belongs to them.
//  5. parse.go, ranges.go, refang.go: one indicator in any notation.
//  6. Reading.add: what the words beside it call harmless is a problem (harmless.go), and a number beside it waits until all of the list tells
//     whether such numbers are ports (beside.go).
//
// Each entry ends as an indicator, as left out for a reason, or as a problem. An address whose port, exception or side of a connection is not
// understood is a problem: alone it would match more than the list says (ports.go, exceptions.go, logs.go, version.go).
package indicator

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/gaissmai/bart"
)

// Kind is the kind of an indicator.
type Kind string

// Kinds of indicators.
const (
	Address Kind = "address"
	Range   Kind = "range" // a CIDR
	Port    Kind = "port"
	Name    Kind = "name" // of a host, or of a file
	Path    Kind = "path" // of a program or a UNIX socket; @name of an abstract one
	Hash    Kind = "hash"
)

// Kinds returns all kinds, in the order of reports.
func Kinds() []Kind { return []Kind{Address, Range, Port, Name, Path, Hash} }

// Indicator is one thing to look for.
type Indicator struct {
	Kind  Kind
	Text  string // canonical
	Port  uint16 // of an address, range or name: match this port only; 0: any
	Label string // the list's remark, cut to a line; "": none
	Line  int    // first line that has it: see Problem

	shortened bool // a CIDR with host bits: 198.51.100.66/24
	beside    bool // Port is a number beside it, which may be anything
	besides   bool // there is another one
}

// String returns the indicator in the usual notation.
func (i *Indicator) String() string {
	if i.Port == 0 || i.Kind == Port {
		return i.Text
	}
	if a, err := netip.ParseAddr(i.Text); err == nil {
		return netip.AddrPortFrom(a, i.Port).String()
	}
	return i.Text + ":" + portText(i.Port)
}

// OnTape tells whether a tape has digests of programs of the kind of this one: it has MD5, SHA-1 and SHA-256.
func (i *Indicator) OnTape() bool {
	return i.Kind == Hash && (len(i.Text) == 32 || len(i.Text) == 40 || len(i.Text) == 64)
}

// everything is the reason for leaving out such an indicator beside others: in a rule it is the side that may be anybody.
const everything = "every address, or the host itself, beside one"

// isEverything reports whether an indicator is the range of all addresses, the address that stands for any, or that of the host itself.
func (i *Indicator) isEverything() bool {
	switch i.Kind {
	case Range:
		return strings.HasSuffix(i.Text, "/0")
	case Address:
		return i.Text == "0.0.0.0" || i.Text == "::" || i.Text == "::1" || strings.HasPrefix(i.Text, "127.")
	}
	return false
}

// Set is a set of indicators. A lookup costs the same for any number of indicators. The zero value is empty and ready
// to use.
type Set struct {
	ranges bart.Table[[]*Indicator] // addresses too, as ranges of one address
	words  map[Kind]map[string][]*Indicator
	count  map[Kind]int
}

// Add adds an indicator. It returns false if the set has an equal one.
func (s *Set) Add(i *Indicator) bool {
	if s.words == nil {
		s.words, s.count = make(map[Kind]map[string][]*Indicator), make(map[Kind]int)
	}
	if i.Kind == Address || i.Kind == Range {
		prefix, ok := parsePrefix(i.Text)
		if !ok {
			return false
		}
		known, _ := s.ranges.Get(prefix)
		if has(known, i) {
			return false
		}
		s.ranges.Insert(prefix, append(known, i))
	} else {
		if s.words[i.Kind] == nil {
			s.words[i.Kind] = make(map[string][]*Indicator)
		}
		known := s.words[i.Kind][i.Text]
		if has(known, i) {
			return false
		}
		s.words[i.Kind][i.Text] = append(known, i)
	}
	s.count[i.Kind]++
	return true
}

func has(list []*Indicator, i *Indicator) bool {
	return slices.ContainsFunc(list, func(k *Indicator) bool { return k.Port == i.Port && k.Kind == i.Kind })
}

// Count returns the number of indicators of a kind.
func (s *Set) Count(kind Kind) int { return s.count[kind] }

// Len returns the number of indicators.
func (s *Set) Len() int {
	n := 0
	for _, c := range s.count {
		n += c
	}
	return n
}

// ByAddress returns the indicators that match an address and port: the address, every range that contains it, and the
// port. Port 0 means no port.
func (s *Set) ByAddress(a netip.Addr, port uint16) []*Indicator {
	var found []*Indicator
	a = a.Unmap().WithZone("")
	if a.IsValid() {
		for _, list := range s.ranges.Supernets(netip.PrefixFrom(a, a.BitLen())) {
			for _, i := range list {
				if i.Port == 0 || i.Port == port {
					found = append(found, i)
				}
			}
		}
	}
	if port != 0 {
		found = append(found, s.words[Port][portText(port)]...)
	}
	return found
}

// ByPath returns the indicators of a path.
func (s *Set) ByPath(path string) []*Indicator { return s.words[Path][path] }

// ByHash returns the indicators of a digest in hex.
func (s *Set) ByHash(digest string) []*Indicator { return s.words[Hash][digest] }

// OtherHashes returns how many digests are of a kind that a tape does not have.
func (s *Set) OtherHashes() (n int) {
	for _, list := range s.words[Hash] {
		for _, i := range list {
			if !i.OnTape() {
				n++
			}
		}
	}
	return n
}

// ByFile returns the indicators of a file's name.
func (s *Set) ByFile(name string) []*Indicator {
	return s.words[Name][asciiName(strings.ToLower(name))]
}

// ByHost returns the indicators of a host's name and of its parent domains: evil.example matches www.evil.example.
func (s *Set) ByHost(name string) []*Indicator {
	names := s.words[Name]
	if len(names) == 0 {
		return nil
	}
	var found []*Indicator
	name = asciiName(strings.ToLower(strings.TrimSuffix(name, ".")))
	for name != "" {
		found = append(found, names[name]...)
		_, rest, ok := strings.Cut(name, ".")
		if !ok || !strings.Contains(rest, ".") {
			break // never a top-level domain alone
		}
		name = rest
	}
	return found
}
