// Package indicator reads what others say is bad: lists of addresses, ranges,
// ports, names, paths and hashes, as plain text, CSV, STIX 2.1 or MISP, and finds
// in a list of any length those that something matches.
//
// It knows nothing of tapes. Lists come from anywhere and are never trusted: what
// cannot be understood is counted and told, and never guessed.
package indicator

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/gaissmai/bart"
)

// Kind says what an indicator is of.
type Kind string

// The kinds of indicators.
const (
	Address Kind = "address"
	Range   Kind = "range" // a CIDR
	Port    Kind = "port"
	Name    Kind = "name" // of a host, or of a file
	Path    Kind = "path" // of a program or a UNIX socket; @name of an abstract one
	Hash    Kind = "hash"
)

// Kinds returns all kinds, in the order in which they are told.
func Kinds() []Kind { return []Kind{Address, Range, Port, Name, Path, Hash} }

// Indicator is one thing to look for.
type Indicator struct {
	Kind  Kind
	Text  string // in its one canonical form
	Port  uint16 // with an address, range or name: this port alone; 0 any
	Label string // what the list says of it, cut to a line; "" nothing
	Line  int    // where it was read, the first time: see Problem

	shortened bool // a CIDR that names an address inside of its range
}

// String returns the indicator as people write it.
func (i *Indicator) String() string {
	if i.Port == 0 || i.Kind == Port {
		return i.Text
	}
	if a, err := netip.ParseAddr(i.Text); err == nil {
		return netip.AddrPortFrom(a, i.Port).String()
	}
	return i.Text + ":" + portText(i.Port)
}

// Set is what to look for. Looking something up costs the same however many
// indicators there are. The zero value is empty and ready to use.
type Set struct {
	ranges bart.Table[[]*Indicator] // addresses too, each a range of one
	words  map[Kind]map[string][]*Indicator
	count  map[Kind]int
}

// Add takes an indicator in. It returns false when there is an equal one already.
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

// Count returns how many indicators of a kind there are.
func (s *Set) Count(kind Kind) int { return s.count[kind] }

// Len returns how many indicators there are.
func (s *Set) Len() int {
	n := 0
	for _, c := range s.count {
		n += c
	}
	return n
}

// ByAddress returns the indicators that an address and port match: those of the
// address and every range that holds it, and of the port. A port of 0 is none.
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

// ByFile returns the indicators of the name of a file.
func (s *Set) ByFile(name string) []*Indicator { return s.words[Name][strings.ToLower(name)] }

// ByHost returns the indicators of the name of a host, and of every domain that
// it is in: evil.example matches www.evil.example.
func (s *Set) ByHost(name string) []*Indicator {
	names := s.words[Name]
	if len(names) == 0 {
		return nil
	}
	var found []*Indicator
	name = strings.ToLower(strings.TrimSuffix(name, "."))
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
