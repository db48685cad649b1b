package query

import (
	"context"
	"net/netip"
	"strconv"
	"strings"
)

// remoteAsked is the destination in query who: an address with or without port, a CIDR, a port, or a UNIX path.
type remoteAsked struct {
	indicator string
	port      int64 // -1 none
}

const remoteHint = "give an address, a CIDR such as 10.0.0.0/8, address:port, a port, or the path or @name of a UNIX socket"

// parseRemote parses every form of column remote: address:port, [address]:port, and UNIX addresses.
func parseRemote(text string) (remoteAsked, error) {
	asked := remoteAsked{text, -1}
	address, rest, _ := strings.Cut(text, "/")
	_, isAddress := parseAddress(address)
	_, isPrefix := ParsePrefix(text)
	switch end, err := netip.ParseAddrPort(text); {
	case strings.TrimSpace(text) == "":
		return asked, usagef(remoteHint, "what to look for is empty")
	case strings.Trim(text, "0123456789") == "":
		if n, err := strconv.ParseUint(text, 10, 16); err != nil || n == 0 {
			return asked, usagef(remoteHint, "%q is no port: ports are 1 to 65535", shorten(text, 60))
		}
	case err == nil:
		return remoteAsked{end.Addr().String(), int64(end.Port())}, nil
	case strings.Contains(text, "://"):
		return asked, usagef(remoteHint, "%q is a URL, and a tape holds addresses", shorten(text, 60))
	case strings.HasPrefix(text, "[") && strings.HasSuffix(text, "]") && strings.Contains(text, ":"):
		asked.indicator = text[1 : len(text)-1]
		if _, ok := parseAddress(asked.indicator); !ok {
			return asked, usagef(remoteHint, "%q is no address", shorten(text, 60))
		}
	case isAddress && rest != "" && !isPrefix:
		return asked, usagef(remoteHint, "%q is neither an address nor a CIDR such as 10.0.0.0/8", shorten(text, 60))
	}
	return asked, nil
}

// isUnixAsked reports whether an indicator can only be a UNIX socket. Without leading / or @ it is a relative path, or
// the last elements of a path.
func isUnixAsked(indicator string) bool {
	_, isPrefix := ParsePrefix(indicator)
	return !isPrefix && strings.Trim(indicator, "0123456789") != ""
}

// checkUnixAsked returns an error for a word that is no address and no UNIX socket on the tape, such as a host name or a
// typing error.
func (p *Planned) checkUnixAsked(ctx context.Context, indicator string) error {
	if !isUnixAsked(indicator) || strings.HasPrefix(indicator, "/") || strings.HasPrefix(indicator, "@") {
		return nil
	}
	known := false
	request := Request{SQL: `SELECT 1 FROM endpoints WHERE family = 'unix' AND ` + unixCondition + ` LIMIT 1`, Params: map[string]Value{"p1": textValue(indicator)}}
	_, err := askVirtual(ctx, p.tape, func() (Result, error) {
		return Run(ctx, p.main, request, eachRow(func([]Value) error { known = true; return nil }))
	})
	if err != nil || known {
		return err
	}
	hint := remoteHint
	switch at := strings.LastIndexByte(indicator, ':'); {
	case strings.ContainsAny(indicator, ",; "):
		hint = "one at a time; conntape query match --indicators FILE looks for a list"
	case at > 0 && isWholeNumber(indicator[at+1:]) && validAddress(strings.Trim(indicator[:at], "[]")):
		hint = "ports are 1 to 65535"
	case strings.Trim(indicator, "0123456789.:[]") != "" && strings.Contains(indicator, ".") && !strings.Contains(indicator, "/"):
		hint = "a tape holds no names that were looked up; conntape query match finds names in arguments, or give the address"
	}
	return usagef(hint, "%q is no address, port or CIDR, and no UNIX socket that was connected to", shorten(indicator, 60))
}

func validAddress(text string) bool {
	_, ok := parseAddress(text)
	return ok
}
