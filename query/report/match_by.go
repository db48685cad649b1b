package report

import (
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/indicator"
)

// byRemote returns the indicators that match an endpoint. A UNIX socket with the path 10.0.0.1 is no address.
func (m *matcher) byRemote(isUnix bool, address string, port format.Value) []*indicator.Indicator {
	if isUnix {
		return m.set.ByPath(address)
	}
	if a, ok := ask.ParseAddress(address); ok {
		return m.set.ByAddress(a, uint16(max(port.Int, 0)))
	}
	if port.Kind == format.Integer && port.Int > 0 {
		return m.set.ByAddress(netip.Addr{}, uint16(port.Int))
	}
	return nil
}

// byNames returns the indicators that match names of an endpoint.
func (m *matcher) byNames(names string, port format.Value) []*indicator.Indicator {
	var found []*indicator.Indicator
	for name := range strings.FieldsSeq(names) {
		for _, i := range m.set.ByHost(name) {
			if (i.Port == 0 || int64(i.Port) == port.Int) && !slices.Contains(found, i) {
				found = append(found, i)
			}
		}
	}
	return found
}

// byProcess returns the indicators that match a program, its script or its arguments.
func (m *matcher) byProcess(exe, script, cmdline string) []processHit {
	var hits []processHit
	add := func(where string, list []*indicator.Indicator) {
		for _, i := range list {
			if !slices.ContainsFunc(hits, func(h processHit) bool { return h.Indicator == i }) {
				hits = append(hits, processHit{i, where})
			}
		}
	}
	for _, f := range []struct{ where, path string }{{"program", exe}, {"script", script}} {
		if file := strings.TrimSuffix(f.path, " (deleted)"); file != "" {
			add(f.where, m.set.ByPath(file))
			add(f.where, m.set.ByFile(path.Base(file)))
		}
	}
	for word := range hostNames(cmdline) {
		name, port, _ := strings.Cut(word, ":")
		var list []*indicator.Indicator
		for _, i := range m.set.ByHost(name) {
			if i.Port == 0 || strconv.Itoa(int(i.Port)) == port {
				list = append(list, i)
			}
		}
		add("arguments", list)
	}
	return hits
}

// byDigests returns the indicators that match the digests of a program, then of its script.
func (m *matcher) byDigests(digests []format.Value) (hits []processHit) {
	for i, d := range digests {
		where := "program"
		if i >= 3 {
			where = "script"
		}
		for _, i := range m.set.ByHash(string(d.Bytes)) {
			hits = append(hits, processHit{i, where})
		}
	}
	return hits
}

// hostNames returns the words of a text that may be host names, each with the port after it.
func hostNames(text string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for word := range strings.FieldsFuncSeq(text, func(r rune) bool {
			return r < 128 && !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-' || r == '_' || r == ':')
		}) {
			for _, word := range splitSchemes(word) {
				if strings.Contains(word, ".") && !yield(word) {
					return
				}
			}
		}
	}
}

// splitSchemes splits a word at colons without a port after them.
func splitSchemes(word string) []string {
	parts := strings.Split(word, ":")
	var words []string
	for i := 0; i < len(parts); i++ {
		one := parts[i]
		if i+1 < len(parts) && parts[i+1] != "" && strings.Trim(parts[i+1], "0123456789") == "" {
			one += ":" + parts[i+1]
			i++
		}
		words = append(words, one)
	}
	return words
}
