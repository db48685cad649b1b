package capture

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// checkPeer: a UNIX connect that a listener took has the listener, which in these cases is the program itself; a datagram
// socket and a connect that failed have none.
func checkPeer(t *testing.T, c *caseRun) {
	for _, f := range c.found {
		peer := want{"peer_pid": nil, "peer_exe": nil}
		if r := f.report; r.Errno == 0 && (r.Type == unix.SOCK_STREAM || r.Type == unix.SOCK_SEQPACKET) {
			peer = want{"peer_pid": r.PID, "peer_exe": env.connects}
		}
		for _, row := range f.rows {
			match(t, "peer", row, peer)
		}
	}
}

// TestPeer: which daemon a UNIX connect reached is that of whoever listens, not of whoever has the other end meanwhile; of TCP nobody
// says.
func TestPeer(t *testing.T) {
	dir, at := tempDir(t), tempDir(t)
	tape := record(t, dir)
	path := filepath.Join(at, "daemon.sock")
	unixListener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer unixListener.Close()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	for network, address := range map[string]string{"unix": path, "tcp": tcp.Addr().String()} {
		cmd := helperCommand("dial", network, address)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	tape.stop(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	got := rows(t, dir, `SELECT pid, family, peer_pid, peer_exe FROM connections WHERE remote_address = ? OR remote_port = ? ORDER BY family`, path, tcp.Addr().(*net.TCPAddr).Port)
	if len(got) != 2 {
		t.Fatalf("%d rows: %v", len(got), got)
	}
	match(t, "TCP", got[0], want{"family": "ipv4", "peer_pid": nil, "peer_exe": nil})
	match(t, "UNIX", got[1], want{"family": "unix", "peer_pid": os.Getpid(), "peer_exe": self})
	if got[1].int("pid") == int64(os.Getpid()) {
		t.Error("the test is to connect from another process")
	}
}
