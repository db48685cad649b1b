package dns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/conntape/conntape/store/escape"
)

// Bounds of what is read of one message: a server may send 64 KiB of anything.
const (
	mostAddresses = 256 // that are known by the name
	mostText      = 512 // of Answers, bytes
	mostLinks     = 16  // of a chain of CNAMEs
)

// Message is an answer.
type Message struct {
	Name      string       // asked for, in lower case, without the dot at its end, escaped (see [Text])
	Type      uint16       // asked for: 1 is A, 28 AAAA
	Rcode     uint16       // 0: no error, 3: there is no such name
	Answers   string       // records of the answer, see [Parse]
	TTL       uint32       // seconds, the least of the records that lead from Name to an address; of no address, of all. 0: no record
	Addresses []netip.Addr // that Name leads to, by CNAMEs and hints of HTTPS and SVCB
}

// Errors of Parse.
var (
	errNoAnswer = errors.New("it is no answer")
	errQuestion = errors.New("it does not say what was asked")
)

// Text returns a DNS name as text without spaces: in lower case, without the dot at its end, and anything that is not plainly
// visible, a space or a comma as an escape.
func Text(name string) string {
	if name != "." {
		name = strings.TrimSuffix(name, ".")
	}
	return escape.String(lower(name), func(c byte) bool { return c == ' ' || c == ',' || c == '"' })
}

// lower folds the case that DNS folds: that of ASCII.
func lower(name string) string {
	if strings.IndexFunc(name, func(r rune) bool { return r >= 'A' && r <= 'Z' }) < 0 {
		return name
	}
	b := []byte(name)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// Parse reads an answer. Answers has the chain of names first ("cname:www.example.net"), then addresses in order, then what else
// there is: "mx:", "ns:", "ptr:", "srv:", "https:" and "svcb:" with a name, "txt:" and "type99:" with a number of bytes. Where it ends in
// "…" there is more: too much, or what cannot be read.
func Parse(b []byte) (m Message, err error) {
	var p dnsmessage.Parser
	h, err := p.Start(b)
	switch {
	case err != nil:
		return m, fmt.Errorf("parse answer: %w", err)
	case !h.Response || h.OpCode != 0:
		return m, errNoAnswer
	}
	q, err := p.Question()
	if err != nil {
		if name, kind, ok := oddQuestion(b); ok {
			return Message{Name: name, Type: kind, Rcode: uint16(h.RCode), Answers: "…"}, nil
		}
		return m, fmt.Errorf("%w: %w", errQuestion, err)
	}
	if err := p.SkipAllQuestions(); err != nil {
		return m, fmt.Errorf("parse answer: %w", err)
	}
	m = Message{Name: Text(q.Name.String()), Type: uint16(q.Type), Rcode: uint16(h.RCode)}
	r := reader{owners: []string{lower(q.Name.String())}}
	whole := r.read(&p) && !h.Truncated
	r.fill(&m, whole)
	return m, nil
}

// oddQuestion reads the question of a message that the library refuses because a label of the name has a dot in it, which is no separator
// there: an escape says so. A tunnel's name is to be seen, whatever bytes it is made of; what was answered is not read.
func oddQuestion(b []byte) (name string, kind uint16, ok bool) {
	const header, mostName, mostLabel = 12, 255, 63
	var text strings.Builder
	for at := header; at < len(b) && at < header+mostName; {
		n := int(b[at])
		at++
		if n == 0 {
			if len(b) < at+4 {
				break
			}
			return strings.TrimSuffix(text.String(), "."), binary.BigEndian.Uint16(b[at:]), text.Len() > 0
		}
		if n > mostLabel || at+n > len(b) {
			break
		}
		text.WriteString(escape.String(lower(string(b[at:at+n])), func(c byte) bool { return c == '.' || c == ' ' || c == ',' || c == '"' }))
		text.WriteByte('.')
		at += n
	}
	return "", 0, false
}

// record is one that may lead from the name to an address.
type record struct {
	owner     string
	ttl       uint32
	target    string // of a CNAME, HTTPS or SVCB
	alias     bool   // it is a CNAME
	addresses []netip.Addr
	text      string
}

// reader collects the records of an answer.
type reader struct {
	owners  []string // names that the one asked for leads to
	records []record
}

// mostRecords bounds those that are read.
const mostRecords = 1024

// read reads the records. False: there are more.
func (r *reader) read(p *dnsmessage.Parser) bool {
	for len(r.records) < mostRecords {
		h, err := p.AnswerHeader()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			return true
		}
		if err != nil {
			return false
		}
		one, err := readRecord(p, h)
		if err != nil {
			return false
		}
		one.owner, one.ttl = lower(h.Name.String()), h.TTL
		r.records = append(r.records, one)
	}
	return false
}

