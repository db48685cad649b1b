package capture

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestSyslog: with --syslog a checkpoint reaches the system's log within the ten seconds that are promised, and a line of
// that log is a head that verify takes.
func TestSyslog(t *testing.T) {
	const socket = "/dev/log"
	if _, err := os.Lstat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Skip("SKIPPED: this host has a system log, which the test would write to")
	}
	log, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(socket)
	defer log.Close()
	dir := tempDir(t)
	tape := record(t, dir, "--syslog")
	if err := log.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	var line string
	for message := make([]byte, 8192); !strings.Contains(line, "checkpoint "); {
		n, err := log.Read(message)
		if err != nil {
			t.Fatalf("no checkpoint in the system's log: %v", err)
		}
		line = string(message[:n])
	}
	t.Logf("after %v: %s", time.Since(begun), line)
	if !strings.Contains(line, "conntape[") {
		t.Errorf("it does not say whose it is: %q", line)
	}
	tape.stop(t)
	head := filepath.Join(tempDir(t), "messages")
	if err := os.WriteFile(head, []byte(line+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(env.conntape, "verify", "--dir", dir, "--head", head).CombinedOutput(); err != nil {
		t.Errorf("verify --head: %v\n%s", err, out)
	}
}
