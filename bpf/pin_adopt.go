package bpf

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// A manifest says what is pinned: each kernel object by its id. Handovers on the tape begin with a part of the manifest's hash, so that
// whoever replaces pins and manifest has to write the tape too.
type manifest struct {
	ABI        string            `json:"abi"` // of the programs, and of what was asked for
	Boot       string            `json:"boot"`
	Backend    Backend           `json:"backend"`
	Events     Events            `json:"events"`
	BlindSpots []string          `json:"blind_spots"`
	Harmless   []string          `json:"harmless"`
	First      string            `json:"first"`
	AtReturn   bool              `json:"at_return"`
	Pins       uint32            `json:"pins"` // id of the map of pins
	Maps       map[string]uint32 `json:"maps"`
	Programs   map[string]uint32 `json:"programs"`
	Links      []pinnedLink      `json:"links"`
}

// pinnedLink is a link by its id, and its place among the hooks of the plan.
type pinnedLink struct {
	ID   uint32 `json:"id"`
	Hook int    `json:"hook"`
}

// errOther means that the pins are of another version, of other settings, or not of this tape.
var errOther = errors.New("of another recorder")

// openPinned takes over what the last recorder of the tape left, or opens and pins a backend. Where nothing can be pinned, recording
// goes on without.
func openPinned(o Options) (*Capture, error) {
	p, err := openPins(o.Pin, o.Tape)
	if errors.Is(err, ErrPinned) {
		return nil, err
	}
	if err != nil {
		o.Logger.Warn("a restart will not be without a hole: nothing can be pinned", "error", err)
		return openAny(o)
	}
	taken, doubt := p.adopt(o)
	if taken != nil {
		return taken, nil
	}
	p.unshare()
	c, err := openAny(o)
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	c.asked = o
	if doubt != nil && !errors.Is(doubt, errOther) {
		c.doubted = doubt.Error()
	}
	o.Logger.Debug("nothing is taken over", "error", doubt)
	if err := p.save(c); err != nil {
		o.Logger.Warn("a restart will not be without a hole: nothing can be pinned", "error", err)
		err = errors.Join(p.remove(), p.close())
		return c, err
	}
	return c, p.removeSet(oldPins)
}

// adopt opens what is pinned. The error is errOther, or tells what somebody has done to it.
func (p *pins) adopt(o Options) (_ *Capture, err error) {
	if _, err := os.Lstat(p.path(livePins)); errors.Is(err, fs.ErrNotExist) {
		if o.Handover != 0 {
			return nil, fmt.Errorf("%w: its programs are gone from the kernel", errTouched)
		}
		return nil, errOther
	}
	if o.Handover == 0 {
		return nil, errOther
	}
	if err := checkPinDir(p.path(livePins)); err != nil {
		return nil, err
	}
	m, err := p.readManifest(o.Handover >> seqBits)
	if err != nil {
		return nil, err
	}
	if boot, err := bootID(); err != nil || m.Boot != boot {
		return nil, errOther
	}
	granted := o
	granted.Events = m.Events
	spec, plan, err := planned(m.Backend, granted)
	if err != nil {
		return nil, err
	}
	if abi, err := abiOf(plan, o); err != nil || abi != m.ABI {
		return nil, errOther
	}
	c := &Capture{backend: m.Backend, options: granted, asked: o, plan: plan, blindSpots: m.BlindSpots, harmless: m.Harmless, first: m.First, atReturn: m.AtReturn}
	if err := p.open(c, m, spec); err != nil {
		c.abandon()
		return nil, err
	}
	state, err := p.state(o.Handover)
	if err == nil {
		err = c.check(nil)
	}
	if err == nil {
		err = c.takeOver(state)
	}
	if err != nil {
		c.abandon()
		return nil, err
	}
	return c, nil
}

