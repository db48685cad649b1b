package bpf

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Pins are names of programs, links and maps in a file system of their own kind. They keep those alive when this process ends, so
// that what happens until the next recorder waits in the rings. Below the directory for all tapes each tape has one, and in it each
// set of programs has one:
//
//	0123456789   a set, complete since it was renamed when it was: its name is a part of the hash of its manifest
//	new          what a recorder was about to make; whoever finds it removes it
//
// The tape says which set is trusted: the last handover on it begins with the name. A set that is about to be replaced by one of
// another version says which that is, and so that is trusted too (left.go). All others are removed.
//
// Everything a pin is trusted for is checked: file system, owner and mode of the directories, and each kernel object by its id, which
// no other object of this boot ever has (pin_adopt.go).
const newPins = "new"

// DefaultPin is where pins are.
const DefaultPin = "/sys/fs/bpf/conntape"

var (
	// ErrPinned means that another recorder uses the pins of this tape.
	ErrPinned = errors.New("another recorder uses the programs that are pinned for this tape")
	// errNoPins means that there is no file system for them.
	errNoPins = errors.New("there is no BPF file system")
	// errTouched means that somebody changed what the last recorder left.
	errTouched = errors.New("not as the last recorder left it")
)

// pins are a set of a tape. Whoever has it has locked the directory of the tape.
type pins struct {
	dir    *os.File // of the tape; one for all its sets
	set    string   // its name below dir
	shared *ebpf.Map
	memory []byte            // of shared
	name   uint64            // of this set: a part of a hash of its manifest
	seq    uint64            // of the last handover
	files  map[string]uint64 // inode of each pin
	passed func(step string) // for tests; nil: nobody asks
}

// openPins makes the directory of a tape below base, or finds it, and locks it.
func openPins(base, tape string) (*pins, error) {
	if err := checkBPFFS(filepath.Dir(base)); err != nil {
		return nil, err
	}
	name := sha256.Sum256([]byte(tape))
	dir := filepath.Join(base, hex.EncodeToString(name[:8]))
	for _, d := range []string{base, dir} {
		if err := os.Mkdir(d, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("make directory of pins: %w", err)
		}
		if err := checkPinDir(d); err != nil {
			return nil, err
		}
	}
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, fmt.Errorf("open directory of pins: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	for begun := time.Now(); err == unix.EWOULDBLOCK && time.Since(begun) < lockPatience; err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) {
		time.Sleep(50 * time.Millisecond)
	}
	if err != nil {
		_ = f.Close()
	}
	switch err {
	case nil:
		return &pins{dir: f}, nil
	case unix.EWOULDBLOCK:
		return nil, fmt.Errorf("%w: %s", ErrPinned, dir)
	}
	return nil, fmt.Errorf("lock directory of pins: %w", err)
}

// lockPatience is for a recorder that was killed: the kernel takes its time to close what it had open.
const lockPatience = 2 * time.Second

// checkBPFFS fails unless a directory is in a BPF file system.
func checkBPFFS(dir string) error {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return fmt.Errorf("%w at %s: %w", errNoPins, dir, err)
	}
	if s.Type != unix.BPF_FS_MAGIC {
		return fmt.Errorf("%w at %s", errNoPins, dir)
	}
	return nil
}

// CheckPin fails unless pins can be kept in a directory such as DefaultPin.
func CheckPin(base string) error { return checkBPFFS(filepath.Dir(base)) }

// checkPinDir fails unless a directory is ours alone.
func checkPinDir(dir string) error {
	var s unix.Stat_t
	if err := unix.Lstat(dir, &s); err != nil {
		return fmt.Errorf("look at directory of pins: %w", err)
	}
	switch {
	case s.Mode&unix.S_IFMT != unix.S_IFDIR:
		return fmt.Errorf("pins are not trusted: %s is no directory", dir)
	case s.Uid != uint32(os.Geteuid()), s.Mode&0o077 != 0:
		return fmt.Errorf("pins are not trusted: %s belongs to uid %d and has mode %04o; remove it", dir, s.Uid, s.Mode&0o7777)
	}
	return checkBPFFS(dir)
}

// of returns another set of the same tape.
func (p *pins) of(set string) *pins { return &pins{dir: p.dir, set: set, passed: p.passed} }

// step tells a test how far it has come: a recorder may be killed at each.
func (p *pins) step(name string) {
	if p.passed != nil {
		p.passed(name)
	}
}

// setName is the directory of a set whose manifest has a name.
func setName(name uint64) string { return fmt.Sprintf("%010x", name) }

// path returns where a pin of the set is, or without names where the set is.
func (p *pins) path(names ...string) string {
	return filepath.Join(append([]string{p.dir.Name(), p.set}, names...)...)
}

// share makes the map of what is said to the next recorder, or maps the one that there is.
func (p *pins) share(m *ebpf.Map) (err error) {
	if m == nil {
		m, err = ebpf.NewMap(&ebpf.MapSpec{Name: "conntape_pins", Type: ebpf.Array, KeySize: 4, ValueSize: slotSize, MaxEntries: pinSlots, Flags: unix.BPF_F_MMAPABLE})
		if err != nil {
			return fmt.Errorf("make map of pins: %w", err)
		}
	}
	p.shared = m
	if p.memory, err = unix.Mmap(m.FD(), 0, pinSlots*slotSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return fmt.Errorf("map pins: %w", err)
	}
	return nil
}

// journals are those of the rings, by their place in ringNames.
func (p *pins) journals() *[4]journal {
	return (*[4]journal)(unsafe.Pointer(&p.memory[journalSlot*slotSize]))
}

// heir is the name of the set that replaces this one, 0: none does. It is in force before the first link of this one is removed.
func (p *pins) heir() *uint64 {
	return (*uint64)(unsafe.Pointer(&p.memory[journalSlot*slotSize+slotSize/2]))
}

