package capture

import (
	"errors"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
)

// TestRedirected: where a program of a cgroup sends a connect elsewhere, the tape has where it went and what was asked for:
// on every backend, whether that program runs before ours (in a cgroup below the root) or after it.
func TestRedirected(t *testing.T) {
	dir := tempDir(t)
	tape := record(t, dir)
	before, after := runRedirected(t, "before"), runRedirected(t, "after")
	tape.stop(t)
	t.Run("before", func(t *testing.T) { verifyRedirected(t, dir, before) })
	t.Run("after", func(t *testing.T) { verifyRedirected(t, dir, after) })
	checkRedirectedQuestions(t, dir)
}

// A redirected is what was sent elsewhere in a cgroup.
type redirected struct {
	before         bool
	cgroup         string
	reports, rings []report // by connect, by io_uring
}

// runRedirected connects in a cgroup while its program, or one of the root, sends it elsewhere.
func runRedirected(t *testing.T, place string) redirected {
	r := redirected{before: place == "before", cgroup: "conntape-redirected-" + place}
	group := makeCgroup(t, r.cgroup)
	defer redirectIn(t, group.Name(), r.before)()
	run := func(args ...string) []report {
		cmd := exec.Command(env.connects, args...)
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(group.Fd())}
		o, err := runConnects(cmd)
		if errors.Is(err, errNotHere) {
			return nil
		}
		if err != nil {
			t.Fatalf("connects %v: %v", args, err)
		}
		return o.reports
	}
	r.reports = run("redirected")
	r.rings = append(run("uring-to", "udp", "127.0.0.9", "1059"), run("uring-to", "tcp", "127.0.0.9", "1060")...)
	if r.before {
		r.reports = append(r.reports, run("redirected", "hang")...)
	}
	return r
}

func verifyRedirected(t *testing.T, dir string, redirected redirected) {
	reports, rings, before := redirected.reports, redirected.rings, redirected.before
	all := rows(t, dir, `SELECT * FROM connections WHERE cgroup = ? ORDER BY time_ns`, "/"+redirected.cgroup)
	if len(all) != len(reports)+len(rings) {
		t.Fatalf("want %d connects, got %v", len(reports)+len(rings), all)
	}
	var got []row
	for _, r := range all {
		if r.text("via") == "connect" {
			got = append(got, r)
			continue
		}
		match(t, "uring", r, ringWant(r, before))
	}
	for i, r := range reports {
		w := want{"remote_address": "127.0.0.1", "remote_port": 2053, "requested_address": "127.0.0.9", "requested_port": redirectedPorts[r.Step], "address_source": "kernel"}
		switch r.Step {
		case "udp6", "tcp6":
			w = w.but(want{"remote_address": "::1", "requested_address": "::1"})
		case "mapped":
			w = w.but(want{"remote_address": "::ffff:127.0.0.1", "requested_address": "::ffff:127.0.0.9", "remote_ip": "127.0.0.1"})
		case "nowhere":
			w = w.but(want{"remote_address": "255.255.255.255", "remote_port": 1062, "requested_address": "127.0.0.10", "errno": r.Errno})
			if got[i].text("backend") == "cgroup" && !before { // it failed, and nothing but its hook tells of it
				w = w.but(want{"remote_address": "127.0.0.10", "requested_address": nil, "requested_port": nil})
			}
		case "straight", "any4", "any6", "any6-tcp", "any6-mapped", "fill":
			address, _ := map[string]string{"any4": "0.0.0.0", "any6": "::", "any6-tcp": "::", "any6-mapped": "::ffff:0.0.0.0"}[r.Step]
			if address == "" {
				address = "127.0.0.1"
			}
			w = want{"remote_address": address, "requested_address": nil, "requested_port": nil}
		}
		match(t, r.Step, got[i], w)
	}
}

// redirectedPorts are those that connects asks for.
var redirectedPorts = map[string]int{"udp4": 1053, "udp6": 1054, "tcp4": 1055, "nonblock": 1056, "tcp6": 1057, "mapped": 1058, "nowhere": 1062, "large": 1063, "hang": 1064}

