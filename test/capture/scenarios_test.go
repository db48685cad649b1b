package capture

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A scenario is a kind of traffic that a recorder of connections can miss, or lay at the wrong door: the kinds of the public bench of
// elesiuta/picosnitch, made by programs of our own. docs/capture.md has a table of them.
type scenario struct {
	name, what string
	do         func() error // in a process of its own; nil: by connects
	connects   []string
	rows       []string // on the tape, of that process: see scenarioSQL
	unseen     []string // of rows, those that are missing where the blind spots have a word
	blind      string   // that word
}

// scenarioSQL tells of one program: how often it connected or sent, by how many processes, where to, and how many bytes went each way;
// what it listens to, and what it opened that can forge or sniff.
const scenarioSQL = `SELECT via || ' ' || coalesce(protocol, '?') || ' ' || remote || ' ' || sum(count) || ' by ' || count(DISTINCT pid) || ', ' ||
		coalesce(sum(bytes_sent), '?') || ' out, ' || coalesce(sum(bytes_received), '?') || ' in' || coalesce(', ' || substr(container, 1, 11), '') AS told
	FROM connections WHERE exe = ?1 GROUP BY via, protocol, remote, container
UNION ALL SELECT DISTINCT 'listeners ' || protocol || ' ' || local_address FROM listeners WHERE exe = ?1 AND family = 'ipv4' AND local_address = '127.0.0.1'
UNION ALL SELECT DISTINCT 'sockets_opened ' || action || ' ' || family || ' ' || type || coalesce(' ' || protocol, '') FROM sockets_opened WHERE exe = ?1 AND action = 'socket'
ORDER BY 1`

