package bpf

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// pinDir mounts a BPF file system for a test alone, and returns where pins may be.
func pinDir(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: loading programs takes root")
	}
	at := t.TempDir()
	if err := unix.Mount("bpf", at, "bpf", 0, "mode=700"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return filepath.Join(at, "conntape")
}

// openPinnedTo opens a capture that is pinned, by the backend that this kernel surely has.
func openPinnedTo(t *testing.T, o Options) *Capture {
	t.Helper()
	if o.Backend == "" {
		o.Backend = Cgroup
	}
	o.Tape = "/a/tape"
	c, err := Open(o)
	attachedOrSkip(t, err)
	t.Cleanup(func() { c.Close() })
	if !c.Pinned() {
		t.Fatal("nothing is pinned")
	}
	return c
}

// connectsOf reads all connects of sockets with these cookies.
func connectsOf(t *testing.T, c *Capture, cookies []uint64) (got []uint64) {
	t.Helper()
	var rec Connect
	for {
		err := c.ReadConnect(time.Now(), &rec)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return got
		}
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(cookies, rec.Cookie) {
			got = append(got, rec.Cookie)
		}
	}
}

func connectSome(t *testing.T, n int) (cookies []uint64) {
	t.Helper()
	for range n {
		cookie, err := connectOnce(unix.AF_INET, probeFamilies[0].to, connectPlainly)
		if err != nil {
			t.Fatal(err)
		}
		cookies = append(cookies, cookie)
	}
	return cookies
}

// What happens between two recorders waits in the ring for the next one, and so does what the last one had read and not written.
// The counters of the next begin where those of the last ended.
func TestPinnedCaptureGoesOn(t *testing.T) {
	dir := pinDir(t)
	first := openPinnedTo(t, Options{Pin: dir})
	if first.Taken() != nil || first.Doubt() != "" {
		t.Fatalf("the first one takes over %+v %s", first.Taken(), first.Doubt())
	}
	written := connectSome(t, 10)
	if got := connectsOf(t, first, written); len(got) != 10 {
		t.Fatalf("%d connects, want 10", len(got))
	}
	counters, err := first.Counters()
	if err != nil {
		t.Fatal(err)
	}
	h := Handover{Counters: counters, Time: 1}
	h.Connects, h.Outcomes, h.Events = first.Marks()
	number, err := first.Handover(&h)
	if err != nil || number == 0 {
		t.Fatal(number, err)
	}
	first.Written(&h)
	unwritten := connectSome(t, 5)
	if got := connectsOf(t, first, unwritten); len(got) != 5 {
		t.Fatalf("%d connects, want 5", len(got))
	}
	first.Close()
	between := connectSome(t, 7)
	second := openPinnedTo(t, Options{Pin: dir, Handover: number})
	if second.Taken() == nil || second.Taken().Lost != 0 {
		t.Fatalf("taken over: %+v, doubt: %s", second.Taken(), second.Doubt())
	}
	after := connectSome(t, 3)
	if got := connectsOf(t, second, slices.Concat(written, unwritten, between, after)); !slices.Equal(got, slices.Concat(unwritten, between, after)) {
		t.Errorf("%d connects, want those 15 that were not written", len(got))
	}
	counters, err = second.Counters()
	if err != nil || counters.Seen != counters.Sent || counters.Sent < 15 || counters.LostRing != 0 {
		t.Errorf("counters of the second begin at %+v, %v", counters, err)
	}
}

// restart keeps a handover of a capture and closes it, and returns the number that a tape would have of it.
func restart(t *testing.T, c *Capture) uint64 {
	t.Helper()
	h := Handover{Time: 1}
	h.Connects, h.Outcomes, h.Events = c.Marks()
	number, err := c.Handover(&h)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	return number
}