func readRecord(p *dnsmessage.Parser, h dnsmessage.ResourceHeader) (one record, err error) {
	named := func(kind string, name dnsmessage.Name) { one.text = kind + ":" + Text(name.String()) }
	if h.Class != dnsmessage.ClassINET {
		return record{text: fmt.Sprintf("type%d:%d", h.Type, h.Length)}, p.SkipAnswer()
	}
	switch h.Type {
	case dnsmessage.TypeA:
		a, err := p.AResource()
		one.addresses = []netip.Addr{netip.AddrFrom4(a.A)}
		return one, err
	case dnsmessage.TypeAAAA:
		a, err := p.AAAAResource()
		one.addresses = []netip.Addr{netip.AddrFrom16(a.AAAA).Unmap()}
		return one, err
	case dnsmessage.TypeCNAME:
		c, err := p.CNAMEResource()
		if err == nil {
			one.target, one.alias = lower(c.CNAME.String()), true
			named("cname", c.CNAME)
		}
		return one, err
	case dnsmessage.TypeHTTPS:
		s, err := p.HTTPSResource()
		return serviceOf("https", s.SVCBResource), err
	case dnsmessage.TypeSVCB:
		s, err := p.SVCBResource()
		return serviceOf("svcb", s), err
	case dnsmessage.TypeMX:
		x, err := p.MXResource()
		named("mx", x.MX)
		return one, err
	case dnsmessage.TypeNS:
		x, err := p.NSResource()
		named("ns", x.NS)
		return one, err
	case dnsmessage.TypePTR:
		x, err := p.PTRResource()
		named("ptr", x.PTR)
		return one, err
	case dnsmessage.TypeSRV:
		x, err := p.SRVResource()
		named("srv", x.Target)
		return one, err
	case dnsmessage.TypeTXT:
		one.text = fmt.Sprintf("txt:%d", h.Length)
	default:
		one.text = fmt.Sprintf("type%d:%d", h.Type, h.Length)
	}
	return one, p.SkipAnswer()
}

// serviceOf reads an HTTPS or SVCB record: its target, and the addresses that it gives as hints.
func serviceOf(kind string, s dnsmessage.SVCBResource) record {
	one := record{text: kind + ":" + Text(s.Target.String())}
	if target := s.Target.String(); target != "." {
		one.target = lower(target)
	}
	if v4, ok := s.GetParam(dnsmessage.SVCParamIPv4Hint); ok {
		for ; len(v4) >= 4; v4 = v4[4:] {
			one.addresses = append(one.addresses, netip.AddrFrom4([4]byte(v4)))
		}
	}
	if v6, ok := s.GetParam(dnsmessage.SVCParamIPv6Hint); ok {
		for ; len(v6) >= 16; v6 = v6[16:] {
			one.addresses = append(one.addresses, netip.AddrFrom16([16]byte(v6)).Unmap())
		}
	}
	return one
}

// follow adds the names that the one asked for leads to, in whatever order their records come.
func (r *reader) follow() {
	for at := 0; at < len(r.owners) && at < mostLinks; at++ {
		for i := range r.records {
			one := &r.records[i]
			if one.target != "" && one.owner == r.owners[at] && !slices.Contains(r.owners, one.target) {
				r.owners = append(r.owners, one.target)
			}
		}
	}
	r.owners = r.owners[:min(len(r.owners), mostLinks)]
}

// fill says what the records say.
func (r *reader) fill(m *Message, whole bool) {
	r.follow()
	var links, others []string
	least, all := ^uint32(0), ^uint32(0)
	for i := range r.records {
		one := &r.records[i]
		all = min(all, one.ttl)
		leads := slices.Contains(r.owners, one.owner)
		if leads && (one.target != "" || len(one.addresses) > 0) {
			least = min(least, one.ttl)
			m.Addresses = append(m.Addresses, one.addresses...)
		}
		switch {
		case one.alias:
			links = append(links, one.text)
		case one.text != "":
			others = append(others, one.text)
		}
	}
	slices.SortFunc(m.Addresses, netip.Addr.Compare)
	m.Addresses = slices.Compact(m.Addresses)
	if len(m.Addresses) == 0 {
		least = all
	}
	if len(r.records) > 0 {
		m.TTL = least
	}
	slices.Sort(others)
	parts := links
	for _, a := range m.Addresses {
		parts = append(parts, a.String())
	}
	if len(m.Addresses) > mostAddresses {
		m.Addresses, whole = m.Addresses[:mostAddresses], false
	}
	m.Answers = join(append(parts, slices.Compact(others)...), whole)
}

// join puts parts together, up to mostText.
func join(parts []string, whole bool) string {
	var b strings.Builder
	for _, part := range parts {
		if b.Len()+1+len(part) > mostText {
			whole = false
			break
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(part)
	}
	if !whole {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString("…")
	}
	return b.String()
}