// save pins a capture, which nobody has read from yet, as a set of the same tape.
func (p *pins) save(c *Capture) (err error) {
	n := p.of(newPins)
	defer func() {
		if err != nil {
			n.unshare()
			_ = n.remove()
		}
	}()
	if err := n.remove(); err != nil {
		return err
	}
	if err := n.share(nil); err != nil {
		return err
	}
	p.step("begun")
	if err := n.pinAll(c); err != nil {
		return err
	}
	if err := n.writeManifest(c); err != nil {
		return err
	}
	p.step("manifest written")
	whole := n.of(setName(n.name)).path()
	if err := os.Rename(n.path(), whole); err != nil {
		return fmt.Errorf("name pins: %w", err)
	}
	n.set = filepath.Base(whole)
	p.step("named")
	return c.keepRings(n)
}

// pinAll pins each object of a capture.
func (p *pins) pinAll(c *Capture) error {
	if err := os.Mkdir(p.path(), 0o700); err != nil {
		return fmt.Errorf("make directory of pins: %w", err)
	}
	if err := p.shared.Pin(p.path("pins")); err != nil {
		return fmt.Errorf("pin: %w", err)
	}
	p.step("directory made")
	for name, m := range c.collection.Maps {
		if err := m.Pin(p.path(pinName("map", name))); err != nil {
			return fmt.Errorf("pin map %s: %w", name, err)
		}
	}
	for name, prog := range c.collection.Programs {
		if err := prog.Pin(p.path(pinName("program", name))); err != nil {
			return fmt.Errorf("pin program %s: %w", name, err)
		}
	}
	p.step("maps and programs pinned")
	for i, a := range c.attached {
		if err := a.link.Pin(p.path(linkName(i))); err != nil {
			return fmt.Errorf("pin link of %s: %w", a.hook.program, err)
		}
	}
	return nil
}

// changed tells what somebody did to the pins since they were made or taken over, "" nothing.
func (p *pins) changed() string {
	if p == nil || p.files == nil {
		return ""
	}
	now, err := p.inodes()
	if err != nil {
		return "the pins are gone"
	}
	for name, inode := range p.files {
		if now[name] != inode {
			return "the pin " + name + " was removed or replaced"
		}
	}
	for name := range now {
		if p.files[name] == 0 {
			return "there is a pin of somebody else: " + strconv.Quote(name)
		}
	}
	return ""
}

// inodes returns the inode of each pin of the set. No two files of a BPF file system ever have the same.
func (p *pins) inodes() (map[string]uint64, error) {
	files, err := os.ReadDir(p.path())
	if err != nil {
		return nil, fmt.Errorf("read pins: %w", err)
	}
	inodes := make(map[string]uint64, len(files))
	for _, f := range files {
		var s unix.Stat_t
		if err := unix.Lstat(p.path(f.Name()), &s); err != nil {
			return nil, fmt.Errorf("look at pin: %w", err)
		}
		inodes[f.Name()] = s.Ino
	}
	return inodes, nil
}

// keepRings leaves in the rings what is not on the tape. That of answers is read on where the last recorder was.
func (c *Capture) keepRings(p *pins) error {
	for i, r := range c.rings()[:len(p.journals())] {
		if err := (*r).keepFor(&p.journals()[i]); err != nil {
			return err
		}
	}
	c.pins = p
	var err error
	p.files, err = p.inodes()
	return err
}

// pinName returns a name that the file system takes: it has none with a dot.
func pinName(kind, name string) string { return kind + "_" + strings.ReplaceAll(name, ".", "_") }

func linkName(i int) string { return fmt.Sprintf("link_%03d", i) }

func isLinkName(name string) bool { return strings.HasPrefix(name, "link_") }

// repin puts a link in the place of one that somebody detached.
func (p *pins) repin(c *Capture, i int) error {
	if p == nil {
		return nil
	}
	path := p.path(linkName(i))
	err := os.Remove(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := c.attached[i].link.Pin(path); err != nil {
		return err
	}
	if err := p.writeManifest(c); err != nil {
		return err
	}
	p.files, err = p.inodes()
	return err
}

// remove removes the set, if there is one. What nobody has open ends with it.
func (p *pins) remove() error {
	if err := os.RemoveAll(p.path()); err != nil {
		return fmt.Errorf("remove pins: %w", err)
	}
	return nil
}

// removeAll removes all sets of the tape but those to keep.
func (p *pins) removeAll(keep ...string) error {
	if p == nil {
		return nil
	}
	sets, err := os.ReadDir(p.dir.Name())
	if err != nil {
		return fmt.Errorf("read pins: %w", err)
	}
	var errs []error
	for _, s := range sets {
		if !slices.Contains(keep, s.Name()) {
			errs = append(errs, p.of(s.Name()).remove())
		}
	}
	return errors.Join(errs...)
}

// unshare lets go of the map.
func (p *pins) unshare() {
	if p.memory != nil {
		_ = unix.Munmap(p.memory)
		_ = p.shared.Close()
	}
	p.memory, p.shared = nil, nil
}

// close lets go of the set, and of the tape's directory.
func (p *pins) close() error {
	if p == nil {
		return nil
	}
	p.unshare()
	return p.dir.Close()
}

// Unpin removes what a recorder of a tape left in the kernel. It is no error if there is nothing. ErrPinned: it still runs.
func Unpin(base, tape string) error {
	if _, err := os.Lstat(base); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	p, err := openPins(base, tape)
	if err != nil {
		return err
	}
	err = errors.Join(p.removeAll(), os.Remove(p.dir.Name()))
	_ = os.Remove(base) // unless another tape has pins
	return errors.Join(err, p.close())
}
