package capture

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// loopbackPackets returns how many packets the loopback of this thread's network namespace has sent. There is no other device.
func loopbackPackets(t *testing.T) (n int64) {
	t.Helper()
	text, err := os.ReadFile("/proc/thread-self/net/dev")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		name, counts, _ := strings.Cut(strings.TrimSpace(line), ":")
		if fields := strings.Fields(counts); name == "lo" && len(fields) > 9 {
			if _, err := fmt.Sscan(fields[9], &n); err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("no loopback in %s", text)
	return 0
}

// TestRecorderSendsNothing: a recorder that looks at everything makes no packet, while it tries its hooks, reads names and reads the hashes of
// who connects.
func TestRecorderSendsNothing(t *testing.T) {
	dir := tempDir(t)
	inOwnNetwork(t, func() {
		tape := record(t, dir, "--names", "dns,sni,http", "--batch-age", "200ms")
		out, err := helperCommand("dial", "udp", "127.0.0.1:53").CombinedOutput() // a connect alone
		if err != nil {
			t.Errorf("%v: %s", err, out)
		}
		time.Sleep(2 * time.Second)
		tape.stop(t)
		if n := loopbackPackets(t); n != 0 {
			t.Errorf("%d packets were sent", n)
		}
		c, err := net.Dial("udp4", "127.0.0.1:9")
		if err == nil {
			_, err = c.Write([]byte{0})
			c.Close()
		}
		if n := loopbackPackets(t); err != nil || n == 0 {
			t.Errorf("a packet of the test is not counted: %d, %v", n, err)
		}
	})
	if n := number(t, dir, `SELECT count(*) FROM connections WHERE remote = '127.0.0.1:53' AND via = 'connect'`); n == 0 {
		t.Error("the connect is not on the tape")
	}
}