func scenarios() []scenario {
	lo4, packet := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}, &unix.SockaddrLinklayer{Protocol: networkOrder(0x88b5), Ifindex: 1, Halen: 6}
	const raw, uncounted = "raw and ping sockets", "XDP and SCTP sockets"
	return []scenario{
		{name: "s01", what: "TCP download", do: func() error { return tcpFlow("tcp", local4(sourcePort), 0, 1, 0) },
			rows: []string{"connect tcp 127.0.0.1:7002 1 by 1, 0 out, 200000 in"}},
		{name: "s02", what: "TCP upload", do: func() error { return tcpFlow("tcp", local4(sinkPort), bulk, bulk, 0) },
			rows: []string{"connect tcp 127.0.0.1:7001 1 by 1, 200000 out, 0 in"}},
		{name: "s03", what: "TCP both ways at once", do: func() error { return tcpFlow("tcp", local4(bothPort), bulk/2, 10_000, 0) },
			rows: []string{"connect tcp 127.0.0.1:7003 1 by 1, 100000 out, 200000 in"}},
		{name: "s04", what: "UDP without connect, both ways", do: func() error { return udpFlow(local4(udpPort), 100, 1000, downloads) },
			rows: []string{"sendto udp 127.0.0.1:7004 101 by 1, 100004 out, ? in"}},
		{name: "s05", what: "ICMP echoes with payload, raw socket", do: func() error { return rawFlow(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP, lo4, 50, 64) },
			rows:   []string{"sendto icmp 127.0.0.1:0 50 by 1, 3200 out, ? in", "sockets_opened socket ipv4 raw icmp"},
			unseen: []string{"sendto icmp 127.0.0.1:0 50 by 1, 3200 out, ? in"}, blind: raw},
		{name: "s06", what: "UDP to port 443, as QUIC", do: func() error { return udpFlow(local4(443), 100, 1200, 0) },
			rows: []string{"sendto udp 127.0.0.1:443 100 by 1, 120000 out, ? in"}},
		{name: "s07", what: "TCP over IPv6", do: func() error { return tcpFlow("tcp", local6(sinkPort), bulk, bulk, 0) },
			rows: []string{"connect tcp [::1]:7001 1 by 1, 200000 out, 0 in"}},
		{name: "s08", what: "SCTP", do: func() error {
			return rawFlow(unix.AF_INET, unix.SOCK_SEQPACKET, unix.IPPROTO_SCTP, &unix.SockaddrInet4{Port: 7008, Addr: lo4.Addr}, 1, 10)
		}, blind: uncounted},
		{name: "s09", what: "flood of small datagrams to port 53, as a tunnel through DNS", do: func() error { return udpFlow(local4(53), 2000, 40, 0) },
			rows: []string{"sendto udp 127.0.0.1:53 2000 by 1, 80000 out, ? in"}},
		{name: "s10", what: "raw IP, protocol 253", do: func() error { return rawFlow(unix.AF_INET, unix.SOCK_RAW, 253, lo4, 20, 100) },
			rows:   []string{"sendto 253 127.0.0.1:0 20 by 1, 2000 out, ? in", "sockets_opened socket ipv4 raw 253"},
			unseen: []string{"sendto 253 127.0.0.1:0 20 by 1, 2000 out, ? in"}, blind: raw},
		{name: "s11", what: "30 processes that live for one connect", do: func() error { return manyTimes(30, false, childFlow) },
			rows: []string{"connect tcp 127.0.0.1:7001 30 by 30, 300 out, 0 in"}},
		{name: "s12", what: "frames through a packet socket", do: func() error { return rawFlow(unix.AF_PACKET, unix.SOCK_DGRAM, 0, packet, 20, 100) },
			rows: []string{"frame ? lo protocol 0x88b5 20 by 1, 2280 out, ? in", "sockets_opened socket packet dgram"}},
		{name: "s13", what: "upload by io_uring", connects: []string{"uring-flow", "up", strconv.Itoa(sinkPort)},
			rows: []string{"connect tcp 127.0.0.1:7001 1 by 1, 4096 out, 0 in"}},
		{name: "s14", what: "upload by sendfile", do: func() error { return sendFile(local4(sinkPort), bulk) },
			rows: []string{"connect tcp 127.0.0.1:7001 1 by 1, 200000 out, 0 in"}},
		{name: "s15", what: "UDP by sendmmsg, whose bytes no hook tells", do: func() error { return batchFlow(local4(udpPort), 32, 500, 0) },
			rows: []string{"listeners udp 127.0.0.1", "sendto udp 127.0.0.1:7004 32 by 1, ? out, ? in"}},
		{name: "s16", what: "another address of the loopback", do: func() error { return udpFlow("127.9.9.9:7016", 10, 10, 0) },
			rows: []string{"sendto udp 127.9.9.9:7016 10 by 1, 100 out, ? in"}},
		{name: "s17", what: "from a container", do: func() error { return tcpFlow("tcp", local4(sinkPort), bulk, bulk, 0) },
			rows: []string{"connect tcp 127.0.0.1:7001 1 by 1, 200000 out, 0 in, docker:0123"}},
		{name: "s18", what: "slow upload in drops", do: func() error { return tcpFlow("tcp", local4(sinkPort), 200, 10, 50*time.Millisecond) },
			rows: []string{"connect tcp 127.0.0.1:7001 1 by 1, 200 out, 0 in"}},
		{name: "s19", what: "200 small connections", do: func() error {
			return manyTimes(200, false, func() error { return tcpFlow("tcp", local4(sinkPort), 10, 10, 0) })
		},
			rows: []string{"connect tcp 127.0.0.1:7001 200 by 1, 2000 out, 0 in"}},
		{name: "s20", what: "eight uploads at once", do: func() error {
			return manyTimes(8, true, func() error { return tcpFlow("tcp", local4(sinkPort), bulk, 1000, 0) })
		},
			rows: []string{"connect tcp 127.0.0.1:7001 8 by 1, 1600000 out, 0 in"}},
		{name: "s21", what: "download by io_uring", connects: []string{"uring-flow", "down", strconv.Itoa(sourcePort)},
			rows: []string{"connect tcp 127.0.0.1:7002 1 by 1, 0 out, 200000 in"}},
		{name: "s22", what: "download by splice", do: func() error { return spliceAway(local4(sourcePort)) },
			rows: []string{"connect tcp 127.0.0.1:7002 1 by 1, 0 out, 200000 in"}},
		{name: "s23", what: "UDP by recvmmsg", do: func() error { return batchFlow(local4(udpPort), 0, 500, downloads) },
			rows: []string{"listeners udp 127.0.0.1", "sendto udp 127.0.0.1:7004 1 by 1, 4 out, ? in"}},
		{name: "s24", what: "UDP download over IPv6", do: func() error { return udpFlow(local6(udpPort), 0, 0, downloads) },
			rows: []string{"sendto udp [::1]:7004 1 by 1, 4 out, ? in"}},
		{name: "child", do: func() error { return tcpFlow("tcp", local4(sinkPort), 10, 10, 0) }},
	}
}

