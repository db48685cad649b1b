package recorder

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/bpf"
	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/store/segment"
)

func mustExclude(t *testing.T, rules string) []Exclusion {
	t.Helper()
	e, err := ParseExclusions(rules)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// TestExclusionsAreNoWider: a rule excludes the connects that it describes and no others, whatever its conditions leave open.
func TestExclusionsAreNoWider(t *testing.T) {
	const id = "4f0c1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7"
	made := func(change func(*store.Task)) *party {
		task := &store.Task{UID: 1000, User: "alice", Container: id, Process: &store.Process{Exe: "/usr/bin/dig", Mounts: store.MountsHost}}
		if change != nil {
			change(task)
		}
		return &party{task: task}
	}
	connect := func(to []byte, uid uint32) *bpf.Connect {
		return &bpf.Connect{Remote: to, UID: uid}
	}
	alice, v4 := made(nil), connect(ipv4(10, 9, 8, 7, 53), 1000)
	for _, c := range []struct {
		rule string
		of   *bpf.Connect
		by   *party
		want bool
	}{
		{"port=53", v4, alice, true},
		{"port=53", connect(sockaddr6("2001:db8::1", 53), 1), alice, true},
		{"port=54", v4, alice, false},
		{"port=50-60", v4, alice, true},
		{"port=54-60", v4, alice, false},
		{"port=53", connect([]byte{unix.AF_UNIX, 0, 0, 53}, 1), alice, false},
		{"port=53", connect([]byte{unix.AF_INET, 0, 0, 53}, 1), alice, false}, // cut short
		{"port=53", connect(nil, 1), alice, false},
		{"to=10.9.8.0/24", v4, alice, true},
		{"to=10.9.8.7", v4, alice, true},
		{"to=10.9.8.6", v4, alice, false},
		{"to=10.9.8.0/24", connect(sockaddr6("::ffff:10.9.8.7", 53), 1), alice, true},
		{"to=2001:db8::/32", connect(sockaddr6("2001:db8::1", 53), 1), alice, true},
		{"to=0.0.0.0/0", connect(sockaddr6("2001:db8::1", 53), 1), alice, false},
		{"user=alice", v4, alice, true},
		{"user=1000", v4, alice, true},
		{"user=1000", connect(v4.Remote, 0), alice, false},
		{"user=alic", v4, alice, false},
		{"user=alice", v4, made(func(t *store.Task) { t.User = "" }), false}, // of another mount namespace
		{"exe=/usr/bin/dig", v4, alice, true},
		{"exe=/usr/bin/d?g", v4, alice, true},
		{"exe=/usr/*", v4, alice, false}, // a star does not pass a /
		{"exe=/usr/bin/dig", v4, made(func(t *store.Task) { t.Process.Mounts = store.MountsOther }), false},
		{"exe=/usr/bin/dig", v4, made(func(t *store.Task) { t.Process.Mounts = store.MountsUnknown }), false},
		{"exe=/usr/bin/dig", v4, made(func(t *store.Task) { t.Process.ExeDeleted = true }), false},
		{"exe=/usr/bin/dig", v4, made(func(t *store.Task) { t.Process.ExeMemfd = true }), false},
		{"exe=/usr/bin/dig", v4, made(func(t *store.Task) { t.Process.Exe = "" }), false},
		{"container=" + id[:12], v4, alice, true},
		{"container=" + id, v4, alice, true},
		{"container=" + id[:11], v4, alice, false},
		{"container=" + id[1:], v4, alice, false},
		{"family=ipv4", v4, alice, true},
		{"family=ipv6", v4, alice, false},
		{"family=unix", connect([]byte{unix.AF_UNIX, 0}, 1), alice, true},
		{"user=alice port=53 to=10.0.0.0/8", v4, alice, true},
		{"user=alice port=53 to=11.0.0.0/8", v4, alice, false},
	} {
		if got := mustExclude(t, c.rule)[0].meets(c.of, c.by); got != c.want {
			t.Errorf("%s: %v, want %v (to %x, %+v)", c.rule, got, c.want, c.of.Remote, c.by.task)
		}
	}
}

// sockaddr6 is a struct sockaddr_in6.
func sockaddr6(address string, port uint16) []byte {
	raw := binary.NativeEndian.AppendUint16(nil, unix.AF_INET6)
	raw = append(binary.BigEndian.AppendUint16(raw, port), 0, 0, 0, 0)
	to := netip.MustParseAddr(address).As16()
	return append(append(raw, to[:]...), 0, 0, 0, 0)
}

func TestParseExclusions(t *testing.T) {
	if e := mustExclude(t, " port=53;; user=a   to=::1 ; "); len(e) != 2 || e[0].String() != "port=53" || e[1].String() != "user=a to=::1" {
		t.Errorf("read %+v", e)
	}
	if e := mustExclude(t, ""); len(e) != 0 {
		t.Errorf("nothing is %+v", e)
	}
	for rule, want := range map[string]string{
		"port":              "it has no value",
		"port=":             "it has no value",
		"port=0":            "from 1 to 65535",
		"port=80-79":        "from 1 to 65535",
		"port=65536":        "from 1 to 65535",
		"port=http":         "from 1 to 65535",
		"comm=curl":         "a condition is one of user, exe, to, port, container, family",
		"53":                "a condition is one of",
		"exe=dig":           "begins with /",
		"exe=/usr/[":        "syntax error",
		"to=example.com":    "neither an address nor a CIDR",
		"to=10.0.0.1/8":     "the network is 10.0.0.0/8",
		"to=fe80::1%eth0":   "neither an address nor a CIDR",
		"family=inet":       "families are ipv4",
		"port=1 port=2":     "once at most",
		"port=53; prot=udp": `"prot=udp"`,
	} {
		if _, err := ParseExclusions(rule); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", rule, err, want)
		}
	}
}

