package ask

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/input"
	"zombiezen.com/go/sqlite"
)

// Functions are the functions of docs/schema.md that SQLite lacks, for one question. SQLite's time functions stay as
// they are.
type Functions struct {
	Clock  input.Clock // fixed: a question has one "now"
	failed error       // error about an argument in the user's SQL
	Stop   func(error) // ends the question
}

// Add registers the functions on a connection, replacing those of the previous question. A function of NULL is NULL, and
// so is one of text that is no address, so that UNIX paths match no comparison.
func (f *Functions) Add(conn *sqlite.Conn) error {
	for name, impl := range map[string]struct {
		arguments int
		scalar    func(sqlite.Context, []sqlite.Value) (sqlite.Value, error)
	}{
		"cidr_match":     {2, cidrMatch},
		"is_private":     {1, isPrivate},
		"ip_int":         {1, ipInt},
		"ip_text":        {1, ipText},
		"ip_plain":       {1, ipPlain},
		"cidr_start":     {1, cidrStart},
		"port_name":      {2, portName},
		"outcome_words":  {5, outcomeWords},
		"duration_words": {1, durationWords},
		"ago":            {1, f.ago},
		"ns":             {1, f.ns},
	} {
		call := func(ctx sqlite.Context, args []sqlite.Value) (sqlite.Value, error) {
			if args[0].Type() == sqlite.TypeNull {
				return sqlite.Value{}, nil
			}
			v, err := impl.scalar(ctx, args)
			if err != nil {
				f.fail(err)
			}
			// The driver (v1.4.2) loses a function's error and returns its text as value, so fail passes it on.
			return v, nil
		}
		if err := conn.CreateFunction(name, &sqlite.FunctionImpl{NArgs: impl.arguments, Scalar: call, Deterministic: true}); err != nil {
			return fmt.Errorf("add function %s: %w", name, err)
		}
	}
	return nil
}

// fail keeps the first error, and ends the question with it.
func (f *Functions) fail(err error) {
	if f.failed == nil {
		f.failed = err
		f.Stop(err)
	}
}

// badArgument is an error about an argument in the user's SQL.
func badArgument(format string, args ...any) error {
	return input.Usagef("conntape query schema functions says what they take", "the SQL is wrong: "+format, args...)
}

// ParsePrefix parses an address or CIDR as a range. It turns ::ffff:a.b.c.d into IPv4 and clears the host bits.
func ParsePrefix(text string) (netip.Prefix, bool) {
	if a, ok := ParseAddress(text); ok {
		return netip.PrefixFrom(a, a.BitLen()), true
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, false
	}
	if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	return p.Masked(), true
}

// ParseAddress reads an address without its scope, a mapped one as IPv4.
func ParseAddress(text string) (netip.Addr, bool) {
	if text == "" || text[0] == '/' || text[0] == '@' {
		return netip.Addr{}, false
	}
	a, err := netip.ParseAddr(text)
	return a.Unmap().WithZone(""), err == nil
}

func boolean(b bool) (sqlite.Value, error) {
	return sqlite.IntegerValue(int64(format.ZeroOrOne(b))), nil
}

// cidrMatch is cidr_match(addr, cidr): 1 when the address lies in the range.
func cidrMatch(ctx sqlite.Context, args []sqlite.Value) (sqlite.Value, error) {
	if args[1].Type() == sqlite.TypeNull {
		return sqlite.Value{}, nil
	}
	prefix, ok := ctx.AuxData(1).(netip.Prefix) // from the previous row, if it is a constant
	if !ok {
		if prefix, ok = ParsePrefix(args[1].Text()); !ok {
			return sqlite.Value{}, badArgument("%q is neither an address nor a CIDR such as 10.0.0.0/8", Shorten(args[1].Text(), 60))
		}
		ctx.SetAuxData(1, prefix)
	}
	a, ok := ParseAddress(args[0].Text())
	if !ok {
		return sqlite.Value{}, nil
	}
	return boolean(prefix.Contains(a))
}

// privateRanges are not reachable over the Internet.
var privateRanges = sync.OnceValue(func() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("0.0.0.0/8"),      // this host
		netip.MustParsePrefix("10.0.0.0/8"),     // RFC 1918
		netip.MustParsePrefix("100.64.0.0/10"),  // shared by carriers, RFC 6598
		netip.MustParsePrefix("127.0.0.0/8"),    // loopback
		netip.MustParsePrefix("169.254.0.0/16"), // link-local
		netip.MustParsePrefix("172.16.0.0/12"),  // RFC 1918
		netip.MustParsePrefix("192.168.0.0/16"), // RFC 1918
		netip.MustParsePrefix("::/127"),         // unspecified and loopback
		netip.MustParsePrefix("fc00::/7"),       // unique local
		netip.MustParsePrefix("fe80::/10"),      // link-local
	}
})

// isPrivate is is_private(addr).
func isPrivate(_ sqlite.Context, args []sqlite.Value) (sqlite.Value, error) {
	a, ok := ParseAddress(args[0].Text())
	if !ok {
		return sqlite.Value{}, nil
	}
	return boolean(IsPrivateAddress(a))
}

