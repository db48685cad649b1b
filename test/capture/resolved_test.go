package capture

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// resolvedFiles are what systemd-resolved and the clients read, but for nsswitch.conf. Its server is the one of the test.
var resolvedFiles = map[string]string{
	"passwd":                "root:x:0:0::/:/bin/bash\nsystemd-resolve:x:991:991::/:/bin/false\n",
	"group":                 "root:x:0:\nsystemd-resolve:x:991:\n",
	"os-release":            "ID=debian\n",
	"resolv.conf":           "nameserver 127.0.0.53\n",
	"systemd/resolved.conf": "[Resolve]\nDNS=127.0.0.1\nLLMNR=no\nMulticastDNS=no\nDNSSEC=no\n",
}

// resolvedRoot makes a root for chroot(2) of what test/guest/fetch left.
func resolvedRoot(t *testing.T) string {
	t.Helper()
	from := os.Getenv("RESOLVED_ROOT")
	if from == "" {
		t.Skip("SKIPPED: RESOLVED_ROOT is not set; the matrix runs this in the first cell of 6.12. By hand: RESOLVED_ROOT=$(test/guest/fetch resolved-amd64)")
	}
	root := filepath.Join(tempDir(t), "root")
	if err := os.CopyFS(root, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"etc/systemd", "run/systemd/resolve", "dev"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range resolvedFiles {
		if err := os.WriteFile(filepath.Join(root, "etc", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(filepath.Join(root, "run/systemd/resolve"), 991, 991); err != nil {
		t.Fatal(err)
	}
	return root
}

// inRoot is a command in the root, traced into a file there. It is the command that is signaled and waited for, and strace a grandchild.
func inRoot(root, trace string, args ...string) *exec.Cmd {
	cmd := exec.Command("/bin/strace", append([]string{"-D", "-f", "-s", "0", "-e", "trace=connect,sendto,sendmsg,sendmmsg,exit_group", "-o", "/" + trace}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	cmd.Dir, cmd.Env = "/", []string{"PATH=/bin"}
	return cmd
}

// raiseTunnel makes a device with an address that is up: without one systemd-resolved asks nobody.
func raiseTunnel(t *testing.T) {
	t.Helper()
	var o opener
	err := o.device("tun0", unix.IFF_TUN)
	if err == nil {
		t.Cleanup(func() { unix.Close(o.fd) })
		err = raise("tun0", netip.MustParseAddr("192.0.2.1"))
	}
	if err != nil {
		t.Fatalf("make a device: %v", err)
	}
}

// answersTogether gives what systemd-resolved answers one port 0: of several answers to one address the tape has the port of the first alone.
func answersTogether(calls map[string]int64) map[string]int64 {
	together := map[string]int64{}
	for place, n := range calls {
		var port int
		if at := strings.LastIndexByte(place, ':'); at > 0 {
			if _, err := fmt.Sscan(place[at+1:], &port); err == nil && port >= 32768 {
				place = place[:at] + ":0"
			}
		}
		together[place] += n
	}
	return together
}

// TestResolved: systemd-resolved and its clients connect and send as often as strace says, and its lookups are those that its server saw. A
// client that asks the stub by DNS has the name from its own answer. One that asks by varlink, as nss-resolve does, has it from systemd-resolved,
// and so has anybody else there: for whom it asked is not known.
func TestResolved(t *testing.T) {
	root, dir := resolvedRoot(t), tempDir(t)
	tape := record(t, dir)
	server := questions{count: map[string]int64{}}
	clients := []struct{ trace, services, name string }{
		{"varlink", "resolve", "n5-varlink.example"}, {"stub", "dns", "n6-stub.example"}, {"cached", "dns", "n6-stub.example"},
	}
	inOwnNetwork(t, func() {
		raiseTunnel(t)
		serveNamesAt(t, "127.0.0.1:53", server.note)
		resolved := inRoot(root, "resolved", "/lib/systemd/systemd-resolved")
		var said strings.Builder
		resolved.Stdout, resolved.Stderr = &said, &said
		if err := resolved.Start(); err != nil {
			t.Error(err)
			return
		}
		defer func() {
			_ = resolved.Process.Kill()
			_ = resolved.Wait()
			if t.Failed() {
				t.Logf("systemd-resolved: %s", said.String())
			}
		}()
		eventually(t, "systemd-resolved listens", func() bool {
			_, err := os.Stat(filepath.Join(root, "run/systemd/resolve/io.systemd.Resolve"))
			sockets, _ := os.ReadFile("/proc/thread-self/net/udp")
			return err == nil && strings.Contains(string(sockets), "3500007F:0035")
		})
		for _, c := range clients {
			if err := os.WriteFile(filepath.Join(root, "etc/nsswitch.conf"), []byte("hosts: "+c.services+"\n"), 0o644); err != nil {
				t.Error(err)
			}
			out, err := inRoot(root, c.trace, "/bin/bash", "-c", ": >/dev/tcp/"+c.name+"/4433").CombinedOutput()
			if !strings.Contains(string(out), "Connection refused") {
				t.Errorf("%s: %v\n%s", c.trace, err, out)
			}
		}
		knock(5)
		knock(6)
	})
	inOwnNetwork(t, func() { knock(5) })
	tape.stop(t)

	who := map[string]string{}
	for _, trace := range []string{"resolved", "varlink", "stub", "cached"} {
		pids, want, _ := traced(t, filepath.Join(root, trace))
		who[trace] = strings.Join(pids, ",")
		got := map[string]int64{}
		for _, r := range rows(t, dir, `SELECT remote, sum(count) AS n FROM connections WHERE pid IN (`+who[trace]+`) AND family IN ('ipv4', 'ipv6') GROUP BY remote`) {
			got[r.text("remote")] = r.int("n")
		}
		if trace == "resolved" {
			got, want = answersTogether(got), answersTogether(want)
		}
		if len(want) == 0 || !maps.Equal(got, want) {
			t.Errorf("%s: the tape has %v, strace saw %v", trace, got, want)
		}
	}
	holdResolvedNames(t, dir, who)
	lookedUp := map[string]int64{}
	for _, r := range rows(t, dir, `SELECT name || ' ' || type AS what, sum(count) AS n FROM lookups WHERE pid IN (`+who["resolved"]+`) AND server_address = '127.0.0.1' GROUP BY what`) {
		lookedUp[r.text("what")] = r.int("n")
	}
	if len(lookedUp) == 0 || !maps.Equal(lookedUp, server.count) {
		t.Errorf("systemd-resolved looked up %v, its server saw %v", lookedUp, server.count)
	}
	for trace, want := range map[string]int64{"varlink": 0, "stub": 1, "cached": 1} {
		if n := number(t, dir, `SELECT coalesce(sum(count), 0) FROM lookups WHERE pid IN (`+who[trace]+`) AND server_address = '127.0.0.53' AND name = 'n6-stub.example' AND type = 'A'`); n != want {
			t.Errorf("%s: the stub answered it %d times, not %d", trace, n, want)
		}
	}
}

// holdResolvedNames compares the names of connects to port 4433, and who asked systemd-resolved by its socket.
func holdResolvedNames(t *testing.T, dir string, who map[string]string) {
	t.Helper()
	names := func(pids string) (got []string) {
		for _, r := range rows(t, dir, `SELECT remote_ip, remote_name, name_source FROM connections WHERE pid IN (`+pids+`) AND remote_port = 4433 ORDER BY time_ns`) {
			got = append(got, strings.TrimSpace(r.text("remote_ip")+" "+r.text("remote_name")+" "+r.text("name_source")))
		}
		return got
	}
	who["test"] = fmt.Sprint(os.Getpid())
	for client, want := range map[string][]string{
		"varlink": {"127.0.7.5 n5-varlink.example stub"},
		"stub":    {"127.0.7.6 n6-stub.example dns"},
		"cached":  {"127.0.7.6 n6-stub.example dns"},
		"test":    {"127.0.7.5 n5-varlink.example stub", "127.0.7.6 n6-stub.example stub", "127.0.7.5"},
	} {
		if got := names(who[client]); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", client, got, want)
		}
	}
	if n := number(t, dir, `SELECT count(*) FROM connections WHERE pid IN (`+who["varlink"]+`) AND remote LIKE '%/io.systemd.Resolve' AND peer_pid IN (`+who["resolved"]+`)`); n != 1 {
		t.Errorf("%d rows say that the client asked systemd-resolved by its socket", n)
	}
}
