package hello

import (
	"bytes"
	"net"
	"net/url"
	"strings"
)

// parseHTTP reads the head of a request of HTTP/1 until it has named the host. A target that names one counts, and its Host does not:
// so does every server and proxy read it (RFC 9112, 3.2.2).
func parseHTTP(b []byte) (Said, error) {
	line, rest, whole := cutLine(b)
	if !whole {
		return Said{}, incompleteUnless(len(b) < MostRequest, errOther)
	}
	method, target, version := requestLine(line)
	if method == "" || !strings.HasPrefix(version, "HTTP/1.") {
		return Said{}, errOther
	}
	if host := hostOf(method, target); host != "" {
		return hostSaid(host)
	}
	for {
		if line, rest, whole = cutLine(rest); !whole {
			return Said{}, incompleteUnless(len(b) < MostRequest, ErrNameless)
		}
		if len(line) == 0 {
			return Said{}, ErrNameless
		}
		name, value, ok := bytes.Cut(line, []byte(":"))
		if ok && strings.EqualFold(string(name), "host") {
			return hostSaid(string(bytes.Trim(value, " \t")))
		}
	}
}

func incompleteUnless(more bool, err error) error {
	if more {
		return ErrIncomplete
	}
	return err
}

// cutLine returns a line without its end, and what comes after it.
func cutLine(b []byte) (line, rest []byte, whole bool) {
	line, rest, whole = bytes.Cut(b, []byte("\n"))
	return bytes.TrimSuffix(line, []byte("\r")), rest, whole
}

// requestLine takes it apart; method "": it is none.
func requestLine(line []byte) (method, target, version string) {
	parts := strings.Split(string(line), " ")
	if len(parts) != 3 || parts[0] == "" || strings.ContainsFunc(parts[0], func(r rune) bool { return r < 'A' || r > 'Z' }) {
		return "", "", ""
	}
	return parts[0], parts[1], parts[2]
}

// hostOf returns the host that a target names: of CONNECT, and of what is asked of a proxy.
func hostOf(method, target string) string {
	if method == "CONNECT" {
		return target
	}
	if u, err := url.Parse(target); err == nil {
		return u.Host
	}
	return ""
}

// hostSaid takes the port off a host.
func hostSaid(host string) (Said, error) {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	name := nameText(host)
	if name == "" {
		return Said{}, ErrNameless
	}
	return Said{Kind: Host, Name: name}, nil
}
