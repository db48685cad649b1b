package indicator

import (
	"slices"
	"strings"
)

// MISP: https://www.misp-project.org/datamodels/#types

// notForDetection is why an attribute of MISP without to_ids is left out.
const notForDetection = "marked as not for detection (to_ids)"

// mispAttribute is what is read of an attribute.
type mispAttribute struct {
	Type    string `json:"type"`
	Value   string `json:"value"`
	Comment string `json:"comment"`
	ToIDs   *bool  `json:"to_ids"`
	Deleted bool   `json:"deleted"`
}

func (w *walker) mispAttribute() error {
	w.reading.Format = "misp"
	var a mispAttribute
	ok, err := w.next(&a)
	switch {
	case err != nil || !ok:
		return err
	case a.Deleted:
		w.reading.leaveOut("deleted")
	case a.ToIDs != nil && !*a.ToIDs:
		w.reading.leaveOut(notForDetection)
	default:
		label := a.Comment
		if label == "" {
			label = w.event
		}
		w.reading.misp(a.Type, a.Value, label, w.objects)
	}
	return nil
}

// mispTypes are the types of attributes that are indicators of ours. Those of two
// parts are joined by |.
func mispTypes() []string {
	return []string{"ip-src", "ip-dst", "ip-src|port", "ip-dst|port", "hostname", "domain", "domain|ip", "hostname|port", "url", "uri",
		"port", "filename", "md5", "sha1", "sha224", "sha256", "sha384", "sha512",
		"filename|md5", "filename|sha1", "filename|sha224", "filename|sha256", "filename|sha384", "filename|sha512"}
}

// isMISPType reports whether a word is a type of attribute that is understood.
func isMISPType(word string) bool { return slices.Contains(mispTypes(), strings.ToLower(word)) }

// misp takes one attribute.
func (r *Reading) misp(kind, value, label string, line int) {
	kind = strings.ToLower(kind)
	if !isMISPType(kind) {
		r.leaveOut("of type " + cutLabel(kind) + ", which says nothing of connections")
		return
	}
	first, second, two := strings.Cut(value, "|")
	take := func(i *Indicator, ok bool, want ...Kind) {
		if !ok || !slices.Contains(want, i.Kind) {
			r.problem(line, value, "it is no "+kind)
			return
		}
		r.add(i, label, line)
	}
	switch {
	case kind == "port":
		i, ok := ParsePort(value)
		take(i, ok, Port)
	case kind == "domain|ip" && two:
		i, ok := Parse(first)
		take(i, ok, Name)
		i, ok = Parse(second)
		take(i, ok, Address)
	case strings.HasSuffix(kind, "|port") && two:
		i, ok := Parse(first)
		port, isPort := parsePortNumber(strings.TrimSpace(second))
		if ok && isPort {
			i.Port = port
		}
		take(i, ok && isPort, Address, Name)
	case strings.HasPrefix(kind, "filename"):
		r.add(fileName(first), label, line)
		if two {
			i, ok := Parse(second)
			take(i, ok, Hash)
		}
	case kind == "url" || kind == "uri":
		i, ok := Parse(value)
		take(i, ok, Address, Name)
	case strings.HasPrefix(kind, "ip-"):
		i, ok := Parse(value)
		take(i, ok, Address, Range)
	case kind == "domain" || kind == "hostname":
		i, ok := Parse(value)
		take(i, ok, Name)
	default:
		i, ok := Parse(value)
		take(i, ok, Hash)
	}
}

// fileName returns the indicator of the name of a file, or of its path.
func fileName(text string) *Indicator {
	text = strings.TrimSpace(text)
	if strings.HasPrefix(text, "/") {
		return &Indicator{Kind: Path, Text: text}
	}
	return &Indicator{Kind: Name, Text: strings.ToLower(text)}
}