func IsPrivateAddress(a netip.Addr) bool {
	return slices.ContainsFunc(privateRanges(), func(p netip.Prefix) bool { return p.Contains(a) })
}

// ipInt is ip_int(addr): an IPv4 address as an integer, an IPv6 address as a
// blob of 16 bytes, which SQLite sorts after every integer and bytewise.
func ipInt(_ sqlite.Context, args []sqlite.Value) (sqlite.Value, error) {
	a, ok := ParseAddress(args[0].Text())
	switch {
	case !ok:
		return sqlite.Value{}, nil
	case a.Is4():
		var n int64
		for _, b := range a.As4() {
			n = n<<8 | int64(b)
		}
		return sqlite.IntegerValue(n), nil
	}
	return sqlite.BlobValue(a.AsSlice()), nil
}

// ipText is ip_text(value): the reverse of ip_int.
func ipText(_ sqlite.Context, args []sqlite.Value) (sqlite.Value, error) {
	switch v := args[0]; v.Type() {
	case sqlite.TypeInteger:
		n := v.Int64()
		if n < 0 || n > 1<<32-1 {
			return sqlite.Value{}, badArgument("%d is no IPv4 address", n)
		}
		return sqlite.TextValue(netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}).String()), nil
	case sqlite.TypeBlob:
		if a, ok := netip.AddrFromSlice(v.Blob()); ok {
			return sqlite.TextValue(a.String()), nil
		}
	}
	return sqlite.Value{}, nil
}

// ipPlain is ip_plain(addr): an address in its one notation, ::ffff:a.b.c.d as IPv4, without scope.
func ipPlain(_ sqlite.Context, args []sqlite.Value) (sqlite.Value, error) {
	a, ok := ParseAddress(args[0].Text())
	if !ok {
		return sqlite.Value{}, nil
	}
	return sqlite.TextValue(a.String()), nil
}

// cidrStart is cidr_start(cidr): the common prefix of the texts of all addresses in the range, so that an index reduces
// the rows for cidr_match. It is empty for a range that is too wide.
func cidrStart(_ sqlite.Context, args []sqlite.Value) (sqlite.Value, error) {
	p, ok := ParsePrefix(args[0].Text())
	if !ok {
		return sqlite.Value{}, badArgument("%q is neither an address nor a CIDR such as 10.0.0.0/8", Shorten(args[0].Text(), 60))
	}
	return sqlite.TextValue(TextStart(p)), nil
}

// TextStart returns the common prefix of the texts of a range: whole octets of IPv4, and whole groups of IPv6 up to the
// first 0, because the zeros that are abbreviated depend on the rest.
func TextStart(p netip.Prefix) string {
	if a := p.Addr(); a.Is4() {
		octets := p.Bits() / 8
		start := strings.Join(strings.Split(a.String(), ".")[:octets], ".")
		if octets > 0 && octets < 4 {
			start += "."
		}
		return start
	}
	start, bytes := "", p.Addr().As16()
	for group := range min(p.Bits()/16, 7) {
		n := int(bytes[2*group])<<8 | int(bytes[2*group+1])
		if n == 0 {
			break
		}
		start += fmt.Sprintf("%x:", n)
	}
	return start
}

// portName is port_name(port, proto): the service that usually listens there.
func portName(_ sqlite.Context, args []sqlite.Value) (sqlite.Value, error) {
	name := ServiceName(args[0].Int64(), strings.ToLower(args[1].Text()) == "udp")
	if name == "" {
		return sqlite.Value{}, nil
	}
	return sqlite.TextValue(name), nil
}

// ago is ago(span): the time that long ago, in the form of the views.
func (f *Functions) ago(_ sqlite.Context, args []sqlite.Value) (sqlite.Value, error) {
	d, ok := input.ParseSpan(strings.ToLower(strings.TrimSpace(args[0].Text())))
	if !ok {
		return sqlite.Value{}, badArgument("ago takes a span such as '2h' or '7d', not %q", Shorten(args[0].Text(), 60))
	}
	return sqlite.TextValue(f.Clock.Now.Add(-d).UTC().Format(format.TapeTime)), nil
}

// ns is ns(time): any time that --since takes, as nanoseconds like time_ns.
func (f *Functions) ns(_ sqlite.Context, args []sqlite.Value) (sqlite.Value, error) {
	t, err := f.Clock.ParseTime(args[0].Text(), input.Since)
	if err != nil {
		return sqlite.Value{}, badArgument("%v", err)
	}
	return sqlite.IntegerValue(t.UnixNano()), nil
}

// outcomeWords is outcome_words(outcome, n, duration_ns, bytes_sent, bytes_received).
func outcomeWords(_ sqlite.Context, args []sqlite.Value) (sqlite.Value, error) {
	number := func(i int) format.Nullable {
		return format.Nullable{Number: args[i].Int64(), Known: args[i].Type() != sqlite.TypeNull}
	}
	return sqlite.TextValue(format.OutcomeInWords(args[0].Text(), args[1].Int64(), number(2), number(3), number(4))), nil
}

// durationWords is duration_words(ns).
func durationWords(_ sqlite.Context, args []sqlite.Value) (sqlite.Value, error) {
	return sqlite.TextValue(format.DurationText(args[0].Int64())), nil
}
