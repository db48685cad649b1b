package recorder

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/bpf"
	"github.com/conntape/conntape/store/segment"
)

// TestTouched: what somebody does to the recorder is a gap that loses nothing and says who did it, once.
func TestTouched(t *testing.T) {
	now := bootNow()
	for name, touch := range map[string]struct {
		does func(*script, *memory)
		want string
	}{
		"memory": {func(s *script, _ *memory) {
			s.touches = []bpf.Touch{{Count: 2, Last: now, Tgid: 7, UID: 3, Comm: "gdb"}}
		}, "opened, or it was traced, by pid 7 (gdb), uid 3, the last of 2 times"},
		"stopped": {func(s *script, _ *memory) {
			s.touches = []bpf.Touch{{Count: 1, Last: now, Tgid: 7, Comm: "sh", Signal: unix.SIGSTOP}}
		}, "SIGSTOP was sent to the recorder by pid 7 (sh), uid 0"},
		"out of memory": {func(s *script, _ *memory) {
			s.touches = []bpf.Touch{{Count: 1, Last: now, Tgid: 7, Comm: "sh", Signal: unix.SIGSTOP, Kernel: true}}
		}, "by the kernel"},
		"moved": {func(_ *script, m *memory) { m.moved = errors.New("the directory of the tape was moved") }, "was moved"},
	} {
		t.Run(name, func(t *testing.T) {
			src, out := newScript(), newMemory()
			stop := start(t, src, out, watchful(), Options{})
			src.mu.Lock()
			out.mu.Lock()
			touch.does(src, out)
			out.mu.Unlock()
			src.mu.Unlock()
			waitFor(t, "a gap", func() bool { return len(gapsOf(out, segment.CauseTouched)) > 0 })
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			g := gapsOf(out, segment.CauseTouched)
			if len(g) != 1 || g[0].Lost != 0 || g[0].LostUnknown || g[0].From >= g[0].To || !strings.Contains(g[0].Detail, touch.want) {
				t.Errorf("%+v", g)
			}
		})
	}
}

// TestStoppedBy: who stops the recorder as it should be stopped raises no alarm, and is named.
func TestStoppedBy(t *testing.T) {
	src, out := newScript(), newMemory()
	stop := start(t, src, out, quick(), Options{})
	src.mu.Lock()
	src.touches = []bpf.Touch{{Count: 1, Last: bootNow(), Tgid: 1, Comm: "systemd", Signal: unix.SIGTERM}}
	src.mu.Unlock()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if out.stop.Detail != "told to stop by SIGTERM of pid 1 (systemd), uid 0" || len(gapsOf(out, segment.CauseTouched)) > 0 {
		t.Errorf("%+v, %+v", out.stop, out.gaps)
	}
}

func TestTracer(t *testing.T) {
	root := t.TempDir()
	for path, text := range map[string]string{
		"self/task/5/status": "Name:\tconntape\nTracerPid:\t0\n",
		"self/task/6/status": "Name:\tconntape\nTracerPid:\t19\n",
		"19/status":          "Name:\tstrace\nTgid:\t9\n",
	} {
		path = filepath.Join(root, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if got := (procfs{root}).tracer(); got != "pid 9 (strace)" {
		t.Errorf("traced by %q", got)
	}
	if got := (procfs{t.TempDir()}).tracer(); got != "" {
		t.Errorf("traced by %q", got)
	}
}
