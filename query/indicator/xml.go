package indicator

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"

	"golang.org/x/text/encoding/charmap"
)

// OpenIOC 1.0 and 1.1: https://github.com/fireeye/OpenIOC_1.1. Items are joined by AND or OR. The items of an AND are one
// indicator if they are an address or name and its port.
//
// firewalld.ipset(5): a set's entries, each as ipset writes it.
//
// pfSense and OPNsense: the aliases of a config.xml.

// iocItem is one condition of an OpenIOC.
type iocItem struct {
	Condition string `xml:"condition,attr"`
	Negate    string `xml:"negate,attr"`
	Context   struct {
		Search string `xml:"search,attr"`
	} `xml:"Context"`
	Content struct {
		Type string `xml:"type,attr"`
		Text string `xml:",chardata"`
	} `xml:"Content"`
}

// iocIndicator has items and nested indicators, joined by an operator.
type iocIndicator struct {
	Operator string         `xml:"operator,attr"`
	Items    []iocItem      `xml:"IndicatorItem"`
	Inside   []iocIndicator `xml:"Indicator"`
}

// xmlAlias is a named list of a firewall.
type xmlAlias struct {
	Enabled string `xml:"enabled"`
	Type    string `xml:"type"`
	Address string `xml:"address"` // pfSense
	Content string `xml:"content"` // OPNsense
}

// readXML reads OpenIOC, sets of firewalld, and aliases.
func (r *Reading) readXML(in io.Reader) error {
	r.Format = "openioc"
	decoder := xml.NewDecoder(in)
	decoder.CharsetReader = charset
	items := 0
	for {
		token, err := decoder.Token()
		var syntax *xml.SyntaxError
		switch {
		case err == io.EOF && items > 0:
			return nil
		case err == io.EOF:
			r.problem(1, "", "the XML is neither OpenIOC, a set of firewalld nor has aliases of a firewall, or it is empty")
			return nil
		case errors.As(err, &syntax):
			r.problem(items+1, "", "broken XML, and all that follows it: "+syntax.Error())
			return nil
		case err != nil:
			return err
		}
		start, ok := token.(xml.StartElement)
		switch {
		case !ok:
			continue
		case start.Name.Local == "ipset" && items == 0:
			r.Format = "firewalld"
			continue
		case start.Name.Local == "entry" && r.Format == "firewalld":
			var entry string
			if err := decoder.DecodeElement(&entry, &start); err == nil { // else the next token says so
				items++
				r.setEntry(strings.Join(strings.Fields(entry), " "), items)
			}
			continue
		case start.Name.Local == "alias":
			var one xmlAlias
			if err := decoder.DecodeElement(&one, &start); err == nil { // else the next token says so
				items++
				r.Format = "aliases"
				r.alias(&one, items)
			}
			continue
		case start.Name.Local != "Indicator":
			continue
		}
		var top iocIndicator
		if err := decoder.DecodeElement(&top, &start); err != nil {
			r.problem(items+1, "", "broken XML: "+err.Error())
			return nil
		}
		r.openIOC(&top, &items, 0)
	}
}

// charset returns a document's text as UTF-8. What Read decoded already stays as it is.
func charset(label string, in io.Reader) (io.Reader, error) {
	switch strings.ToLower(label) {
	case "iso-8859-1", "iso-8859-15", "latin1", "windows-1252", "cp1252":
		return charmap.Windows1252.NewDecoder().Reader(in), nil
	}
	return in, nil
}

// setEntry reads an entry of a set, as ipset reads it: an address, or an address and a port.
func (r *Reading) setEntry(entry string, number int) {
	if c, ok := readCell(entry); ok {
		r.add(number, "", c.list...)
		return
	}
	r.plainLine("add set "+entry, number)
}

// alias reads the addresses, ranges and names of an alias.
func (r *Reading) alias(one *xmlAlias, number int) {
	switch {
	case one.Enabled == "0":
		r.leaveOut("a disabled alias")
	case one.Type != "host" && one.Type != "network":
		r.leaveOut("an alias of type " + cutLabel(one.Type) + ", which has no addresses")
	default:
		for entry := range strings.FieldsSeq(one.Address + " " + one.Content) {
			if strings.HasPrefix(entry, "!") {
				r.problem(number, entry, exception)
				continue
			}
			r.setEntry(entry, number)
		}
	}
}

// openIOC reads an indicator and the indicators nested in it.
func (r *Reading) openIOC(ioc *iocIndicator, items *int, depth int) {
	if depth > deepest {
		r.problem(*items, "", errDeep.Error())
		return
	}
	if !strings.EqualFold(ioc.Operator, "AND") || len(ioc.Items)+len(ioc.Inside) == 1 {
		for i := range ioc.Items {
			*items++
			r.iocItems(ioc.Items[i:i+1], *items)
		}
		for i := range ioc.Inside {
			r.openIOC(&ioc.Inside[i], items, depth+1)
		}
		return
	}
	*items++
	if len(ioc.Inside) > 0 {
		r.problem(*items, "", manyThings)
		return
	}
	r.iocItems(ioc.Items, *items)
}

// iocItems reads items joined by AND as one indicator.
func (r *Reading) iocItems(items []iocItem, number int) {
	var terms []comparison
	text := ""
	for _, item := range items {
		value := strings.TrimSpace(item.Content.Text)
		text += " " + item.Context.Search + "=" + value
		if isTrue(item.Negate) || item.Condition != "is" && item.Condition != "" && !isHostField(item.Context.Search) || strings.HasSuffix(item.Condition, "not") {
			r.problem(number, text, "it compares with "+cutLabel(item.Condition)+", which cannot be looked up")
			return
		}
		terms = append(terms, comparison{field: iocField(item.Context.Search), value: value})
	}
	i, why := indicatorOf(terms)
	if why != "" {
		r.problem(number, text, why)
		return
	}
	r.add(number, "", i)
}

// isHostField reports whether a field holds a host's name; a contains on it usually means the domain.
func isHostField(search string) bool { return iocField(search) == "domain-name:value" }

// iocField returns the STIX field of an OpenIOC search term.
func iocField(search string) string {
	switch search {
	case "PortItem/remoteIP", "Network/DNS/ip", "RouteEntryItem/Destination", "DnsEntryItem/RecordData/IPv4Address", "Network/IP":
		return "ipv4-addr:value"
	case "PortItem/remotePort":
		return "network-traffic:dst_port"
	case "Network/DNS", "DnsEntryItem/Host", "DnsEntryItem/RecordName", "UrlHistoryItem/HostName":
		return "domain-name:value"
	case "Network/URI", "UrlHistoryItem/URL", "FileDownloadHistoryItem/SourceURL":
		return "url:value"
	case "FileItem/FileName", "ProcessItem/name":
		return "file:name"
	case "FileItem/FullPath", "ProcessItem/path":
		return "file:path"
	case "FileItem/Md5sum", "FileItem/Sha1sum", "FileItem/Sha256sum":
		return "file:hashes.any"
	}
	return search
}
