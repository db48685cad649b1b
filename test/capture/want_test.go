package capture

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"sort"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/store/escape"
)

// want has the expected columns: nil is NULL, a test decides itself, anything else must be equal.
type want map[string]any

type test struct {
	says string
	ok   func(any) bool
	// all allowed values, if only some are
	values []any
}

func oneOf(values ...any) test {
	return test{says: fmt.Sprintf("one of %v", values), values: values, ok: func(got any) bool {
		for _, v := range values {
			if got == norm(v) {
				return true
			}
		}
		return false
	}}
}

func has(part string) test {
	return test{says: "text with " + part, ok: func(got any) bool {
		s, ok := got.(string)
		return ok && strings.Contains(s, part)
	}}
}

var anything = test{says: "anything", ok: func(any) bool { return true }}

func between(low, high int64) test {
	return test{says: fmt.Sprintf("a number from %d to %d", low, high), ok: func(got any) bool {
		n, ok := got.(int64)
		return ok && low <= n && n <= high
	}}
}

// from is evaluated after the case has run.
type from func(c *caseRun) any

// resolve chooses the values for the current backend and evaluates from.
func (w want) resolve(c *caseRun) want {
	done := want{}
	for k, v := range w {
		if by, ok := v.(byBackend); ok {
			if v, ok = by[env.seenBy]; !ok {
				continue
			}
		}
		if f, ok := v.(from); ok {
			v = f(c)
		}
		done[k] = v
	}
	return done
}

// on chooses by backend; a backend that is not listed has the usual value.
func on(values map[string]any) byBackend { return values }

type byBackend map[string]any

func norm(v any) any {
	if n, ok := v.(int); ok {
		return int64(n)
	}
	return v
}

// but returns w with some columns replaced.
func (w want) but(other want) want {
	merged := want{}
	for k, v := range w {
		merged[k] = v
	}
	for k, v := range other {
		merged[k] = v
	}
	return merged
}

func match(t *testing.T, what string, got row, w want) bool {
	t.Helper()
	var columns []string
	for c := range w {
		columns = append(columns, c)
	}
	sort.Strings(columns)
	good := true
	for _, c := range columns {
		v, there := got[c]
		expected := norm(w[c])
		if check, ok := expected.(test); ok {
			if there && check.ok(v) {
				continue
			}
			expected = check.says
		} else if there && v == expected {
			continue
		}
		t.Errorf("%s: %s is %s, want %s", what, c, show(v), show(expected))
		good = false
	}
	return good
}

func show(v any) string {
	switch v := v.(type) {
	case nil:
		return "NULL"
	case string:
		return fmt.Sprintf("%q", v)
	}
	return fmt.Sprint(v)
}

// usual returns the row of an ordinary attempt.
func (c *caseRun) usual(r report) want {
	w := want{
		"pid": r.PID, "count": 1, "exe": env.connects, "cmdline": escape.Cmdline(c.argv), "cwd": c.dir, "backend": env.seenBy,
		"ppid": r.PPID, "parent_id": test{says: "a number", ok: func(v any) bool { _, ok := v.(int64); return ok }},
		"via": "connect", "address_source": "kernel", "hook_errno": 0,
	}
	if env.seenBy == "cgroup" {
		w["hook_errno"] = nil
	}
	if r.partial {
		return w
	}
	w = w.but(want{
		"fd": r.FD, "comm": escape.Bytes(r.Comm), "uid": r.UID, "gid": r.GID, "euid": r.EUID, "netns": r.NetNS,
		"socket_family": familyText(r.Family), "type": typeText(r.Type), "protocol": protocolText(r.Family, r.Protocol),
		"cookie": int64(r.Cookie), "addrlen": int64(int32(r.Addrlen)), "remote_raw": hex.EncodeToString(r.Addr),
		"errno": r.Errno, "outcome": outcomeText(r), "time_ns": between(r.Real0-int64(slack), r.Real1+int64(slack)),
	})
	if r.TID != 0 {
		w["tid"] = r.TID
	}
	if r.NetNS == 0 { // it has no /proc
		delete(w, "netns")
	}
	if r.FD < 0 {
		w["fd"] = nil
	}
	w["family"], w["remote_address"], w["remote_port"] = addressText(r.Addr)
	if env.seenBy == "cgroup" && r.Family == unix.AF_UNIX && env.kernelBefore(6, 7) {
		w["address_source"] = "user" // no hook sees it; connect(2)'s return does
	}
	w["local_address"], w["local_port"] = nil, nil
	if followed(r) {
		w["local_address"], w["local_port"] = anything, anything // those of the connection
	} else if local, port := localText(r); local != nil {
		w["local_address"], w["local_port"] = local, port
	}
	return w
}

