package capture

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// mostMemory is what a recorder may take with the default buffer, in bytes: 64 MiB of buffer and 100 MB.
const mostMemory = 64<<20 + 100e6

// TestFloods: however one process floods, another one's connects to new addresses have a row each, the recorder's memory
// is bounded, and each attempt is accounted for.
func TestFloods(t *testing.T) {
	for name, flood := range map[string][]string{
		"new names":          {"names", fmt.Sprint(scaled(300_000, 2000))},
		"one address":        {"flood", fmt.Sprint(scaled(2_000_000, 2000)), "2"},
		"processes and argv": {"arguments", fmt.Sprint(scaled(60_000, 200)), "4096"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := tempDir(t)
			tape := record(t, dir)
			pid := tape.cmd.Process.Pid
			flooding := exec.Command(env.connects, flood...)
			var (
				o   outcome
				err error
			)
			done := make(chan struct{})
			go func() {
				o, err = runConnects(flooding)
				close(done)
			}()
			time.Sleep(500 * time.Millisecond)
			const others = 200
			other := mustRun(t, "fresh", fmt.Sprint(others), "5")
			if <-done; err != nil {
				t.Fatal(err)
			}
			most := peakMemory(t, pid)
			tape.stop(t)

			a := readAccount(t, dir)
			t.Logf("peak %.0f MB; seen %d, stored %d, coalesced %d, lost %d", float64(most)/1e6, a.seen, a.stored, a.coalesced, a.lost)
			if most > mostMemory {
				t.Errorf("the recorder took %.0f MB, at most %.0f are allowed", float64(most)/1e6, mostMemory/1e6)
			}
			if got := number(t, dir, `SELECT count(*) FROM connections WHERE pid = ? AND count = 1 AND remote_address LIKE '127.16.%'`, other.number("pid")); got != others {
				t.Errorf("%d of %d connects of another process have their row", got, others)
			}
			if flood[0] != "arguments" {
				flooded := number(t, dir, `SELECT sum(count) FROM connections WHERE pid = ?`, o.number("pid"))
				if flooded+a.lost < o.number("count") {
					t.Errorf("of %d in the flood %d are on the tape and %d lost", o.number("count"), flooded, a.lost)
				}
			}
			if a.lost > 0 {
				said := rows(t, dir, `SELECT detail FROM gaps WHERE lost > 0`)
				if len(said) == 0 || !strings.Contains(said[0].text("detail"), "pid ") {
					t.Errorf("%d are lost, and nobody says whose: %v", a.lost, said)
				}
			}
		})
	}
}

// peakMemory is the most memory that a process has had so far, in bytes.
func peakMemory(t *testing.T, pid int) int64 {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmHWM:" {
			kb, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kb << 10
		}
	}
	t.Fatal("the kernel does not tell the peak of memory")
	return 0
}
