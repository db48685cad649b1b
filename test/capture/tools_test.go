package capture

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Tools that people have (test/setup installs them), each in a namespace where 127.0.0.53 answers and the peers of flows listen.
var tools = []struct{ name, command string }{
	{"dig", "dig +tries=1 +time=1 @127.0.0.53 n1-dig.example"},
	{"dig-tcp", "dig +tcp +tries=1 +time=1 @127.0.0.53 n1-digtcp.example"},
	{"nslookup", "nslookup -timeout=1 -retry=1 n1-nslookup.example 127.0.0.53"},
	{"getent", "getent hosts n1-getent.example"},
	{"curl", "curl -s --http0.9 -o /dev/null http://127.0.0.1:7002/"},
	{"wget", "wget -q -t 1 -T 1 -O /dev/null http://127.0.0.1:7009/"},
	{"python3", `python3 -c "import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(5): s.sendto(b'conntape', ('127.0.0.1', 7004))
socket.create_connection(('127.0.0.1', 7001))"`},
	{"ping", "ping -n -c 3 -i 0.2 127.0.0.1"},
	{"traceroute", "traceroute -n -q 1 -m 2 -w 1 127.0.0.1"},
	{"nmap-sT", "nmap -sT -n -Pn -p 7001,7009 --max-retries 0 127.0.0.1"},
	{"nmap-sU", "nmap -sU -n -Pn -p 53,7009 --max-retries 0 127.0.0.1"},
	{"nmap-sS", "nmap -sS -n -Pn -p 7001,7009 --max-retries 0 127.0.0.1"},
	{"dnsmasq", "dnsmasq -k -C /dev/null -p 5300 -i lo -z -R -S 127.0.0.53 & sleep 1; dig +tries=1 +time=1 -p 5300 @127.0.0.1 n5-dnsmasq.example; kill %1; wait"},
}

var (
	tracedCall = regexp.MustCompile(`^(\d+) +(?:connect|sendto|sendmsg|sendmmsg)\(\d+(<.*?>)?, `)
	tracedTo   = regexp.MustCompile(`sa_family=AF_INET, sin_port=htons\((\d+)\), sin_addr=inet_addr\("([^"]+)"\)|sa_family=AF_INET6, sin6_port=htons\((\d+)\),.*?inet_pton\(AF_INET6, "([^"]+)"`)
)

// traced reads what strace saw: the processes, how often they connected or sent to each place, and how often through sockets that have no
// ports.
func traced(t *testing.T, file string) (pids []string, calls, raw map[string]int64) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	calls, raw, known := map[string]int64{}, map[string]int64{}, map[string]bool{}
	for line := range strings.Lines(string(text)) {
		pid, _, _ := strings.Cut(line, " ")
		if !known[pid] {
			known[pid] = true
			pids = append(pids, pid)
		}
		call := tracedCall.FindStringSubmatch(line)
		if call == nil {
			continue
		}
		for _, to := range tracedTo.FindAllStringSubmatch(line, -1) {
			place := to[2] + ":" + to[1]
			if to[4] != "" {
				place = "[" + to[4] + "]:" + to[3]
			}
			if !strings.Contains(line, "connect(") && (strings.HasPrefix(call[2], "<RAW") || strings.HasPrefix(call[2], "<PING") || strings.HasPrefix(call[2], "<ICMP")) {
				raw[place]++
			} else {
				calls[place]++
			}
		}
	}
	return pids, calls, raw
}

// TestToolsAgreeWithStrace: of what people's own tools connect and send to, the tape has each as often as strace saw it, and of what they look
// up each question as often as their server saw it.
func TestToolsAgreeWithStrace(t *testing.T) {
	if env.inGuest {
		t.Skip("SKIPPED: guests have none of these tools")
	}
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("SKIPPED: no strace")
	}
	dir, logs := tempDir(t), tempDir(t)
	tape := record(t, dir)
	ran, lookedUp := map[string]bool{}, map[string]map[string]int64{}
	server := questions{count: map[string]int64{}}
	inOwnNetwork(t, func() {
		serveNamesAt(t, nameServer, server.note)
		serveFlows(t)
		for _, tool := range tools {
			program, _, _ := strings.Cut(tool.command, " ")
			if _, err := exec.LookPath(program); err != nil {
				continue
			}
			ran[tool.name] = true
			cmd := exec.Command(strace, "-f", "-yy", "-s", "0", "-e", "trace=connect,sendto,sendmsg,sendmmsg,exit_group", "-o", filepath.Join(logs, tool.name), "bash", "-mc", tool.command)
			out, err := cmd.CombinedOutput() // whether it likes the answer is not asked
			t.Logf("%s: %v\n%s", tool.name, err, out)
			lookedUp[tool.name] = server.take()
		}
	})
	tape.stop(t)
	blind := strings.Contains(blindSpots(t, dir), "raw and ping sockets")
	blindToNames := strings.Contains(blindSpots(t, dir), "names that processes look up")
	backend := rows(t, dir, `SELECT backend FROM segments`)[0].text("backend")
	for _, tool := range tools {
		t.Run(tool.name, func(t *testing.T) {
			if !ran[tool.name] {
				t.Skip("SKIPPED: it is not installed: test/setup")
			}
			pids, want, raw := traced(t, filepath.Join(logs, tool.name))
			if len(pids) == 0 || len(want)+len(raw) == 0 {
				t.Skip("SKIPPED: strace saw it go nowhere")
			}
			verdict := "seen"
			if blind && len(raw) > 0 {
				verdict = "blind"
			} else {
				for place, n := range raw {
					want[place] += n
				}
			}
			got := map[string]int64{}
			for _, r := range rows(t, dir, `SELECT remote, sum(count) AS n FROM connections WHERE pid IN (`+strings.Join(pids, ",")+`) AND family IN ('ipv4', 'ipv6') GROUP BY remote`) {
				got[r.text("remote")] = r.int("n")
			}
			if !maps.Equal(got, want) {
				verdict = "failed"
				t.Errorf("the tape has %v, strace saw %v, and through raw sockets %v", got, want, raw)
			}
			names := map[string]int64{}
			for _, r := range rows(t, dir, `SELECT name || ' ' || type AS what, sum(count) AS n FROM lookups WHERE pid IN (`+strings.Join(pids, ",")+`) AND server_address = '127.0.0.53' GROUP BY what`) {
				names[r.text("what")] = r.int("n")
			}
			if !blindToNames && !maps.Equal(names, lookedUp[tool.name]) {
				verdict = "failed"
				t.Errorf("the tape has the lookups %v, their server saw %v", names, lookedUp[tool.name])
			}
			if n := number(t, dir, `SELECT count(*) FROM sockets_opened WHERE pid IN (`+strings.Join(pids, ",")+`) AND action = 'socket'`); len(raw) > 0 && n == 0 {
				t.Error("no row says who opened the raw socket")
			}
			coverage("tools", tool.name, verdict, fmt.Sprint(backend, " ", want))
		})
	}
}
