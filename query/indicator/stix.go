package indicator

import (
	"path"
	"strings"
)

// STIX 2.1: https://docs.oasis-open.org/cti/stix/v2.1/os/stix-v2.1-os.html

// stixObject is what is read of an object of a bundle.
type stixObject struct {
	Type        string            `json:"type"`
	Name        string            `json:"name"`
	Description string            `json:"description"`
	Pattern     string            `json:"pattern"`
	PatternType string            `json:"pattern_type"`
	Revoked     bool              `json:"revoked"`
	Value       string            `json:"value"`
	Hashes      map[string]string `json:"hashes"`
}

// observedObject is an address, name, URL or file that a bundle holds outside of
// its indicators.
type observedObject struct {
	indicator *Indicator
	line      int
}

// stixObject reads one object of a bundle.
func (w *walker) stixObject() error {
	w.reading.Format = "stix"
	var o stixObject
	ok, err := w.next(&o)
	if err != nil || !ok {
		return err
	}
	switch o.Type {
	case "indicator":
		w.stixIndicators++
		w.stixIndicator(&o)
	case "ipv4-addr", "ipv6-addr", "domain-name", "url":
		if i, ok := Parse(o.Value); ok {
			w.observed = append(w.observed, observedObject{i, w.objects})
		} else {
			w.reading.problem(w.objects, o.Value, "it is no "+o.Type)
		}
	case "file":
		for _, digest := range o.Hashes {
			if i, ok := parseHash(digest); ok {
				w.observed = append(w.observed, observedObject{i, w.objects})
			}
		}
		if o.Name != "" {
			w.observed = append(w.observed, observedObject{fileName(o.Name), w.objects})
		}
	}
	return nil
}

func (w *walker) stixIndicator(o *stixObject) {
	label := o.Name
	if label == "" {
		label = o.Description
	}
	switch {
	case o.Revoked:
		w.reading.leaveOut("revoked")
		return
	case o.PatternType != "" && o.PatternType != "stix":
		w.reading.problem(w.objects, o.Pattern, "its pattern is "+cutLabel(o.PatternType)+" and not STIX")
		return
	}
	alternatives, why := parsePattern(o.Pattern)
	if why != "" {
		w.reading.problem(w.objects, o.Pattern, why)
		return
	}
	var found []*Indicator
	for _, terms := range alternatives {
		i, why := indicatorOf(terms)
		if why != "" {
			w.reading.problem(w.objects, o.Pattern, why)
			return
		}
		found = append(found, i)
	}
	for _, i := range found {
		w.reading.add(i, label, w.objects)
	}
}

// finish takes what a bundle has observed, when it has no indicator: then it is a
// list. In a bundle with indicators it may be anything, the victim too.
func (w *walker) finish() {
	for _, o := range w.observed {
		if w.stixIndicators > 0 {
			w.reading.leaveOut("observed, and no indicator")
			continue
		}
		w.reading.add(o.indicator, "", o.line)
	}
	if w.objects == 0 {
		w.reading.problem(1, "", "the JSON is no STIX bundle, no MISP export and no list of texts")
	}
}

// indicatorOf returns the one indicator that all terms together are, or why there
// is none.
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
			if port, ok = parsePortNumber(t.value); !ok {
				return nil, "it has no port where there must be one"
			}
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
			return nil, "what it asks for is not on a tape: " + cutLabel(field)
		}
		switch {
		case !ok:
			return nil, "it has no value of " + cutLabel(t.field) + " that can be read"
		case i != nil:
			return nil, "it wants several things at once"
		}
		i = one
	}
	switch {
	case name != "" && i != nil, folder != "" && name == "", port != 0 && name != "":
		return nil, "it wants several things at once"
	case folder != "":
		return fileName(path.Join(folder, name)), ""
	case name != "":
		return fileName(name), ""
	case i == nil && port != 0:
		return &Indicator{Kind: Port, Text: portText(port), Port: port}, ""
	case i == nil:
		return nil, "it asks for nothing that is on a tape"
	case port != 0:
		i.Port = port
	}
	return i, ""
}

// isNetworkField reports whether a field of an observable is where a connection
// goes to, or may have gone to.
func isNetworkField(field string) bool {
	switch field {
	case "ipv4-addr:value", "ipv6-addr:value", "domain-name:value", "url:value",
		"network-traffic:dst_ref.value", "network-traffic:src_ref.value", "domain-name:resolves_to_refs[*].value":
		return true
	}
	return false
}