// abandon lets go of pinned objects, and not of the pins.
func (c *Capture) abandon() {
	c.pins = nil
	for _, a := range c.attached {
		_ = a.link.Close()
	}
	c.attached = nil
	_ = c.Close()
}

// open opens the objects of a manifest.
func (p *pins) open(c *Capture, m *manifest, spec *ebpf.CollectionSpec) error {
	replaced := map[string]*ebpf.Map{}
	defer func() {
		for _, m := range replaced {
			_ = m.Close() // the collection has copies
		}
	}()
	for name := range spec.Maps {
		pinned, err := p.openMap(pinName("map", name), m.Maps[name])
		if err != nil {
			return err
		}
		replaced[name] = pinned
	}
	programs := map[string]*ebpf.Program{}
	for name, prog := range spec.Programs {
		if prog.AttachType == ebpf.AttachTraceIter {
			continue // they are run by who reads, and loaded anew
		}
		delete(spec.Programs, name)
		pinned, err := ebpf.LoadPinnedProgram(p.path(livePins, pinName("program", name)), nil)
		if err != nil {
			return fmt.Errorf("open pinned program: %w", err)
		}
		programs[name] = pinned
		if info, err := pinned.Info(); err != nil || !isID(info.ID, m.Programs[name]) {
			return fmt.Errorf("%w: program %s is another one", errTouched, name)
		}
	}
	var err error
	if c.collection, err = ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: replaced}); err != nil {
		return fmt.Errorf("use pinned maps: %w", err)
	}
	maps.Copy(c.collection.Programs, programs)
	for _, name := range []string{"recorder_sleeps", "adopting"} { // as whoever was killed left them
		if err := c.collection.Variables[name].Set(uint32(0)); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	if err := p.openLinks(c, m); err != nil {
		return err
	}
	if err := c.mapRings(); err != nil {
		return err
	}
	return c.keepRings(p)
}

// isID compares what an object says of its id.
func isID[T ~uint32](id func() (T, bool), want uint32) bool {
	got, ok := id()
	return ok && uint32(got) == want
}

func (p *pins) openMap(name string, id uint32) (*ebpf.Map, error) {
	m, err := ebpf.LoadPinnedMap(p.path(livePins, name), nil)
	if err != nil {
		return nil, fmt.Errorf("open pinned map: %w", err)
	}
	if info, err := m.Info(); err != nil || !isID(info.ID, id) {
		_ = m.Close()
		return nil, fmt.Errorf("%w: %s is another map", errTouched, name)
	}
	return m, nil
}

// openLinks opens the links, and looks whether each still runs its program where it did.
func (p *pins) openLinks(c *Capture, m *manifest) error {
	hooks := slices.Concat(c.plan.hooks, c.plan.returns)
	for i, l := range m.Links {
		if l.Hook < 0 || l.Hook >= len(hooks) {
			return fmt.Errorf("%w: a link of no hook", errTouched)
		}
		pinned, err := link.LoadPinnedLink(p.path(livePins, linkName(i)), nil)
		if err != nil {
			return fmt.Errorf("open pinned link of %s: %w", hooks[l.Hook].program, err)
		}
		c.attached = append(c.attached, attachment{hook: hooks[l.Hook], link: pinned})
		info, err := pinned.Info()
		if err != nil || uint32(info.ID) != l.ID || uint32(info.Program) != m.Programs[hooks[l.Hook].program] {
			return fmt.Errorf("%w: the link of %s is another one", errTouched, hooks[l.Hook].program)
		}
		if at := info.Cgroup(); at != nil && at.CgroupId == 0 {
			return fmt.Errorf("%w: %s was detached", errTouched, hooks[l.Hook].program)
		}
	}
	for _, s := range c.switchesOff() {
		if !slices.Contains(c.harmless, s) {
			return fmt.Errorf("%w: %s is 0", errTouched, s)
		}
	}
	return p.checkFiles(m)
}

