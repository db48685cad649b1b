package main

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// With --events a tail shows what sockets did beside connecting, each once and in its place among connections; filters are about these too.
func TestTailEvents(t *testing.T) {
	tape := filepath.Join(t.TempDir(), "tape")
	if err := writeFixture(tape, "incident"); err != nil {
		t.Fatal(err)
	}
	tail := func(line string) (stdout, stderr string, code int) {
		h, out, messages := world("")
		h.now = func() time.Time { return time.Date(2026, 7, 1, 20, 0, 0, 0, time.UTC) }
		code = h.report(h.run(context.Background(), append([]string{"tail", "--dir", tape, "--lines", "100000", "--quiet"}, strings.Fields(line)...)))
		return out.String(), messages.String(), code
	}
	for line, want := range map[string][]string{
		"--events all --exe kworker --limit 8": {
			"established 198.51.100.66:443 [kworker/0:1]", "denied 198.51.100.99:8443", "listens 10.0.0.9:31337", "bound 10.0.0.9:53",
			"opened packet raw all ×2 [kworker/0:1]", "bound packet raw all eth0", "filter packet raw all eth0", "promiscuous packet raw all eth0",
		},
		"--events all --to 198.51.100.7 --exe kworker --limit 1":         {"accepted 198.51.100.7:50123 at 10.0.0.9:31337"},
		"--events all --exe agent --limit 2":                             {"169.254.169.254:80", "opened tun tun0"},
		"--events bind,accept --exe kworker --to 198.51.100.7 --limit 1": {"accepted"},
		"--events socket,setsockopt --exe kworker --port 8443 --limit 1": {"denied 198.51.100.99:8443"},
		"--exe agent --limit 1":                                          {"169.254.169.254:80"},
		"--events all --to 203.0.113.50 --exe nginx --limit 1":           {"accepted 203.0.113.50 at 10.0.0.9:80"},
	} {
		out, messages, code := tail(line)
		lines := strings.Split(strings.TrimSpace(out), "\n")
		if code != exitDone || len(lines) != len(want) {
			t.Errorf("%s: exit %d, %d lines, want %d\n%s%s", line, code, len(lines), len(want), out, messages)
			continue
		}
		for i := range want {
			if got := strings.Join(strings.Fields(lines[i]), " "); !strings.Contains(got, want[i]) {
				t.Errorf("%s: line %d is %q, want %q", line, i+1, got, want[i])
			}
		}
	}
	if _, messages, code := tail("--events recv"); code == exitDone || !strings.Contains(messages, `unknown event "recv"`) {
		t.Errorf("an unknown event: exit %d, %s", code, messages)
	}
	if _, messages, code := tail("--events all --where 1"); code == exitDone || !strings.Contains(messages, "--where is about columns of connections") {
		t.Errorf("--where with --events: exit %d, %s", code, messages)
	}
}