func addressText(raw []byte) (family, address, port any) {
	if len(raw) < 2 {
		return anything, anything, nil
	}
	number := int64(raw[0]) | int64(raw[1])<<8
	switch {
	case number == unix.AF_INET && len(raw) >= 16:
		return "ipv4", netip.AddrFrom4([4]byte(raw[4:8])).String(), int64(raw[2])<<8 | int64(raw[3])
	case number == unix.AF_INET6 && len(raw) >= 24:
		return "ipv6", netip.AddrFrom16([16]byte(raw[8:24])).String(), int64(raw[2])<<8 | int64(raw[3])
	case number == unix.AF_UNIX && len(raw) > 2 && raw[2] != 0 && raw[2] != '@':
		path, _, _ := strings.Cut(string(raw[2:]), "\x00")
		return "unix", escape.Bytes([]byte(path)), nil
	}
	return familyText(number), anything, anything
}

// localText is nil for a socket that is not bound.
func localText(r report) (address, port any) {
	family, address, port := addressText(r.Local)
	if r.Type == unix.SOCK_RAW {
		port = int64(0) // what getsockname(2) gives there is the protocol
	}
	switch {
	case family == "unix" && len(r.Local) > 2:
		return address, nil
	case family == "ipv4" && (address != "0.0.0.0" || port != int64(0)), family == "ipv6" && (address != "::" || port != int64(0)):
		return address, port
	}
	return nil, nil
}

// followed reports whether the kernel reports the attempt's further states: a TCP attempt that sent a SYN.
func followed(r report) bool {
	unspec := len(r.Addr) >= 2 && r.Addr[0] == 0 && r.Addr[1] == 0
	return (r.Family == unix.AF_INET || r.Family == unix.AF_INET6) && r.Type == unix.SOCK_STREAM && !unspec &&
		(r.Protocol == unix.IPPROTO_TCP || r.Protocol == unix.IPPROTO_MPTCP)
}

// outcomeText is a word, or a test where the end of the connection depends on who of two exiting processes comes first.
func outcomeText(r report) any {
	if followed(r) {
		switch r.Errno {
		case 0, int64(unix.EINPROGRESS):
			return oneOf("established", "reset")
		case int64(unix.EINTR), 512:
			return oneOf("aborted", "established", "reset")
		}
	}
	switch r.Errno {
	case 0:
		switch {
		case len(r.Addr) >= 2 && r.Addr[0] == 0 && r.Addr[1] == 0:
			return "disconnected"
		case r.Type == unix.SOCK_STREAM, r.Type == unix.SOCK_SEQPACKET:
			return "established"
		}
		return "set"
	case int64(unix.ECONNREFUSED):
		return "refused"
	case int64(unix.ETIMEDOUT):
		return "timed out"
	case int64(unix.ENETUNREACH):
		return "unreachable"
	case int64(unix.ECONNRESET): // of a vsock socket: nobody listens
		return "reset"
	case int64(unix.EALREADY):
		return "already connecting"
	case int64(unix.EINTR), 512:
		return "interrupted"
	case int64(unix.EISCONN):
		return "already connected"
	}
	return "failed"
}

func familyText(n int64) string {
	names := map[int64]string{0: "unspec", 1: "unix", 2: "ipv4", 10: "ipv6", 16: "netlink", 17: "packet", 40: "vsock"}
	if name, ok := names[n]; ok {
		return name
	}
	return fmt.Sprintf("family %d", n)
}

func typeText(n int64) string {
	return map[int64]string{1: "stream", 2: "dgram", 3: "raw", 5: "seqpacket"}[n]
}

func protocolText(family, n int64) any {
	if family == unix.AF_INET || family == unix.AF_INET6 {
		return map[int64]any{1: "icmp", 6: "tcp", 17: "udp", 58: "ipv6-icmp", 136: "udplite", 262: "mptcp"}[n]
	}
	if n == 0 {
		return nil
	}
	return fmt.Sprint(n)
}
