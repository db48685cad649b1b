package capture

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// A manager is what a service manager hears on its socket, sd_notify(3).
type manager struct {
	socket *net.UnixConn
	mu     sync.Mutex
	heard  []string
}

func listenAsManager(t *testing.T) *manager {
	t.Helper()
	path := filepath.Join(tempDir(t), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	m := &manager{socket: socket}
	go func() {
		buffer := make([]byte, 4096)
		for {
			n, err := socket.Read(buffer)
			if err != nil {
				return
			}
			m.mu.Lock()
			m.heard = append(m.heard, strings.Split(string(buffer[:n]), "\n")...)
			m.mu.Unlock()
		}
	}()
	return m
}

// count returns how many lines with this beginning were heard.
func (m *manager) count(beginning string) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, line := range m.heard {
		if strings.HasPrefix(line, beginning) {
			n++
		}
	}
	return n
}

// TestService: the recorder says when it records, and goes on to say that it does; told to, it reads its configuration
// again, takes over what can change, and says what cannot.
func TestService(t *testing.T) {
	m := listenAsManager(t)
	t.Setenv("WATCHDOG_USEC", "3000000")
	file := filepath.Join(tempDir(t), "conntape.toml")
	t.Setenv("CONNTAPE_CONFIG", file)
	configure := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	configure("batch-age = \"1s\"\n")
	tape := launch(t, tempDir(t))
	eventually(t, "the recorder is ready", func() bool { return m.count("READY=1") == 1 && m.count("STATUS=recording with the ") == 1 })
	eventually(t, "signs of life", func() bool { return m.count("WATCHDOG=1") >= 2 })

	reload := func(says string) {
		t.Helper()
		before := m.count("READY=1")
		if err := tape.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		tape.waitFor(t, says)
		eventually(t, "the recorder is ready again", func() bool { return m.count("READY=1") > before && m.count("RELOADING=1") == before })
	}
	configure("batch-age = \"100ms\"\nmax-size = \"1GiB\"\n")
	reload("changed=batch-age")
	tape.waitFor(t, "these settings change at the next start\" settings=max-size")
	configure("batch-age = \"200ms\"\nmax-sise = \"1GiB\"\n")
	reload("unknown setting")
	configure("batch-age = \"100ms\"\nmax-size = \"1GiB\"\nverbose = true\n")
	reload("changed=verbose")
	mustRun(t, "flood", "100")
	tape.stop(t)
}
