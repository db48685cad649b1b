package report

import (
	"context"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/indicator"
	"github.com/conntape/conntape/query/input"
	"github.com/conntape/conntape/query/table"
)

// remoteAsked is the destination in query who: an address with or without port, a CIDR, a port, or a UNIX path.
type remoteAsked struct {
	indicator string
	port      int64 // -1 none
}

const remoteHint = "give an address, a CIDR such as 10.0.0.0/8, address:port, a port, a name such as example.com or *.example.com, or the path or @name of a UNIX socket"

// parseRemote parses every form of column remote: address:port, [address]:port, and UNIX addresses; all but a UNIX path also as reports
// defang them, and a port also as :443.
func parseRemote(typed string) (remoteAsked, error) {
	text := typed
	if !strings.HasPrefix(text, "/") && !strings.HasPrefix(text, "@") {
		text = indicator.Refang(text)
	}
	if port, ok := strings.CutPrefix(text, ":"); ok && isWholeNumber(port) {
		text = port
	}
	asked := remoteAsked{text, -1}
	address, rest, _ := strings.Cut(text, "/")
	_, isAddress := ask.ParseAddress(address)
	_, isPrefix := ask.ParsePrefix(text)
	switch end, err := netip.ParseAddrPort(text); {
	case strings.TrimSpace(text) == "":
		return asked, input.Usagef(remoteHint, "what to look for is empty")
	case strings.Trim(text, "0123456789") == "":
		if n, err := strconv.ParseUint(text, 10, 16); err != nil || n == 0 {
			return asked, input.Usagef(remoteHint, "%q is no port: ports are 1 to 65535", ask.Shorten(typed, 60))
		}
	case err == nil:
		return remoteAsked{end.Addr().String(), int64(end.Port())}, nil
	case strings.Contains(text, "://"):
		hint := remoteHint
		if u, err := url.Parse(text); err == nil && (isNameAsked(u.Hostname()) || validAddress(u.Hostname())) {
			hint = "look for its host: conntape query who " + u.Hostname()
		}
		return asked, input.Usagef(hint, "%q is a URL, and a tape holds addresses and names", ask.Shorten(typed, 60))
	case strings.HasPrefix(text, "[") && strings.HasSuffix(text, "]") && strings.Contains(text, ":"):
		asked.indicator = text[1 : len(text)-1]
		if _, ok := ask.ParseAddress(asked.indicator); !ok {
			return asked, input.Usagef(remoteHint, "%q is no address", ask.Shorten(typed, 60))
		}
	case isAddress && rest != "" && !isPrefix:
		return asked, input.Usagef(remoteHint, "%q is neither an address nor a CIDR such as 10.0.0.0/8", ask.Shorten(typed, 60))
	}
	return asked, nil
}

// isUnixAsked reports whether a text can only be a UNIX socket. Without leading / or @ it is a relative path, or
// the last elements of a path.
func isUnixAsked(text string) bool {
	_, isPrefix := ask.ParsePrefix(text)
	return !isPrefix && strings.Trim(text, "0123456789") != ""
}

// checkUnixAsked returns an error for a word that is no address and no UNIX socket on the tape, such as a host name or a
// typing error.
func (p *Planned) checkUnixAsked(ctx context.Context, text string) error {
	if !isUnixAsked(text) || strings.HasPrefix(text, "/") || strings.HasPrefix(text, "@") || isNameAsked(text) {
		return nil
	}
	known := false
	request := ask.Request{SQL: `SELECT 1 FROM endpoints WHERE family = 'unix' AND ` + table.UnixCondition + ` LIMIT 1`, Params: map[string]format.Value{"p1": format.TextValue(text)}}
	_, err := table.AskVirtual(ctx, p.tape, func() (ask.Result, error) {
		return ask.Run(ctx, p.main, request, ask.EachRow(func([]format.Value) error { known = true; return nil }))
	})
	if err != nil || known {
		return err
	}
	hint := remoteHint
	switch at := strings.LastIndexByte(text, ':'); {
	case strings.ContainsAny(text, ",; "):
		hint = "one at a time; conntape query match --indicators FILE looks for a list"
	case at > 0 && isWholeNumber(text[at+1:]) && validAddress(strings.Trim(text[:at], "[]")):
		hint = "ports are 1 to 65535"
	}
	return input.Usagef(hint, "%q is no address, port or CIDR, and no UNIX socket that was connected to", ask.Shorten(text, 60))
}

// isNameAsked reports whether a text can be a name that was looked up, or a pattern of such: with a dot and a letter, or a *.
func isNameAsked(text string) bool {
	for _, r := range text {
		if !isNameRune(r) {
			return false
		}
	}
	return strings.ContainsRune(text, '*') || strings.ContainsRune(text, '.') && strings.Trim(text, "0123456789.") != ""
}

func isNameRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(`-._*\`, r)
}

func validAddress(text string) bool {
	_, ok := ask.ParseAddress(text)
	return ok
}
