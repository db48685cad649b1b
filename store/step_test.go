package store

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/conntape/conntape/store/segment"
)

// stepVariable of the environment is "all" to have playPower say each step, or NAME=N to have it killed at a step for the nth time.
const stepVariable = "CONNTAPE_TEST_STEP"

// stepHook is what a recorder that plays a part does at its steps.
func stepHook() func(string) {
	asked := os.Getenv(stepVariable)
	if asked == "" {
		return nil
	}
	at, number, _ := strings.Cut(asked, "=")
	left, _ := strconv.Atoi(number)
	return func(name string) {
		if at == "all" {
			fmt.Println("step", name)
		}
		if name != at {
			return
		}
		if left--; left == 0 {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // until it arrives
		}
	}
}

// stepBatches is how many batches a boot has in which a recorder is killed.
const stepBatches = 9

// playSteps records boots of the host into a tape with a log. It says which steps were done, or where it was killed.
func playSteps(t *testing.T, dir, step string, batches int, boots ...string) (said string, killed bool) {
	t.Helper()
	for i, boot := range boots {
		cmd := childCommand(t, "power", dir, boot, strconv.Itoa(batches), strconv.Itoa(i*batches*powerBatch))
		cmd.Env = append(cmd.Env, stepVariable+"="+step)
		out, err := cmd.Output()
		said += string(out)
		if err != nil {
			if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
				t.Fatalf("%v: %s", err, out)
			}
			return said, true
		}
	}
	return said, false
}

// TestKillAtEachStep kills a recorder right at each step that leaves something half done: a boot's row, an entry of the manifest, a
// reserve that shrinks or grows, a slot or a WAL that changes its name, a sealed file that takes its place. What is left verifies, has
// what was said to be safe, and the next recorder goes on with it, or is killed at the same step.
func TestKillAtEachStep(t *testing.T) {
	t.Setenv(powerReserve, "1")
	said, _ := playSteps(t, filepath.Join(t.TempDir(), "tape"), "all", stepBatches, testBoot, "boot-2")
	steps := map[string]int{}
	for line := range strings.Lines(said) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "step "); ok {
			steps[name]++
		}
	}
	for _, want := range []string{"boot row written", "run continued", "segment sealed, manifest not written", "manifest written", "reserve shrunk", "reserve grown",
		"slot emptied", "slot taken", "slot not named", "slot named", "spare WAL emptied", "spare WAL placed", "WAL linked", "WAL detached",
		"sealed segment named", "sealed segment durable"} {
		if steps[want] == 0 {
			t.Errorf("no recorder came to %q", want)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(steps)) {
		t.Run(name, func(t *testing.T) {
			for _, n := range []int{1, steps[name] * 3 / 4}[:rounds(1, 1, 2)] {
				if n == 0 {
					continue
				}
				dir := filepath.Join(t.TempDir(), "tape")
				said, killed := playSteps(t, dir, fmt.Sprintf("%s=%d", name, n), stepBatches, testBoot, "boot-2")
				if !killed && n > 1 {
					continue // how often others come there is chance
				}
				if !killed {
					t.Fatalf("it was not killed the %d. time of %d", n, steps[name])
				}
				again, _ := playSteps(t, dir, name+"=1", 0, "boot-3")
				p := promisedIn(said + again)
				if p.key == "" {
					continue // killed before there was a log
				}
				p.again = true                                                   // the log was told by nobody of two ends
				p.clean = name == "boot row written" || name == "reserve shrunk" // a recorder that begins, after one that stopped
				if err := checkPower(t, dir, p); err != nil {
					t.Errorf("killed the %d. time: %v", n, err)
				}
			}
		})
	}
}

// TestTornManifest: a recorder was killed, or the power went, in the middle of an entry. Readers do without, and the next recorder makes
// the manifest whole.
func TestTornManifest(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	if _, killed := playSteps(t, dir, "", stepBatches, testBoot); killed {
		t.Fatal("it was killed")
	}
	name := filepath.Join(dir, segment.ManifestName)
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	entries, _ := readManifest(t, dir)
	for _, end := range []int{0, 5, len(segment.ManifestMagic), len(segment.ManifestMagic) + 3, len(text) / 2, len(text) - 1} {
		if err := os.WriteFile(name, text[:end], 0o640); err != nil {
			t.Fatal(err)
		}
		checkWhole(t, dir)
		w := mustOpenWriter(t, dir, options(1e6*second))
		waitSealed(t, w)
		mustClose(t, w, 1e6*second+1)
		if got, whole := readManifest(t, dir); !whole || got < entries {
			t.Errorf("torn after %d bytes: %d entries of %d, whole: %v", end, got, entries, whole)
		}
	}
}