// Pins that somebody has changed are not taken over, and that is said; recording begins anew, and nothing that he put there goes on.
func TestChangedPinsAreNotTrusted(t *testing.T) {
	dir := pinDir(t)
	open := func(number uint64) *Capture { return openPinnedTo(t, Options{Pin: dir, Handover: number}) }
	other := func(t *testing.T) *ebpf.Program {
		p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SocketFilter, License: "MIT", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	live := func(c *Capture, name string) string { return c.pins.path(name) }
	for at, attack := range []struct {
		name string
		do   func(t *testing.T, c *Capture)
		says string
	}{
		{"another manifest", func(t *testing.T, c *Capture) { c.pins.memory[100] ^= 1 }, "not those that it wrote to the tape"},
		{"a link is detached", func(t *testing.T, c *Capture) {
			for _, a := range c.attached {
				if a.hook.program == "cgroup_connect4" {
					if err := a.link.Detach(); err != nil {
						t.Fatal(err)
					}
				}
			}
		}, "cgroup_connect4 was detached"},
		{"another has read the ring", func(t *testing.T, c *Capture) {
			connectSome(t, 3)
			*c.connects.consumed() += 8
		}, "another program has read the ring"},
		{"two links change places", func(t *testing.T, c *Capture) {
			rename(t, live(c, linkName(1)), live(c, "x"))
			rename(t, live(c, linkName(0)), live(c, linkName(1)))
			rename(t, live(c, "x"), live(c, linkName(0)))
		}, "is another one"},
		{"another program", func(t *testing.T, c *Capture) {
			remove(t, live(c, "program_process_exit"))
			remove(t, live(c, "program_process_exit_classic"))
			for _, name := range []string{"program_process_exit", "program_process_exit_classic"} {
				if c.collection.Programs[name[len("program_"):]] != nil {
					if err := other(t).Pin(live(c, name)); err != nil {
						t.Fatal(err)
					}
				}
			}
		}, "is another one"},
		{"another map", func(t *testing.T, c *Capture) {
			m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.RingBuf, MaxEntries: c.collection.Maps["connects"].MaxEntries()})
			if err != nil {
				t.Fatal(err)
			}
			remove(t, live(c, "map_connects"))
			if err := m.Pin(live(c, "map_connects")); err != nil {
				t.Fatal(err)
			}
		}, "is another map"},
		{"a pin of somebody else", func(t *testing.T, c *Capture) {
			if err := other(t).Pin(live(c, "mine")); err != nil {
				t.Fatal(err)
			}
		}, "pins instead of"},
		{"the directory is open to others", func(t *testing.T, c *Capture) {
			if err := os.Chmod(c.pins.path(), 0o755); err != nil {
				t.Fatal(err)
			}
		}, "not trusted"},
		{"a link is gone", func(t *testing.T, c *Capture) { remove(t, live(c, linkName(2))) }, "link"},
	} {
		t.Run(attack.name, func(t *testing.T) {
			if at >= 4 && os.Getenv("CONNTAPE_TEST_LONG") == "" {
				t.Skip("SKIPPED: each loads all programs twice; CONNTAPE_TEST_LONG=1 tries all")
			}
			first := open(0)
			attack.do(t, first)
			second := open(restart(t, first))
			if second.Taken() != nil || !strings.Contains(second.Doubt(), attack.says) {
				t.Fatalf("taken over: %v; doubt: %q, want %q", second.Taken() != nil, second.Doubt(), attack.says)
			}
			some := connectSome(t, 2)
			if got := connectsOf(t, second, some); len(got) != 2 {
				t.Errorf("the new one sees %d connects of 2", len(got))
			}
			if why := second.pins.changed(); why != "" {
				t.Errorf("the new pins: %s", why)
			}
			second.Close()
		})
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

// Pins of another tape, half made or left over are removed; nobody was at them, and that is not said.
func TestStalePinsAreReplaced(t *testing.T) {
	dir := pinDir(t)
	for name, do := range map[string]func(t *testing.T, c *Capture) (Options, uint64){
		"the tape knows none": func(t *testing.T, c *Capture) (Options, uint64) { restart(t, c); return Options{}, 0 },
		"half made": func(t *testing.T, c *Capture) (Options, uint64) {
			rename(t, c.pins.path(), c.pins.of(newPins).path())
			restart(t, c)
			return Options{}, 0
		},
		"left over": func(t *testing.T, c *Capture) (Options, uint64) {
			rename(t, c.pins.path(), c.pins.of("0000000001").path())
			restart(t, c)
			return Options{}, 0
		},
	} {
		t.Run(name, func(t *testing.T) {
			first := openPinnedTo(t, Options{Pin: dir})
			o, number := do(t, first)
			o.Pin, o.Handover = dir, number
			second := openPinnedTo(t, o)
			if second.Taken() != nil || second.Doubt() != "" {
				t.Errorf("taken over: %v, doubt: %q", second.Taken() != nil, second.Doubt())
			}
			sets, err := os.ReadDir(second.pins.dir.Name())
			if err != nil || len(sets) != 1 || sets[0].Name() != second.pins.set {
				t.Errorf("there is %v, want what is live alone", sets)
			}
			second.Close()
			if err := Unpin(dir, "/a/tape"); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("something is left: %v", err)
			}
		})
	}
}

