package indicator

import (
	"slices"
	"strings"
)

// role is the meaning of a table's column or a JSON object's field.
type role int

const (
	roleOther  role = iota
	roleValue       // an indicator of any kind
	roleTarget      // destination address of a connection
	roleIP          // an address
	roleSource      // source address of a connection
	roleFirst       // of a range
	roleLast
	roleMask // of a network: its length, its mask, or the network
	rolePort
	roleSourcePort
	roleName // of a host
	roleURL
	roleHash
	roleFile
	roleType // the kind of the value
	roleLabel
	roleDetect  // to_ids
	roleDeleted // or revoked, or harmless
	roleAction  // a filter's action
)

// table is a parsed header.
type table struct {
	separator rune
	names     []string
	roles     []role
}

// field is one cell and its role.
type field struct {
	role       role
	name, text string
}

// findTable parses a header. A header names a column of indicators and is neither an indicator nor a sentence; for any
// other line findTable returns nil.
func findTable(line string) *table {
	var best *table
	for _, separator := range []rune{',', '\t', ';', '|'} {
		t := headerOf(splitRecord(strings.TrimSpace(line), separator))
		if t != nil && (best == nil || len(t.roles) > len(best.roles)) {
			best, t.separator = t, separator
		}
	}
	if best != nil && len(best.roles) == 1 && (len(strings.Fields(best.names[0])) > 1 || strings.HasSuffix(strings.TrimSpace(line), ":")) {
		return nil // "IP addresses" or "C2:" over a list is a heading
	}
	return best
}

// headerOf parses the cells of a header; nil if they are not names of columns.
func headerOf(cells []string) *table {
	if n := len(cells); n > 0 && strings.HasSuffix(cells[n-1], ":") {
		return nil // a key of YAML, whose name may have a bar in it: DestinationIp|cidr:
	}
	t := &table{}
	useful, names := 0, 0
	for _, cell := range cells {
		cell = strings.Trim(cell, `"' #`)
		of := roleOf(cell)
		c, isIndicator := readCell(cell)
		switch {
		case len(strings.Fields(cell)) > 3, strings.Contains(cell, "="), strings.Contains(cell, ": "), isKeyed(cell), hasIPv6(cell), looksLikeAddress(cell), isIndicator && c.sure, cell != "" && cell[0] >= '0' && cell[0] <= '9':
			return nil
		case of >= roleValue && of <= roleFile:
			useful++
		case isIndicator && of == roleOther:
			names++ // evil.example, or meta.source
		}
		t.names, t.roles = append(t.names, cell), append(t.roles, of)
	}
	t.findClient()
	if useful == 0 || names > 0 && useful < 2 && !slices.Contains(t.roles, roleType) {
		return nil
	}
	return t
}

// isKeyed reports whether a cell is an indicator after what it is: md5:…, domain:evil.example.
func isKeyed(cell string) bool {
	_, value, ok := strings.Cut(cell, ":")
	if !ok {
		return false
	}
	_, ok = readCell(value)
	return ok
}

// hasIPv6 reports whether a cell has an IPv6 address as one of its words, or of its columns if they are parted by something else.
func hasIPv6(cell string) bool {
	return strings.Count(cell, ":") > 1 && slices.ContainsFunc(partsOf(cell, ",;| \t"), func(word string) bool {
		c, ok := readCell(word)
		return ok && c.sure && c.is(Address, Range)
	})
}

// findClient finds the client in the log of a web server (W3C Extended Log File Format: prefix s- is the server, c- the client, cs- and sc- what
// passed between them). All else that has an address or a name is the server's own.
func (t *table) findClient() {
	proxy := func(name string) bool {
		return strings.HasPrefix(name, "r-") || strings.HasPrefix(name, "s-hierarchy") || strings.HasPrefix(name, "s-supplier")
	}
	if !slices.Contains(t.names, "c-ip") || slices.ContainsFunc(t.names, proxy) { // whose clients are the host's own
		return
	}
	for i, name := range t.names {
		switch prefix, _, _ := strings.Cut(strings.ReplaceAll(name, "(", "-"), "-"); {
		case name == "c-ip":
			t.roles[i] = roleTarget
		case name == "s-ip":
			t.roles[i] = roleSource
		case slices.Contains([]string{"s", "c", "cs", "sc"}, prefix):
			t.roles[i] = roleOther
		}
	}
}

// isWhole reports whether every column has a known name. Only then may a header follow records.
func (t *table) isWhole() bool {
	known := 0
	for i, name := range t.names {
		if name == "" {
			return false
		}
		if t.roles[i] != roleOther {
			known++
		}
	}
	return known > 1
}

// fields returns the cells of a record with their roles. A record may have fewer or more cells than the header.
func (t *table) fields(cells []string) []field {
	list := make([]field, len(cells))
	for i, cell := range cells {
		list[i].text = cell
		if i < len(t.roles) {
			list[i].role, list[i].name = t.roles[i], t.names[i]
		}
	}
	return list
}