// ringWant is what is known of a connect by io_uring. With cgroup its hook is all there is, and the request itself is gone.
func ringWant(r row, before bool) want {
	port := 1059
	if r.text("protocol") == "tcp" {
		port = 1060
	}
	switch {
	case r.text("backend") != "cgroup":
		return want{"remote_address": "127.0.0.1", "remote_port": 2053, "requested_address": "127.0.0.9", "requested_port": port}
	case before:
		return want{"remote_address": "127.0.0.1", "remote_port": 2053, "requested_address": nil, "requested_port": nil}
	}
	return want{"remote_address": "127.0.0.9", "remote_port": port, "requested_address": nil, "requested_port": nil}
}

// checkRedirectedQuestions asks for the connects by both addresses.
func checkRedirectedQuestions(t *testing.T, dir string) {
	for _, indicator := range []string{"127.0.0.9:1053", "127.0.0.9", "127.0.0.1:2053", "127.0.0.8/30"} {
		out, err := exec.Command(env.conntape, "query", "--dir", dir, "who", indicator, "--all", "--format", "csv").Output()
		if err != nil || !strings.Contains(string(out), "127.0.0.1:2053,,127.0.0.9:1053,") {
			t.Errorf("who %s: %v\n%s", indicator, err, out)
		}
	}
}

// redirectIn has the connects of a cgroup, or else of the root, sent elsewhere until end is called.
func redirectIn(t *testing.T, cgroup string, below bool) (end func()) {
	t.Helper()
	if !below {
		cgroup = cgroupRoot(t)
	}
	if err := rlimit.RemoveMemlock(); err != nil { // before 5.11 programs count
		t.Fatal(err)
	}
	var closers []io.Closer
	for attach, program := range map[ebpf.AttachType]asm.Instructions{ebpf.AttachCGroupInet4Connect: redirect4, ebpf.AttachCGroupInet6Connect: redirect6} {
		p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.CGroupSockAddr, AttachType: attach, License: "GPL", Instructions: program})
		if err != nil {
			t.Fatal(err)
		}
		l, err := link.AttachCgroup(link.CgroupOptions{Path: cgroup, Attach: attach, Program: p})
		if err != nil {
			t.Fatal(err)
		}
		closers = append(closers, l, p)
	}
	return func() {
		for _, c := range closers {
			c.Close()
		}
	}
}

// What the programs know of struct bpf_sock_addr of linux/bpf.h: offsets, and port 2053 in network order.
const (
	userIP4     = 4
	userIP6Last = 20 // the last four bytes of the address
	userPort    = 24
	port2053    = 0x0508
)

// redirect4 sends connects to 127.0.0.9, of whatever port, to port 2053 of 127.0.0.1, and those to 127.0.0.10 to a broadcast
// address, which fail.
var redirect4 = asm.Instructions{
	asm.LoadMem(asm.R2, asm.R1, userIP4, asm.Word),
	asm.JNE.Imm32(asm.R2, 0x0900007f, "other"),
	asm.Mov.Imm(asm.R2, 0x0100007f),
	asm.StoreMem(asm.R1, userIP4, asm.R2, asm.Word),
	asm.Mov.Imm(asm.R2, port2053),
	asm.StoreMem(asm.R1, userPort, asm.R2, asm.Word),
	asm.Ja.Label("pass"),
	asm.JNE.Imm32(asm.R2, 0x0a00007f, "pass").WithSymbol("other"),
	asm.Mov.Imm32(asm.R2, -1),
	asm.StoreMem(asm.R1, userIP4, asm.R2, asm.Word),
	asm.Mov.Imm(asm.R0, 1).WithSymbol("pass"),
	asm.Return(),
}

// redirect6 sends connects to the ports 1054, 1057 and 1058 to port 2053, and those to 1058 to 127.0.0.1.
var redirect6 = asm.Instructions{
	asm.LoadMem(asm.R2, asm.R1, userPort, asm.Word),
	asm.JEq.Imm(asm.R2, 0x1e04, "port"),
	asm.JEq.Imm(asm.R2, 0x2104, "port"),
	asm.JNE.Imm(asm.R2, 0x2204, "pass"),
	asm.Mov.Imm(asm.R2, 0x0100007f),
	asm.StoreMem(asm.R1, userIP6Last, asm.R2, asm.Word),
	asm.Mov.Imm(asm.R2, port2053).WithSymbol("port"),
	asm.StoreMem(asm.R1, userPort, asm.R2, asm.Word),
	asm.Mov.Imm(asm.R0, 1).WithSymbol("pass"),
	asm.Return(),
}
