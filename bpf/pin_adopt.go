package bpf

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// errOther means that the pins are of another version, of other settings, or not of this tape.
var errOther = errors.New("of another recorder")

// openPinned takes over what the last recorder of the tape left, or opens and pins a backend, and takes over what is in the rings of
// the programs that it replaces. Where nothing can be pinned, recording goes on without.
func openPinned(o Options, k *kernel) (*Capture, error) {
	p, err := openPins(o.Pin, o.Tape)
	if errors.Is(err, ErrPinned) {
		return nil, err
	}
	if err != nil {
		o.Logger.Warn("a restart will not be without a hole: nothing can be pinned", "error", err)
		return openAny(o, k)
	}
	p.passed = o.passed
	p.step("locked")
	trusted, doubt := p.trusted(o.Handover)
	c, trusted, err := p.adoptLast(trusted, o, k)
	if err != nil && !errors.Is(err, errOther) {
		doubt = err
	}
	o.Logger.Debug("pins", "taken over", c != nil, "sets", len(trusted), "doubt", doubt)
	if c == nil {
		if c, err = openAny(o, k); err != nil {
			return nil, errors.Join(err, p.close())
		}
		c.asked = o
		if err := p.save(c); err != nil {
			o.Logger.Warn("a restart will not be without a hole: nothing can be pinned", "error", err)
			if len(trusted) > 0 {
				c.doubted = "nothing can be pinned any more"
			}
			return c, errors.Join(p.removeAll(), p.close())
		}
	} else {
		p.step("taken over")
	}
	if err := c.inherit(trusted, o.Handover); err != nil && doubt == nil {
		doubt = err
	}
	if doubt != nil {
		c.doubted = doubt.Error()
	}
	p.step("before others are removed")
	return c, c.keepOnly(p)
}

// keepOnly removes all sets but those of c, and those that it still reads.
func (c *Capture) keepOnly(p *pins) error {
	keep := []string{c.pins.set}
	for _, l := range c.left {
		keep = append(keep, l.pins.set)
	}
	return p.removeAll(keep...)
}

// trustedSet is a set of pins that the tape vouches for, by its handover or by the set that was replaced.
type trustedSet struct {
	*pins
	*manifest
}

// trusted returns the sets that the last recorders of the tape used, the oldest first: that of the handover on the tape, and then those
// that were about to replace it. The error tells what somebody has done to one.
func (p *pins) trusted(handover uint64) (sets []trustedSet, err error) {
	for name := handover >> seqBits; name != 0; {
		s := p.of(setName(name))
		if _, err := os.Lstat(s.path()); errors.Is(err, fs.ErrNotExist) {
			return sets, fmt.Errorf("%w: its programs are gone from the kernel", errTouched)
		}
		if err := checkPinDir(s.path()); err != nil {
			return sets, err
		}
		m, err := s.readManifest(name)
		if err == nil && slices.ContainsFunc(sets, func(t trustedSet) bool { return t.set == s.set }) {
			err = fmt.Errorf("%w: a set that replaces itself", errTouched)
		}
		if err != nil {
			s.unshare()
			return sets, err
		}
		sets = append(sets, trustedSet{s, m})
		name = *s.heir()
	}
	return sets, nil
}

// adoptLast opens the last of the sets if it is of this version and these settings. It returns the sets that are left to be replaced. The
// error is errOther, or tells what somebody has done to it.
func (p *pins) adoptLast(sets []trustedSet, o Options, k *kernel) (*Capture, []trustedSet, error) {
	if len(sets) == 0 {
		return nil, nil, errOther
	}
	last := len(sets) - 1
	c, err := sets[last].adopt(o, last == 0, k)
	switch {
	case err == nil:
		return c, sets[:last], nil
	case errors.Is(err, errOther):
		return nil, sets, err
	}
	sets[last].unshare()
	return nil, sets[:last], err
}

