package indicator

import (
	"path"
	"slices"
	"strings"
)

// STIX 2.1: https://docs.oasis-open.org/cti/stix/v2.1/os/stix-v2.1-os.html

// observedObject is an address, name, URL or file of a bundle outside its indicators.
type observedObject struct {
	indicator *Indicator
	line      int
}

// stixRow reads a STIX object. It returns false for any other object.
func (w *walker) stixRow(row *jsonRow) bool {
	kind := row.get("type")
	switch {
	case kind == "indicator" && row.get("pattern") != "":
		w.stixIndicators++
		w.stixIndicator(row)
	case !strings.HasPrefix(row.get("id"), kind+"--") && row.list != "objects" || kind == "":
		return false
	case slices.Contains([]string{"ipv4-addr", "ipv6-addr", "domain-name", "url"}, kind):
		if i, ok := Parse(row.get("value")); ok && i.Kind != Port {
			w.observed = append(w.observed, observedObject{i, w.objects})
		} else {
			w.reading.problem(w.objects, row.get("value"), "it is no "+kind)
		}
	case kind == "file":
		w.stixFile(row)
	default:
		w.empty++
	}
	w.reading.Format = "stix"
	return true
}

func (w *walker) stixFile(row *jsonRow) {
	for _, f := range row.fields {
		if !strings.HasPrefix(f.name, "hashes.") {
			continue
		}
		if i, ok := parseHash(f.text); ok {
			w.observed = append(w.observed, observedObject{i, w.objects})
		}
	}
	if name := row.get("name"); name != "" {
		w.observed = append(w.observed, observedObject{fileName(name), w.objects})
	}
}

// Parts of patterns that cannot be looked up, and that can be dropped without making the pattern match more.
const (
	qualifierUnmet = "the time or number of a STIX pattern (WITHIN, REPEATS, START) is not looked at"
	resolvesUnmet  = "an address that a name resolves to, in a STIX pattern: the address and the name are both looked for"
)

func (w *walker) stixIndicator(row *jsonRow) {
	pattern, label := row.get("pattern"), row.get("name")
	if label == "" {
		label = row.get("description")
	}
	switch kind := row.get("pattern_type"); {
	case isTrue(row.get("revoked")):
		w.reading.leaveOut("revoked")
		return
	case row.get("indicator_types") == "benign" || row.get("labels") == "benign":
		w.reading.leaveOut("marked as benign")
		return
	case kind != "" && kind != "stix":
		w.reading.problem(w.objects, pattern, "its pattern is "+cutLabel(kind)+" and not STIX")
		return
	}
	p := parsePattern(pattern)
	if p.why != "" {
		w.reading.problem(w.objects, pattern, p.why)
		return
	}
	for _, terms := range p.alternatives {
		found, why := indicatorsOf(terms)
		if why != "" {
			w.reading.problem(w.objects, pattern, why)
			continue
		}
		if len(found) > 1 {
			w.reading.note(resolvesUnmet)
		}
		w.reading.add(w.objects, label, found...)
	}
	if p.qualified {
		w.reading.note(qualifierUnmet)
	}
}

// indicatorsOf returns the indicators of an alternative's terms: one, or a name and its address. Otherwise why is the reason.
func indicatorsOf(terms []comparison) (found []*Indicator, why string) {
	var resolved *Indicator
	var rest []comparison
	for _, t := range terms {
		if t.why != "" {
			return nil, t.why
		}
		if t.field != "domain-name:resolves_to_refs[*].value" || len(terms) == 1 {
			rest = append(rest, t)
			continue
		}
		i, ok := Parse(t.value)
		if !ok || i.Kind == Port || resolved != nil {
			return nil, "it has no value of " + cutLabel(t.field) + " that can be read"
		}
		resolved = i
	}
	i, why := indicatorOf(rest)
	switch {
	case why != "":
		return nil, why
	case resolved != nil && i.Kind != Name:
		return nil, manyThings
	case resolved != nil:
		resolved.Port = i.Port
		return []*Indicator{i, resolved}, ""
	}
	return []*Indicator{i}, ""
}

const manyThings = "it wants several things at once"

// indicatorOf combines all terms into one indicator, or returns the reason if it cannot.
func indicatorOf(terms []comparison) (i *Indicator, why string) {
	var port uint16
	var name, folder string
	for _, t := range terms {
		var one *Indicator
		ok := false
		switch field := t.field; {
		case strings.HasSuffix(field, ".type"), strings.HasPrefix(field, "network-traffic:protocols"):
			continue
		case field == "network-traffic:dst_port":
			number, isPort := parsePortNumber(t.value)
			if !isPort {
				return nil, badPort
			}
			if port != 0 && port != number {
				return nil, manyThings
			}
			port = number
			continue
		case field == "file:name" || field == "process:image_ref.name":
			name = t.value
			continue
		case field == "file:parent_directory_ref.path" || field == "process:image_ref.parent_directory_ref.path":
			folder = t.value
			continue
		case strings.HasPrefix(field, "file:hashes.") || strings.HasPrefix(field, "process:image_ref.hashes."):
			one, ok = parseHash(t.value)
		case isNetworkField(field):
			one, ok = Parse(t.value)
			ok = ok && (one.Kind == Address || one.Kind == Range || one.Kind == Name)
		default:
			return nil, "it asks for something that is not on a tape: " + cutLabel(field)
		}
		switch {
		case !ok:
			return nil, "it has no value of " + cutLabel(t.field) + " that can be read"
		case i != nil:
			return nil, manyThings
		}
		i = one
	}
	switch {
	case name != "" && i != nil, folder != "" && name == "", port != 0 && name != "":
		return nil, manyThings
	case folder != "":
		return fileName(path.Join(folder, name)), ""
	case name != "":
		return fileName(name), ""
	case i == nil && port != 0:
		return ofPort(port), ""
	case i == nil:
		return nil, "it asks for nothing that is on a tape"
	case port != 0 && i.Port != 0 && i.Port != port, port != 0 && i.Kind == Hash:
		return nil, manyThings
	case port != 0:
		i.Port = port
	}
	return i, ""
}

// isNetworkField reports whether a field of an observable is a connection's destination, or may be one.
func isNetworkField(field string) bool {
	switch field {
	case "ipv4-addr:value", "ipv6-addr:value", "domain-name:value", "url:value",
		"network-traffic:dst_ref.value", "network-traffic:src_ref.value", "domain-name:resolves_to_refs[*].value":
		return true
	}
	return false
}