// Two recorders never use the same pins, nor does anybody remove those of one that runs; a directory of somebody else is not used, and
// where there is no BPF file system recording goes on without.
func TestPinsAreOfOne(t *testing.T) {
	dir := pinDir(t)
	first := openPinnedTo(t, Options{Pin: dir})
	if _, err := Open(Options{Backend: Cgroup, Pin: dir, Tape: "/a/tape"}); !errors.Is(err, ErrPinned) {
		t.Errorf("a second one: %v", err)
	}
	if err := Unpin(dir, "/a/tape"); !errors.Is(err, ErrPinned) {
		t.Errorf("unpin beside it: %v", err)
	}
	ends := make(chan struct{})
	time.AfterFunc(300*time.Millisecond, func() { first.Close(); close(ends) }) // as one that was killed a moment ago
	second, err := Open(Options{Backend: Cgroup, Pin: dir, Tape: "/a/tape"})
	if <-ends; err != nil {
		t.Fatalf("one that comes while the last one ends: %v", err)
	}
	second.Close()
	for name, spoil := range map[string]func(dir string) error{
		"open to others": func(dir string) error { return os.Chmod(dir, 0o770) },
		"of another":     func(dir string) error { return os.Chown(dir, 1000, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			if err := spoil(dir); err != nil {
				t.Fatal(err)
			}
			c, err := Open(Options{Backend: Cgroup, Pin: dir, Tape: "/a/tape"})
			if err != nil || c.Pinned() {
				t.Errorf("pinned: %v, %v", c != nil && c.Pinned(), err)
			}
			c.Close()
			if err := errors.Join(os.Chmod(dir, 0o700), os.Chown(dir, 0, 0)); err != nil {
				t.Fatal(err)
			}
		})
	}
	c, err := Open(Options{Backend: Cgroup, Pin: filepath.Join(t.TempDir(), "conntape"), Tape: "/a/tape"})
	if err != nil || c.Pinned() {
		t.Errorf("without a BPF file system: %v, %v", c != nil && c.Pinned(), err)
	}
	c.Close()
}

// A capture that is not pinned leaves nothing behind, and neither does one that detaches.
func TestUnpinnedLeavesNothing(t *testing.T) {
	dir := pinDir(t)
	c := openPinnedTo(t, Options{Pin: dir})
	held := c.pins.dir.Name()
	if err := errors.Join(c.Detach(), c.Close()); err != nil {
		t.Fatal(err)
	}
	if sets, err := os.ReadDir(held); err != nil || len(sets) > 0 {
		t.Errorf("%v are left, %v", sets, err)
	}
}

// A recorder that runs notices that somebody removes, replaces or adds a pin, once; nothing is left for the next one then.
func TestWatchSeesChangedPins(t *testing.T) {
	dir := pinDir(t)
	c := openPinnedTo(t, Options{Pin: dir})
	if gone, err := c.Watch(); err != nil || len(gone) > 0 {
		t.Fatal(gone, err)
	}
	path := c.pins.path(linkName(0))
	remove(t, path)
	if err := c.collection.Programs["cgroup_connect4"].Pin(path); err != nil {
		t.Fatal(err)
	}
	gone, err := c.Watch()
	if err != nil || len(gone) != 1 || !strings.Contains(gone[0], linkName(0)+" was removed or replaced") {
		t.Errorf("%v, %v", gone, err)
	}
	if gone, err := c.Watch(); err != nil || len(gone) > 0 {
		t.Errorf("again: %v, %v", gone, err)
	}
	if number, err := c.Handover(&Handover{}); number != 0 || err != nil {
		t.Errorf("handed over: %d, %v", number, err)
	}
	some := connectSome(t, 2)
	if got := connectsOf(t, c, some); len(got) != 2 {
		t.Errorf("it sees %d connects of 2", len(got))
	}
}
