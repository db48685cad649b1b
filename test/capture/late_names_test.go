package capture

import (
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestLateHello: a client that connects and says later which server it means, after its row was written, while no recorder runs, or to the
// next recorder: the connection has the name, and every question by name finds it.
func TestLateHello(t *testing.T) {
	if env.inGuest {
		t.Skip("SKIPPED: the kernel does the same as in TestNames; what comes late is the recorder's")
	}
	dir, pins := tempDir(t), pinDir(t)
	flags := []string{"--names", "dns,sni,http", "--batch-age", "200ms", "--pin", "--pin-dir", pins}
	tape := record(t, dir, flags...)
	to := swallow(t)
	names := []string{"late.example", "between.example", "after.example"}
	clients := make([]net.Conn, len(names))
	for i := range clients {
		var err error
		if clients[i], err = net.Dial("tcp4", to); err != nil {
			t.Fatal(err)
		}
		defer clients[i].Close()
	}
	say := func(i int) {
		if _, err := clients[i].Write(helloOf(t, names[i])); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(2 * time.Second)
	say(0)
	tape.end(t, syscall.SIGTERM)
	say(1)
	tape = record(t, dir, flags...)
	say(2)
	time.Sleep(time.Second)
	tape.end(t, syscall.SIGTERM)
	for _, args := range [][]string{{"unpin", "--pin-dir", pins}, {"verify"}} {
		if out, err := exec.Command(env.conntape, append(args, "--dir", dir)...).CombinedOutput(); err != nil {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
	var got []string
	for _, r := range rows(t, dir, `SELECT remote_name, name_source FROM connections WHERE pid = ? AND remote_port = CAST(? AS INTEGER) ORDER BY time_ns`,
		os.Getpid(), to[strings.LastIndexByte(to, ':')+1:]) {
		got = append(got, r.text("remote_name")+" "+r.text("name_source"))
	}
	if want := []string{"late.example sni", "between.example sni", "after.example sni"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, name := range names {
		out, err := exec.Command(env.conntape, "query", "who", name, "--dir", dir, "--format", "csv").Output()
		if err != nil || !strings.Contains(string(out), to) {
			t.Errorf("who %s: %v\n%s", name, err, out)
		}
	}
}

// TestNamesAfterRestart: a connect to a recorder that was started after its process looked up the name has that name, which the tape knows.
func TestNamesAfterRestart(t *testing.T) {
	if env.inGuest {
		t.Skip("SKIPPED: the kernel does the same as in TestNames; what is on the tape is the recorder's")
	}
	dir := tempDir(t)
	tape := record(t, dir)
	inOwnNetwork(t, func() {
		serveNames(t)
		for _, name := range []string{"n1-one.example.", "n2-two.example."} {
			if err := lookUp("udp4", name); err != nil {
				t.Fatal(err)
			}
		}
		tape.stop(t)
		tape = record(t, dir)
		knock(1)
		knock(2)
		knock(3)
	})
	inOwnNetwork(t, func() { knock(2) })
	tape.stop(t)
	var got []string
	for _, r := range rows(t, dir, `SELECT remote_ip, remote_name, name_source FROM connections WHERE pid = ? AND remote_port = 4433 ORDER BY time_ns`, os.Getpid()) {
		got = append(got, r.text("remote_ip")+" "+r.text("remote_name")+" "+r.text("name_source"))
	}
	if want := []string{"127.0.7.1 n1-one.example dns", "127.0.7.2 n2-two.example dns", "127.0.7.3  ", "127.0.7.2  "}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
