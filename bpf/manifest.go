package bpf

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
)

// A manifest says what is pinned: each kernel object by its id. Handovers on the tape begin with a part of the manifest's hash, so that
// whoever replaces pins and manifest has to write the tape too.
type manifest struct {
	ABI        string            `json:"abi"`     // of the programs, and of what was asked for
	Layouts    map[string]string `json:"layouts"` // of what they leave: a recorder of another ABI can read what has its own layout
	Boot       string            `json:"boot"`
	Backend    Backend           `json:"backend"`
	Events     Events            `json:"events"`
	BlindSpots []string          `json:"blind_spots"`
	Harmless   []string          `json:"harmless"`
	First      string            `json:"first"`
	AtReturn   bool              `json:"at_return"`
	Attached   uint64            `json:"attached"` // when, ns CLOCK_BOOTTIME
	Pins       uint32            `json:"pins"`     // id of the map of pins
	Maps       map[string]uint32 `json:"maps"`
	Programs   map[string]uint32 `json:"programs"`
	Links      []pinnedLink      `json:"links"`
}

// pinnedLink is a link by its id, its place among the hooks of the plan, and its program.
type pinnedLink struct {
	ID      uint32 `json:"id"`
	Hook    int    `json:"hook"`
	Program string `json:"program"`
}

// writeManifest writes what is pinned.
func (p *pins) writeManifest(c *Capture) error {
	boot, err := bootID()
	if err != nil {
		return err
	}
	m := manifest{
		Boot: boot, Backend: c.backend, Events: c.options.Events, BlindSpots: c.blindSpots, Harmless: c.harmless, First: c.first, AtReturn: c.atReturn, Attached: c.attachedAt,
		Maps: map[string]uint32{}, Programs: map[string]uint32{},
	}
	if m.ABI, err = abiOf(c.plan, c.asked); err != nil {
		return err
	}
	if m.Layouts = c.layouts; m.Layouts == nil {
		if m.Layouts, err = layouts(); err != nil {
			return err
		}
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
		m.Links = append(m.Links, pinnedLink{uint32(info.ID), slices.Index(hooks, a.hook), a.hook.program})
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
	shared, err := ebpf.LoadPinnedMap(p.path("pins"), nil)
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