// command returns the program of a scenario, by a name of its own in dir.
func (s *scenario) command(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	program, cmd := env.connects, exec.Command(env.connects, s.connects...)
	if s.do != nil {
		cmd = helperCommand("flow", s.name)
		program = cmd.Path
	}
	cmd.Path = filepath.Join(dir, s.name)
	if err := os.Link(program, cmd.Path); err != nil {
		copyFile(t, program, cmd.Path)
		if err := os.Chmod(cmd.Path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if s.name == "s17" {
		group := makeCgroup(t, "conntape-test.slice", "docker-"+strings.Repeat("0123456789abcdef", 4)+".scope")
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(group.Fd())}
	}
	return cmd
}

// TestScenarios: each kind of traffic leaves the rows that docs/capture.md promises, with the program that made it and what it sent and
// received, or the blind spots name it.
func TestScenarios(t *testing.T) {
	if env.inGuest && os.Getenv("CONNTAPE_TEST_LONG") == "" {
		t.Skip("SKIPPED: each of the ways to send is a case of its own in every guest")
	}
	dir, programs := tempDir(t), tempDir(t)
	keepPacketSocket(t)
	tape := record(t, dir, "--events", openedEvents)
	missing := map[string]string{}
	inOwnNetwork(t, func() {
		serveFlows(t)
		for _, s := range scenarios() {
			if s.name == "child" {
				continue
			}
			if out, err := s.command(t, programs).CombinedOutput(); err != nil {
				if missing[s.name] = string(out); !strings.Contains(string(out), errFlowNotHere.Error()) && !strings.Contains(string(out), "no io_uring") {
					t.Errorf("%s: %v: %s", s.name, err, out)
				}
			}
		}
	})
	tape.stop(t)
	spots, backend := blindSpots(t, dir), rows(t, dir, `SELECT backend FROM segments`)[0].text("backend")
	for _, s := range scenarios() {
		if s.name == "child" {
			continue
		}
		if why := missing[s.name]; why != "" {
			coverage("scenarios", s.name, "n/a", backend+" "+strings.TrimSpace(why))
			continue
		}
		want, verdict := slices.Clone(s.rows), "seen"
		if s.blind != "" && strings.Contains(spots, s.blind) {
			verdict = "blind"
			want = slices.DeleteFunc(want, func(row string) bool { return slices.Contains(s.unseen, row) })
		}
		var got []string
		for _, r := range rows(t, dir, scenarioSQL, filepath.Join(programs, s.name)) {
			got = append(got, r.text("told"))
		}
		if !slices.Equal(got, want) {
			verdict = "failed"
			t.Errorf("%s, %s:\ngot  %q\nwant %q", s.name, s.what, got, want)
		}
		coverage("scenarios", s.name, verdict, backend+" "+s.what+": "+strings.Join(got, "; "))
	}
}

// The table of the scenarios in the documents is what TestScenarios holds.
func TestScenariosAreDocumented(t *testing.T) {
	if env.inGuest {
		t.Skip("SKIPPED: the documents are not in a guest")
	}
	text, err := os.ReadFile("../../docs/capture.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range scenarios() {
		if s.name == "child" {
			continue
		}
		rows := "`" + strings.Join(s.rows, "`, `") + "`"
		if s.rows == nil {
			rows = "none"
		}
		if s.blind != "" {
			rows += "; blind spot: " + s.blind
		}
		if line := fmt.Sprintf("| %s | %s | %s |\n", s.name, s.what, rows); !strings.Contains(string(text), line) {
			t.Errorf("docs/capture.md lacks\n%s", line)
		}
	}
}
