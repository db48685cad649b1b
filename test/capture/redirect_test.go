package capture

import (
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// TestRedirected: where a program of the caller's cgroup sends a connect elsewhere, the tape has one of the two addresses whole,
// and the backend's blind spots say that it does not have the other.
func TestRedirected(t *testing.T) {
	group := makeCgroup(t, "conntape-redirected")
	other, err := link.AttachCgroup(link.CgroupOptions{Path: group.Name(), Attach: ebpf.AttachCGroupInet4Connect, Program: redirect(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	dir := tempDir(t)
	tape := record(t, dir)
	cmd := exec.Command(env.connects, "quick", "udp", "127.0.0.9", "1053", "word")
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(group.Fd())}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	tape.stop(t)

	all := rows(t, dir, `SELECT * FROM connections WHERE cgroup = '/conntape-redirected'`)
	if len(all) != 1 {
		t.Fatalf("want one connect, got %v", all)
	}
	expected, spot := want{"remote_address": "127.0.0.9", "remote_port": 1053}, "where a connect went that a cgroup program sent elsewhere"
	if all[0].text("backend") == "cgroup" {
		expected, spot = want{"remote_address": "127.0.0.1", "remote_port": 2053}, "the address that the caller asked for, where another cgroup program sent a connect elsewhere before"
	}
	match(t, "connect", all[0], expected)
	if spots := rows(t, dir, `SELECT blind_spots FROM segments`)[0].text("blind_spots"); !strings.Contains(spots, spot) {
		t.Errorf("the blind spots do not say %q:\n%s", spot, spots)
	}
}

// redirect sends connects to 127.0.0.9, of whatever port, to port 2053 of 127.0.0.1. It knows struct bpf_sock_addr of linux/bpf.h.
func redirect(t *testing.T) *ebpf.Program {
	t.Helper()
	const userIP4, userPort = 4, 24
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.CGroupSockAddr, AttachType: ebpf.AttachCGroupInet4Connect, License: "GPL", Instructions: asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, userIP4, asm.Word),
		asm.JNE.Imm32(asm.R2, 0x0900007f, "pass"),
		asm.Mov.Imm(asm.R2, 0x0100007f),
		asm.StoreMem(asm.R1, userIP4, asm.R2, asm.Word),
		asm.Mov.Imm(asm.R2, 0x0508), // 2053 in network order
		asm.StoreMem(asm.R1, userPort, asm.R2, asm.Word),
		asm.Mov.Imm(asm.R0, 1).WithSymbol("pass"),
		asm.Return(),
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}