// TestExcluded: what a rule keeps off the tape is counted with the rule, whether it returned, waits, is issued again by io_uring, or
// has an outcome; everything else has its row.
func TestExcluded(t *testing.T) {
	src, out := newScript(), newMemory()
	c := quick()
	c.exclude = mustExclude(t, "port=53; to=10.0.0.0/8 port=123")
	stop := start(t, src, out, c, Options{})
	now, k := bootNow(), key(1, 1, 1)
	src.process(execOf(k, bpf.ProcessKey{}, now, "/bin/resolver", "resolver\x00"))
	at := now
	to := func(raw []byte) bpf.Connect {
		at++
		one := connectBy(k, at)
		one.Remote = raw
		return one
	}
	dns := to(ipv4(10, 1, 1, 1, 53))
	src.connect(dns, to(ipv4(10, 1, 1, 1, 53)), to(ipv4(10, 1, 1, 1, 123)), to(ipv4(11, 1, 1, 1, 123)), to(ipv4(10, 1, 1, 1, 80)))
	src.outcome(&dns, established(&dns, 5000))
	waits, returns := to(ipv4(10, 1, 1, 2, 53)), to(ipv4(10, 1, 1, 3, 53))
	src.begin(waits)
	src.begin(returns)
	again := to(ipv4(10, 1, 1, 4, 53))
	again.Via, again.Errno = bpf.ViaIOUring, int32(unix.EINPROGRESS)
	second := again
	second.Flags, second.Errno, second.BootTime = bpf.Reissue, 0, again.BootTime+1
	src.connect(again, second)
	time.Sleep(10 * c.flightAge)
	src.end(returns)
	time.Sleep(10 * c.tick)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	accounted(t, out)
	n := out.counters
	if n["excluded"] != 6 || n["stored"] != 2 || n["lost"] != 0 || n["folded"] != 1 || n["seen"] != 8 || n["in_flight"] != 0 {
		t.Errorf("counters %v", n)
	}
	if n["outcome_seen"] != n["outcome_stored"]+n["outcome_coalesced"]+n["outcome_lost"] || n["outcome_lost"] != 0 {
		t.Errorf("outcomes: %v", n)
	}
	for _, row := range out.rows {
		if row.Remote.Port == 53 {
			t.Errorf("there is a row of %+v", row.Remote)
		}
	}
	for rule, want := range map[string]uint64{"port=53": 5, "to=10.0.0.0/8 port=123": 1} {
		gaps := gapsOf(out, segment.CauseExcluded+rule)
		if len(gaps) != 1 || gaps[0].Lost != want || !strings.Contains(gaps[0].Detail, "pid 1 (comm) of uid 0 made") {
			t.Errorf("%s: %+v, want %d", rule, gaps, want)
		}
	}
}