// isRow reports whether a line is a record of the table: it has an indicator in a column of indicators.
func (t *table) isRow(line string) bool {
	cells := t.cells(line)
	if len(cells) < len(t.roles) {
		return false
	}
	for _, f := range t.fields(cells) {
		if f.role >= roleValue && f.role <= roleFile {
			if _, ok := readCell(f.text); ok {
				return true
			}
		}
	}
	return false
}

// roleOf returns the role of a column by the words of its name.
func roleOf(name string) role {
	words := wordsOf(strings.TrimPrefix(name, "_source.")) // Elasticsearch puts it before each field
	if len(words) > 1 && words[0] == "id" && slices.Contains([]string{"orig", "resp"}, words[1]) {
		words = words[1:] // Zeek's id.resp_h
	}
	has, only := words.hasAny, words.only
	source := has("src", "source", "client", "victim", "local", "sensor", "origin", "orig", "internal", "private", "reporter", "honeypot", "attacked", "listen", "quell", "quelle", "origen", "sorgente")
	target := has("dst", "dest", "destination", "remote", "resp", "target", "c2", "cnc", "server", "d", "ziel", "destino", "destinazione")
	addressed := has("ip", "ips", "ipv4", "ipv6", "ip4", "ip6", "ipaddr", "ipaddress", "address", "addresses", "addr", "adresse", "adressen", "direccion", "indirizzo", "adres", "host", "hosts", "h")
	switch {
	case has("port", "ports") && only("port", "ports", "number", "num", "no", "nr", "dst", "dest", "destination", "remote", "target", "server", "c2", "tcp", "udp"):
		return rolePort
	case only("to", "ids"):
		return roleDetect
	case only("is", "deleted", "revoked", "whitelisted", "allowlisted", "benign") && !only("is"), only("false", "positive") && len(words) == 2:
		return roleDeleted
	case only("action", "act", "verdict", "policy", "rule", "decision", "classification", "access", "properties") && has("action", "act", "verdict", "decision", "classification", "access"):
		return roleAction
	case only("type", "kind", "indicator", "ioc", "attribute", "observable", "data") && has("type", "kind"):
		return roleType
	case has("initiating", "protocol", "proto"), len(words) > 1 && words[len(words)-2] == "port" && words[len(words)-1] == "name":
		return roleOther
	case has("count", "version", "ja3", "ja3s", "jarm", "imphash", "mac", "email", "mail", "country", "asn", "as", "date", "time", "timestamp", "seen", "id", "uuid", "size", "score",
		"status", "type", "org", "owner", "isp", "city", "street", "hits", "rank", "number", "num", "reference", "link", "relation", "created", "modified", "border"):
		return roleOther
	case only("indicator", "indicators", "value", "values", "ioc", "iocs", "observable", "artifact", "artefact", "indikator", "entity"):
		return roleValue
	case has("port", "ports", "dport", "sport", "dpt", "spt", "puerto", "porta", "p", "rport", "lport", "portnummer", "portnr", "portno", "portnum"), only("tcp"), only("udp"):
		if source && !target || has("sport", "spt") {
			return roleSourcePort
		}
		return rolePort
	case only("start", "begin", "first", "from", "low", "lower", "von", "min", "ip", "address", "addr", "range", "ipv4", "ipv6") && has("start", "begin", "first", "from", "low", "lower", "von", "min"):
		return roleFirst
	case only("end", "last", "to", "high", "upper", "bis", "max", "ip", "address", "addr", "range", "ipv4", "ipv6") && has("end", "last", "to", "high", "upper", "bis", "max"):
		return roleLast
	case source != target && addressed && has("prefix", "prefixes", "cidr", "ranges", "details"):
		if source {
			return roleSource
		}
		return roleTarget
	case has("cidr", "netblock", "network", "subnet", "prefix", "prefixes", "netmask", "mask", "bits", "block", "blocks", "prefixlen", "range", "ranges", "net", "netz"):
		return roleMask
	case only("sa"), only("da"): // nfdump
		return map[string]role{"sa": roleSource, "da": roleTarget}[words[0]]
	case only("sp"), only("dp"):
		return map[string]role{"sp": roleSourcePort, "dp": rolePort}[words[0]]
	case has("url", "urls", "uri", "uris"):
		return roleURL
	case has("md5", "sha1", "sha224", "sha256", "sha384", "sha512", "hash", "hashes", "sha"):
		return roleHash
	case has("domain", "domains", "hostname", "hostnames", "fqdn", "fqdns", "dns", "sni", "domaine", "dominio"):
		return roleName
	case source && addressed || only("src"):
		return roleSource
	case target && (addressed || only("dst", "dest", "destination", "remote", "target", "c2", "cnc", "server")):
		return roleTarget
	case addressed:
		return roleIP
	case has("file", "filename", "filenames", "filepath", "path"):
		return roleFile
	case has("comment", "description", "desc", "label", "name", "threat", "malware", "tag", "tags", "category", "info", "reason", "note", "notes", "title",
		"campaign", "family", "signature", "msg", "message", "bemerkung", "kommentar", "beschreibung", "commentaire", "comentario", "commento", "descripción", "descripcion", "descrizione", "printable"):
		return roleLabel
	}
	return roleOther
}