// checkFiles looks for pins that the manifest does not tell of.
func (p *pins) checkFiles(m *manifest) error {
	files, err := os.ReadDir(p.path(livePins))
	if err != nil {
		return fmt.Errorf("read pins: %w", err)
	}
	if want := 1 + len(m.Maps) + len(m.Programs) + len(m.Links); len(files) != want {
		return fmt.Errorf("%w: there are %d pins instead of %d", errTouched, len(files), want)
	}
	return nil
}

// writeManifest writes what is pinned.
func (p *pins) writeManifest(c *Capture) error {
	boot, err := bootID()
	if err != nil {
		return err
	}
	m := manifest{
		Boot: boot, Backend: c.backend, Events: c.options.Events, BlindSpots: c.blindSpots, Harmless: c.harmless, First: c.first, AtReturn: c.atReturn,
		Maps: map[string]uint32{}, Programs: map[string]uint32{},
	}
	if m.ABI, err = abiOf(c.plan, c.asked); err != nil {
		return err
	}
	if m.Pins, err = mapID(p.shared); err != nil {
		return err
	}
	for name, of := range c.collection.Maps {
		if m.Maps[name], err = mapID(of); err != nil {
			return err
		}
	}
	for name, of := range c.collection.Programs {
		info, err := of.Info()
		if err != nil {
			return fmt.Errorf("look at program %s: %w", name, err)
		}
		id, _ := info.ID()
		m.Programs[name] = uint32(id)
	}
	hooks := slices.Concat(c.plan.hooks, c.plan.returns)
	for _, a := range c.attached {
		info, err := a.link.Info()
		if err != nil {
			return fmt.Errorf("look at the link of %s: %w", a.hook.program, err)
		}
		m.Links = append(m.Links, pinnedLink{uint32(info.ID), slices.Index(hooks, a.hook)})
	}
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	p.name = nameOf(text)
	return putText(p.memory[:manifestSlots*slotSize], text)
}

func mapID(m *ebpf.Map) (uint32, error) {
	info, err := m.Info()
	if err != nil {
		return 0, fmt.Errorf("look at map: %w", err)
	}
	id, _ := info.ID()
	return uint32(id), nil
}

// readManifest reads the manifest of a name.
func (p *pins) readManifest(name uint64) (*manifest, error) {
	shared, err := ebpf.LoadPinnedMap(p.path(livePins, "pins"), nil)
	if err != nil {
		return nil, fmt.Errorf("open pins: %w", err)
	}
	if shared.Type() != ebpf.Array || shared.ValueSize() != slotSize || shared.MaxEntries() != pinSlots {
		_ = shared.Close()
		return nil, errOther
	}
	if err := p.share(shared); err != nil {
		return nil, err
	}
	text, err := getText(p.memory[:manifestSlots*slotSize])
	if err != nil {
		return nil, err
	}
	if nameOf(text) != name {
		return nil, fmt.Errorf("%w: they are not those that it wrote to the tape", errTouched)
	}
	p.name = name
	var m manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return nil, fmt.Errorf("read manifest of pins: %w", err)
	}
	if id, err := mapID(shared); err != nil || id != m.Pins {
		return nil, fmt.Errorf("%w: the map of pins is another one", errTouched)
	}
	return &m, nil
}

// nameOf returns 40 bits of a hash: what a handover has room for.
func nameOf(text []byte) uint64 {
	sum := sha256.Sum256(text)
	return max(1, binary.BigEndian.Uint64(sum[:8])>>24)
}

// abiOf identifies programs, where they are attached, and the settings that are compiled in.
func abiOf(p plan, o Options) (string, error) {
	h := sha256.New()
	h.Write(_ConnectBytes)
	if _, err := fmt.Fprintf(h, "%+v %+v %d %d %s", p, o.Events, o.RingBytes, o.ProcessRingBytes, o.Backend); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func bootID() (string, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	return strings.TrimSpace(string(id)), nil
}
