package report

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/input"
)

// Filter selects connections. Empty fields do not filter.
type Filter struct {
	Where     string // SQL expression over the columns of connections
	Exe       string // program: path, its last part, or thread name
	User      string // name or uid
	PID       string // whole number
	Port      string // remote or requested port, a whole number
	To        string // address, CIDR, address:port, or path or @name of a UNIX socket
	Container string // part of the name
	Outcome   string // one of [Outcomes]
	Name      string // name that was looked up, in which * stands for anything
	From      string // of what was accepted: the peer, as To
	View      string // that is filtered: one of [Canned.FilteredView]; "" is connections
}

// condition is an SQL expression over connections with its parameters.
type condition struct {
	sql    string
	params map[string]format.Value
}

// conditions returns the conditions of the filter, or a UsageError. Its parameters begin with filter_, so they differ
// from a query's.
func (f Filter) conditions() ([]condition, error) {
	var all []condition
	add := func(sql string, params map[string]format.Value) { all = append(all, condition{sql, params}) }
	if f.Name != "" {
		if strings.ContainsFunc(f.Name, func(r rune) bool { return !isNameRune(r) }) {
			return nil, input.Usagef("such as --name example.com or --name '*.example.com'", "%q is no name that can be looked up", ask.Shorten(f.Name, 60))
		}
		add("' ' || remote_name || ' ' GLOB '* ' || lower(rtrim(:filter_name, '.')) || ' *'", map[string]format.Value{"filter_name": format.TextValue(f.Name)})
	}
	switch {
	case strings.HasPrefix(f.Exe, "/"):
		add("exe = :filter_exe", map[string]format.Value{"filter_exe": format.TextValue(f.Exe)})
	case f.Exe != "":
		add("comm = :filter_exe OR exe = :filter_exe OR substr(exe, -length(:filter_exe) - 1) = '/' || :filter_exe", map[string]format.Value{"filter_exe": format.TextValue(f.Exe)})
	}
	if f.User != "" {
		sql, params := "user = :filter_user", map[string]format.Value{"filter_user": format.TextValue(f.User)}
		if uid := ask.ParseValue(f.User); uid.Kind == format.Integer {
			sql, params["filter_uid"] = sql+" OR uid = :filter_uid", uid
		}
		add(sql, params)
	}
	port := "remote_port = :filter_port OR requested_port = :filter_port"
	if f.view() != Connections {
		port = "local_port = :filter_port"
	}
	for _, number := range []struct{ flag, sql, text string }{{"pid", "pid = :filter_pid", f.PID}, {"port", port, f.Port}} {
		if number.text == "" {
			continue
		}
		v := ask.ParseValue(number.text)
		if number.flag == "port" && v.Kind == format.Integer && v.Int > 65535 {
			return nil, input.Usagef("ports are 0 to 65535", "there is no port %s", number.text)
		}
		if v.Kind != format.Integer || v.Int < 0 {
			return nil, input.Usagef("give a number without unit or sign, such as 443", "--%s takes a whole number, not %q", number.flag, number.text)
		}
		add(number.sql, map[string]format.Value{"filter_" + number.flag: v})
	}
	for _, side := range []struct {
		text string
		read func(text string) (condition, error)
	}{{f.To, f.toCondition}, {f.From, func(text string) (condition, error) { return sideCondition("remote", "filter_from", text) }}} {
		if side.text == "" {
			continue
		}
		c, err := side.read(side.text)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	if f.Container != "" {
		add("instr(container, :filter_container) > 0", map[string]format.Value{"filter_container": format.TextValue(f.Container)})
	}
	if f.Outcome != "" {
		word, err := format.ParseOutcome(f.Outcome)
		if err != nil {
			return nil, err
		}
		add("outcome = :filter_outcome", map[string]format.Value{"filter_outcome": format.TextValue(word)})
	}
	if f.Where != "" {
		add(f.Where+"\n", nil) // it may end with a comment
	}
	return all, nil
}

// requestedTo is the condition that an address was asked for, of a connect that was sent elsewhere.
const requestedTo = "requested_address IN (:filter_to, '::ffff:' || :filter_to)"

// toCondition reads --to: where a connect went, or what it asked for. It compares a single address with =, which avoids
// reading every connection.
func toCondition(text string) (condition, error) {
	to, err := readPlace(text, "try 192.0.2.1, 192.0.2.0/24, 192.0.2.1:443 or /run/docker.sock; --name finds the names that were looked up")
	if err != nil {
		return condition{}, err
	}
	params := to.params("filter_to")
	switch {
	case to.path:
		return condition{"family = 'unix' AND remote_address = :filter_to", params}, nil
	case to.port != nil:
		return condition{"remote_ip = :filter_to AND remote_port = :filter_to_port OR " + requestedTo + " AND requested_port = :filter_to_port", params}, nil
	case to.single:
		return condition{"remote_ip = :filter_to OR " + requestedTo, params}, nil
	}
	return condition{"family IN ('ipv4', 'ipv6') AND (cidr_match(remote_address, :filter_to) OR coalesce(cidr_match(requested_address, :filter_to), 0))", params}, nil
}

// sideCondition reads --to or --from of connections that were accepted: side is local or remote.
func sideCondition(side, param, text string) (condition, error) {
	at, err := readPlace(text, "try 192.0.2.1, 192.0.2.0/24 or 2001:db8::/32")
	if err != nil {
		return condition{}, err
	}
	address := side + "_address"
	sql := "cidr_match(" + address + ", :" + param + ")"
	switch {
	case at.path:
		sql = "family = 'unix' AND " + address + " = :" + param
	case at.port != nil:
		sql = "ip_plain(" + address + ") = :" + param + " AND " + side + "_port = :" + param + "_port"
	case at.single:
		sql = "ip_plain(" + address + ") = :" + param
	}
	return condition{sql, at.params(param)}, nil
}

// place is an address as people give it.
type place struct {
	text   string        // in its one form
	path   bool          // of a UNIX socket
	single bool          // one IP address, and no range
	port   *format.Value // nil: any
}

func readPlace(text, hint string) (place, error) {
	if text[0] == '/' || text[0] == '@' {
		return place{text: text, path: true}, nil
	}
	if at, err := netip.ParseAddrPort(text); err == nil {
		port := format.IntValue(int64(at.Port()))
		return place{text: at.Addr().Unmap().String(), single: true, port: &port}, nil
	}
	prefix, ok := ask.ParsePrefix(text)
	switch {
	case !ok && isWholeNumber(text):
		return place{}, input.Usagef("a port is given with --port "+text, "cannot read address %q", text)
	case !ok:
		return place{}, input.Usagef(hint, "cannot read address %q", text)
	case prefix.IsSingleIP():
		return place{text: prefix.Addr().String(), single: true}, nil
	}
	return place{text: text}, nil
}

// params are the parameters of a condition: the address, and its port with _port behind the name.
func (p place) params(name string) map[string]format.Value {
	params := map[string]format.Value{name: format.TextValue(p.text)}
	if p.port != nil {
		params[name+"_port"] = *p.port
	}
	return params
}

func isWholeNumber(text string) bool {
	_, err := strconv.ParseUint(text, 10, 64)
	return err == nil
}

// toCondition reads --to: of what was accepted, an address of this host.
func (f Filter) toCondition(text string) (condition, error) {
	if f.view() != Connections {
		return sideCondition("local", "filter_to", text)
	}
	return toCondition(text)
}

// Connections is the view that most filters are of.
const Connections = "connections"

func (f Filter) view() string { return cmp.Or(f.View, Connections) }

// IsEmpty reports whether everything passes.
func (f Filter) IsEmpty() bool {
	f.View = ""
	return f == Filter{}
}

// Apply returns the request with its SQL reading only what passes of the view. A UsageError means that the filter is
// wrong.
func (f Filter) Apply(r ask.Request) (ask.Request, error) {
	where, params, err := f.where()
	if err != nil || f.IsEmpty() {
		return r, err
	}
	maps.Copy(params, r.Params)
	r.SQL = withTable(f.view()+" AS NOT MATERIALIZED (SELECT * FROM main."+f.view()+" WHERE "+where+")", r.SQL)
	r.Params = params
	return r, nil
}

// where returns all conditions as one SQL expression with parameters; 1: everything passes.
func (f Filter) where() (sql string, params map[string]format.Value, err error) {
	conditions, err := f.conditions()
	if err != nil || len(conditions) == 0 {
		return "1", nil, err
	}
	var parts []string
	params = make(map[string]format.Value)
	for _, c := range conditions {
		parts = append(parts, "("+c.sql+")")
		maps.Copy(params, c.params)
	}
	slices.Sort(parts)
	return strings.Join(parts, " AND "), params, nil
}
