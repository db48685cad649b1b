package recorder

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/bpf"
	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/store/segment"
)

// Exclusion is a rule that keeps connects off the tape: those that meet all of its conditions. Each of them is counted, in a gap
// that names the rule.
//
// There is no condition on comm or command line: a process writes those itself.
type Exclusion struct {
	text  string // as it was written
	cause string
	tests []func(*bpf.Connect, *party) bool
}

// String returns the rule as it was written.
func (e *Exclusion) String() string { return e.text }

// exclusionConditions are the conditions of a rule, by name.
var exclusionConditions = []struct {
	name  string
	parse func(value string) (func(*bpf.Connect, *party) bool, error)
}{
	{"user", parseUserRule},
	{"exe", parseExeRule},
	{"to", parseToRule},
	{"port", parsePortRule},
	{"container", parseContainerRule},
	{"family", parseFamilyRule},
}

// ExclusionConditions returns the names of the conditions that a rule may have.
func ExclusionConditions() []string {
	var names []string
	for _, c := range exclusionConditions {
		names = append(names, c.name)
	}
	return names
}

// ParseExclusions reads rules, separated by semicolons. A rule is conditions NAME=VALUE separated by spaces: user (name or uid), exe
// (absolute path, with the wildcards of path.Match), to (address or CIDR), port (N or N-M), container (its id, or 12 digits of it or
// more), family (ipv4, ipv6, unix or vsock). An error tells which condition is wrong.
func ParseExclusions(text string) ([]Exclusion, error) {
	var rules []Exclusion
	for rule := range strings.SplitSeq(text, ";") {
		conditions := strings.Fields(rule)
		if len(conditions) == 0 {
			continue
		}
		e := Exclusion{text: strings.Join(conditions, " ")}
		e.cause = segment.CauseExcluded + e.text
		had := map[string]bool{}
		for _, condition := range conditions {
			name, value, _ := strings.Cut(condition, "=")
			test, err := parseCondition(name, value)
			if err == nil && had[name] {
				err = errors.New("a rule has it once at most: write another rule")
			}
			if err != nil {
				return nil, fmt.Errorf("%q: %w", condition, err)
			}
			had[name] = true
			e.tests = append(e.tests, test)
		}
		rules = append(rules, e)
	}
	return rules, nil
}

func parseCondition(name, value string) (func(*bpf.Connect, *party) bool, error) {
	for _, c := range exclusionConditions {
		switch {
		case c.name != name:
		case value == "":
			return nil, errors.New("it has no value")
		default:
			return c.parse(value)
		}
	}
	return nil, errors.New("a condition is one of " + strings.Join(ExclusionConditions(), ", ") + ", then = and a value")
}

// parseUserRule goes by the uid of the thread that connects, or by the name that the host gives it.
func parseUserRule(value string) (func(*bpf.Connect, *party) bool, error) {
	if uid, err := strconv.ParseUint(value, 10, 32); err == nil {
		return func(c *bpf.Connect, _ *party) bool { return c.UID == uint32(uid) }, nil
	}
	return func(_ *bpf.Connect, p *party) bool { return p.task.User == value }, nil
}

// parseExeRule goes by the program's path. In another mount namespace anybody may have any path: there it excludes nothing.
func parseExeRule(value string) (func(*bpf.Connect, *party) bool, error) {
	if !path.IsAbs(value) {
		return nil, errors.New("the path of a program begins with /")
	}
	if _, err := path.Match(value, ""); err != nil {
		return nil, err
	}
	return func(_ *bpf.Connect, p *party) bool {
		program := p.task.Process
		if program.Mounts != store.MountsHost || program.ExeDeleted || program.ExeMemfd {
			return false
		}
		same, _ := path.Match(value, program.Exe)
		return same
	}, nil
}

// parseToRule goes by where a connect went, whatever was asked for.
func parseToRule(value string) (func(*bpf.Connect, *party) bool, error) {
	prefix, err := netip.ParsePrefix(value)
	if err != nil {
		address, err := netip.ParseAddr(value)
		if err != nil || address.Zone() != "" {
			return nil, errors.New("it is neither an address nor a CIDR")
		}
		prefix = netip.PrefixFrom(address, address.BitLen())
	}
	if prefix != prefix.Masked() {
		return nil, fmt.Errorf("the network is %s", prefix.Masked())
	}
	return func(c *bpf.Connect, _ *party) bool {
		to := remoteOf(c)
		return to.IsValid() && prefix.Contains(to.Addr().Unmap())
	}, nil
}