// adopt opens what is pinned; with told the tape has the handover that it goes on from, else nobody has read from it yet.
func (s trustedSet) adopt(o Options, told bool, k *kernel) (_ *Capture, err error) {
	p, m := s.pins, s.manifest
	if boot, err := bootID(); err != nil || m.Boot != boot {
		return nil, errOther
	}
	granted := o
	granted.Events = m.Events
	spec, plan, err := planned(m.Backend, granted, k)
	if err != nil {
		return nil, err
	}
	if abi, err := abiOf(plan, o); err != nil || abi != m.ABI {
		return nil, errOther
	}
	c := &Capture{backend: m.Backend, options: granted, asked: o, plan: plan, blindSpots: m.BlindSpots, harmless: m.Harmless, first: m.First, atReturn: m.AtReturn, attachedAt: m.Attached}
	if err := p.open(c, m, spec, k); err != nil {
		c.abandon()
		return nil, err
	}
	if err = c.check(nil); err == nil && told {
		var state *Handover
		if state, err = p.state(o.Handover); err == nil {
			err = c.takeOver(state)
		}
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
func (p *pins) open(c *Capture, m *manifest, spec *ebpf.CollectionSpec, k *kernel) error {
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
		pinned, err := p.openProgram(name, m.Programs[name])
		if err != nil {
			return err
		}
		programs[name] = pinned
	}
	var err error
	if c.collection, err = ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: replaced, Cache: k.cache}); err != nil {
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

func (p *pins) openProgram(name string, id uint32) (*ebpf.Program, error) {
	prog, err := ebpf.LoadPinnedProgram(p.path(pinName("program", name)), nil)
	if err != nil {
		return nil, fmt.Errorf("open pinned program: %w", err)
	}
	if info, err := prog.Info(); err != nil || !isID(info.ID, id) {
		_ = prog.Close()
		return nil, fmt.Errorf("%w: program %s is another one", errTouched, name)
	}
	return prog, nil
}

func (p *pins) openMap(name string, id uint32) (*ebpf.Map, error) {
	m, err := ebpf.LoadPinnedMap(p.path(name), nil)
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
		if l.Hook < 0 || l.Hook >= len(hooks) || hooks[l.Hook].program != l.Program {
			return fmt.Errorf("%w: a link of no hook", errTouched)
		}
		pinned, err := p.openLink(i, m)
		if pinned != nil {
			c.attached = append(c.attached, attachment{hook: hooks[l.Hook], link: pinned})
		}
		if err != nil {
			return err
		}
	}
	for _, s := range c.switchesOff() {
		if !slices.Contains(c.harmless, s) {
			return fmt.Errorf("%w: %s is 0", errTouched, s)
		}
	}
	return p.checkFiles(m)
}

// openLink opens one. It may return a link and an error.
func (p *pins) openLink(i int, m *manifest) (link.Link, error) {
	l := m.Links[i]
	pinned, err := link.LoadPinnedLink(p.path(linkName(i)), nil)
	if err != nil {
		return nil, fmt.Errorf("open pinned link of %s: %w", l.Program, err)
	}
	info, err := pinned.Info()
	if err != nil || uint32(info.ID) != l.ID || uint32(info.Program) != m.Programs[l.Program] {
		return pinned, fmt.Errorf("%w: the link of %s is another one", errTouched, l.Program)
	}
	if at := info.Cgroup(); at != nil && at.CgroupId == 0 {
		return pinned, fmt.Errorf("%w: %s was detached", errTouched, l.Program)
	}
	return pinned, nil
}

// checkFiles looks for pins that the manifest does not tell of.
func (p *pins) checkFiles(m *manifest) error {
	files, err := os.ReadDir(p.path())
	if err != nil {
		return fmt.Errorf("read pins: %w", err)
	}
	if want := 1 + len(m.Maps) + len(m.Programs) + len(m.Links); len(files) != want {
		return fmt.Errorf("%w: there are %d pins instead of %d", errTouched, len(files), want)
	}
	return nil
}