func parsePortRule(value string) (func(*bpf.Connect, *party) bool, error) {
	low, high, several := strings.Cut(value, "-")
	if !several {
		high = low
	}
	from, err := strconv.ParseUint(low, 10, 16)
	to, err2 := strconv.ParseUint(high, 10, 16)
	if errors.Join(err, err2) != nil || from == 0 || to < from {
		return nil, errors.New("a port is a number from 1 to 65535, or two: 6000-6063")
	}
	return func(c *bpf.Connect, _ *party) bool {
		remote := remoteOf(c)
		return remote.IsValid() && remote.Port() >= uint16(from) && remote.Port() <= uint16(to)
	}, nil
}

// leastContainer is how many digits of a container's id tell it from any other.
const leastContainer = 12

func parseContainerRule(value string) (func(*bpf.Connect, *party) bool, error) {
	return func(_ *bpf.Connect, p *party) bool {
		id := p.task.Container
		return id == value || len(value) >= leastContainer && strings.HasPrefix(id, value)
	}, nil
}

func parseFamilyRule(value string) (func(*bpf.Connect, *party) bool, error) {
	family, ok := map[string]uint16{"ipv4": unix.AF_INET, "ipv6": unix.AF_INET6, "unix": unix.AF_UNIX, "vsock": unix.AF_VSOCK}[value]
	if !ok {
		return nil, errors.New("families are ipv4, ipv6, unix, vsock")
	}
	return func(c *bpf.Connect, _ *party) bool {
		return len(c.Remote) >= 2 && binary.NativeEndian.Uint16(c.Remote) == family
	}, nil
}

// remoteOf returns where a connect went, the zero value if that is no address of IP.
func remoteOf(c *bpf.Connect) netip.AddrPort {
	if len(c.Remote) < 2 {
		return netip.AddrPort{}
	}
	switch family := binary.NativeEndian.Uint16(c.Remote); {
	case family == unix.AF_INET && len(c.Remote) >= 8: // struct sockaddr_in
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(c.Remote[4:8])), binary.BigEndian.Uint16(c.Remote[2:]))
	case family == unix.AF_INET6 && len(c.Remote) >= 24: // struct sockaddr_in6
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(c.Remote[8:24])), binary.BigEndian.Uint16(c.Remote[2:]))
	}
	return netip.AddrPort{}
}

// excludedSpots says what rules keep off the tape, as what the backend cannot see is said.
func excludedSpots(rules []Exclusion) []string {
	var spots []string
	for i := range rules {
		spots = append(spots, "connects that are excluded by "+rules[i].text)
	}
	return spots
}

// excluded returns the first rule that a connect of who meets, nil for none. Of a process that is unknown nothing is excluded by who it
// is.
func (r *recorder) excluded(c *bpf.Connect, who *party) *Exclusion {
	for i := range r.config.exclude {
		if e := &r.config.exclude[i]; e.meets(c, who) {
			return e
		}
	}
	return nil
}

func (e *Exclusion) meets(c *bpf.Connect, who *party) bool {
	for _, test := range e.tests {
		if !test(c, who) {
			return false
		}
	}
	return true
}

// exclude counts n attempts of who, if a rule keeps them off the tape, and reports whether one does: more than one are sends without
// connect.
func (r *recorder) exclude(c *bpf.Connect, who *party, n uint64) bool {
	e := r.excluded(c, who)
	if e == nil {
		return false
	}
	r.resolver.lump(c, who, &r.row)
	if c.Flags&bpf.Reissue != 0 {
		if _, ok := r.reissues.first(c, r.row.Remote); ok {
			r.ledger.folded++
			return true
		}
	}
	r.renounce(c)
	r.reissues.remember(c, &r.row, false)
	r.ledger.refuse(e.cause, c, who.owner, n)
	return true
}
