// Package bpf records connect attempts and the lives of processes in the kernel, and hands them over as typed records.
//
// It chooses among three backends by loading and attaching them, and knows what each cannot see. It knows nothing of
// tapes or SQL, and never looks at /proc for what the kernel can tell at the moment it happens.
package bpf

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync/atomic"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
)

// Backend names what feeds the recorder.
type Backend string

// The backends.
const (
	Fexit  Backend = "fexit"  // a trampoline at the end of security_socket_connect
	Kprobe Backend = "kprobe" // a kprobe and a kretprobe on security_socket_connect
	Cgroup Backend = "cgroup" // cgroup/connect4, connect6 and connect_unix, with the tracepoint of connect(2)
)

// Backends lists them in the order in which they are tried.
func Backends() []Backend { return []Backend{Fexit, Kprobe, Cgroup} }

// Options say how to capture. The zero value is good.
type Options struct {
	Backend          Backend // "" takes the first that attaches and sees a connect of our own
	RingBytes        uint32  // size of the connect ring, a power of two and a multiple of the page size; 0 is 8 MiB
	ProcessRingBytes uint32  // likewise of the process ring; 0 is 4 MiB
	Events           Events  // what to record beside connects
	Logger           *slog.Logger

	// Pin is a directory for the programs and rings to outlive this process; "": they end with it. Below it each Tape has its own.
	Pin string
	// Tape names what is recorded to: a path.
	Tape string
	// Handover is what the last recorder of this boot left on the tape: 0 nothing (see [Capture.Handover]).
	Handover uint64

	refused []string          // programs that the kernel is to refuse, for tests
	passed  func(step string) // likewise: told of each step of pinning
}

// Errors of Open that a user can do something about.
var (
	ErrPrivilege = errors.New("the kernel refuses to load BPF programs")
	ErrKernel    = errors.New("this kernel cannot record")
)

// Capture is an attached backend. Its readers may be called from one goroutine each.
type Capture struct {
	backend    Backend
	options    Options // that were granted
	plan       plan
	blindSpots []string
	collection *ebpf.Collection
	attached   []attachment
	harmless   []string           // switches that were off when a connect of ours was seen
	checks     []Probe            // connects that Open made
	touched    [touchKinds]uint64 // counts that were told
	first      string             // the program whose misses are attempts that nobody may have seen
	atReturn   bool               // that one is at the return
	connects   *ring
	processes  *ring
	outcomes   *ring
	outcome    []byte // of outcomes, reused
	events     *ring
	event      []byte // of events, reused
	answers    *ring
	answer     []byte                  // of answers, reused
	sample     []byte                  // of connects, reused
	process    []byte                  // of processes, reused
	fill       *fill                   // of connects
	losers     map[int]Loser           // as they were last read, by place
	pins       *pins                   // nil: nothing outlives this process
	loose      bool                    // pins were given up
	base       Counters                // what the recorders before have counted
	self       ProcessKey              // this process, as Snapshot found it
	asked      Options                 // as Open was told
	frames     link.Link               // of the program that runs for each packet of the host; nil: it is not attached
	taken      *Taken                  // nil: nothing is taken over
	doubted    string                  // why not, if somebody was at the pins
	layouts    map[string]string       // that the manifest says, for tests; nil: the right ones
	left       []*left                 // what the programs left that these ones replaced, the oldest first
	past       Counters                // that those counted since the tape was told
	finished   atomic.Pointer[[]*left] // what is all read, until the tape has it
	attachedAt uint64                  // when all hooks were, ns CLOCK_BOOTTIME
	sendsFrom  uint64                  // what was sent before that without a connect is among what was left, ns CLOCK_BOOTTIME
	skipped    map[ID]struct{}         // connects that are told of what was left
	hung       map[uint32]uint64       // cookies of such that had not returned, by thread
}

// Open loads and attaches a backend. Exec, fork and exit are attached before the hooks, so that every process whose
// connect is seen is known, or in the snapshot.
//
// The error wraps ErrPrivilege where the caller may not load programs, and ErrKernel where the kernel lacks what every
// backend needs (5.8 for the ring buffer, BTF) or no backend attaches.
func Open(o Options) (*Capture, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if err := allowLockedMemory(); err != nil { // runningKernel makes maps
		return nil, err
	}
	k, err := runningKernel()
	if err != nil {
		return nil, err
	}
	if o.Pin != "" {
		return openPinned(o, k)
	}
	return openAny(o, k)
}

// openAny opens the first backend that attaches.
func openAny(o Options, k *kernel) (*Capture, error) {
	backends := Backends()
	if o.Backend != "" {
		backends = []Backend{o.Backend}
	}
	var errs []error
	for _, b := range backends {
		c, err := openWith(b, o, k)
		if err == nil {
			return c, nil
		}
		o.Logger.Debug("backend does not attach", "backend", b, "error", err)
		errs = append(errs, fmt.Errorf("%s: %w", b, err))
	}
	err := errors.Join(errs...)
	if os.Geteuid() != 0 && errors.Is(err, os.ErrPermission) {
		return nil, fmt.Errorf("%w: %w", ErrPrivilege, err)
	}
	return nil, fmt.Errorf("%w: no backend attaches: %w", ErrKernel, err)
}

func open(b Backend, o Options, k *kernel) (_ *Capture, err error) {
	spec, plan, err := planned(b, o, k)
	if err != nil {
		return nil, err
	}
	for _, name := range o.refused {
		if p := spec.Programs[name]; p != nil {
			p.Instructions = asm.Instructions{asm.Return()} // what it would return is not set
		}
	}
	c := &Capture{backend: b, blindSpots: plan.blindSpots, options: o, plan: plan}
	c.first, c.atReturn = plan.first()
	defer func() {
		if err != nil {
			_ = c.Close()
		}
	}()
	c.collection, err = ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{Cache: k.cache})
	if err != nil {
		return nil, fmt.Errorf("load programs: %w", err)
	}
	if err := c.mapRings(); err != nil {
		return nil, err
	}
	for _, h := range plan.hooks {
		if err := c.attach(h); err != nil {
			return nil, fmt.Errorf("attach %s: %w", h.program, err)
		}
	}
	if err := c.tryFrames(); err != nil {
		return nil, err
	}
	c.attachedAt = bootNow()
	if v := c.collection.Variables["all_attached"]; v != nil { // the cgroup backend alone has it
		if err := v.Set(uint32(1)); err != nil {
			return nil, fmt.Errorf("tell the programs that all are attached: %w", err)
		}
	}
	if err := c.check(plan.returns); err != nil {
		return nil, err
	}
	c.harmless = c.switchesOff()
	if why := uringDenied(); why != "" {
		c.blindSpots = append(c.blindSpots, "whether the hooks still see connects by io_uring, which conntape may not make to try ("+why+")")
	}
	return c, nil
}

// planned returns what a backend attaches, and the programs and maps for it.
func planned(b Backend, o Options, k *kernel) (*ebpf.CollectionSpec, plan, error) {
	spec, err := loadConnect()
	if err != nil {
		return nil, plan{}, fmt.Errorf("read compiled programs: %w", err)
	}
	p, err := planFor(b, k)
	if err != nil {
		return nil, plan{}, err
	}
	p.classic = mayBeClassic(k)
	p.hooks = slices.Concat(processHooks(p.classic), outcomeHooks(k), p.hooks)
	events, unseen := eventHooks(b, o.Events, k)
	p.hooks, p.blindSpots = append(p.hooks, events...), append(p.blindSpots, unseen...)
	p.hooks = append(touchHooks(b, k), p.hooks...)
	return spec, p, configure(spec, p, k, b, o)
}

// mapRings begins to read the rings.
func (c *Capture) mapRings() error {
	for i, name := range ringNames() {
		r, err := newRing(c.collection.Maps[name])
		if err != nil {
			return fmt.Errorf("map ring of %s: %w", name, err)
		}
		*c.rings()[i] = r
	}
	var err error
	if c.fill, err = watchFill(c.collection.Maps["connects"], c.connects); err != nil {
		return fmt.Errorf("watch connect ring: %w", err)
	}
	return nil
}

// ringNames are the maps of rings, in the order of rings.
func ringNames() []string {
	return []string{"connects", "processes", "outcomes", "events", "dns_answers"}
}

func (c *Capture) rings() []**ring {
	return []**ring{&c.connects, &c.processes, &c.outcomes, &c.events, &c.answers}
}

// configure keeps of spec only what the plan needs and sets sizes and constants.
func configure(spec *ebpf.CollectionSpec, p plan, k *kernel, b Backend, o Options) error {
	keep := map[string]bool{"process_snapshot": true, "in_flight_snapshot": p.storage, "open_sockets": true, "frame_queued": o.Events.Sends, "found_sockets": o.Events.findsSockets()}
	for _, hooks := range [][]hook{p.hooks, p.returns} {
		for _, h := range hooks {
			keep[h.program] = true
		}
	}
	for name := range spec.Programs {
		if !keep[name] {
			delete(spec.Programs, name)
		}
	}
	if p.storage {
		spec.Maps["in_flight_hash"].MaxEntries = 1
	} else { // the type is unknown to kernels before 5.11, and the programs still name the map
		avoidStorage(spec.Maps["in_flight_storage"])
	}
	if !p.classic {
		avoidStorage(spec.Maps["told"])
	}
	sockets := k.version >= 5<<16|11<<8 // bpf_sk_storage_get in tracing programs (8e4597c627fb); there is no probing for it
	if sockets {
		spec.Maps["tracked_hash"].MaxEntries = 1
	} else {
		avoidStorage(spec.Maps["tracked_storage"])
	}
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return fmt.Errorf("count processors: %w", err)
	}
	spec.Maps["counters"].MaxEntries = uint32(cpus)
	spec.Maps["connect_losers"].MaxEntries = uint32(cpus)
	ring := spec.Maps["connects"]
	if o.RingBytes != 0 {
		ring.MaxEntries = o.RingBytes
	}
	if o.ProcessRingBytes != 0 {
		spec.Maps["processes"].MaxEntries = o.ProcessRingBytes
	}
	set := map[string]any{
		"wakeup_bytes":         ring.MaxEntries / 4,
		"process_wakeup_bytes": spec.Maps["processes"].MaxEntries / 4,
		"connects_mark":        ring.MaxEntries / 4 * 3,
		"connects_allowance":   ring.MaxEntries / 4 / 16,
		"processes_mark":       spec.Maps["processes"].MaxEntries / 2,
		"processes_allowance":  spec.Maps["processes"].MaxEntries / 2 / 16,
		"outcomes_wakeup":      spec.Maps["outcomes"].MaxEntries / 4,
		"outcomes_mark":        spec.Maps["outcomes"].MaxEntries / 4 * 3,
		"outcomes_allowance":   spec.Maps["outcomes"].MaxEntries / 4 / 16,
		"socket_storage":       sockets,
		"task_storage":         p.storage,
		"returns_in_row":       p.inRow,
		"after_lsm":            p.afterLSM,
		"hook_passed_by":       b != Cgroup,
		"typed_task":           k.version >= 5<<16|11<<8,
		"tracing_cookie":       k.version >= 5<<16|12<<8,
	}
	maps.Copy(set, configureEvents(spec, o.Events, k))
	maps.Copy(set, configureNames(spec, o.Events, notesAskers(b, k.version)))
	for name, value := range set {
		if err := spec.Variables[name].Set(value); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	return nil
}

// avoidStorage makes a map that no program uses one of a type that every kernel knows.
func avoidStorage(m *ebpf.MapSpec) {
	m.Type, m.Flags, m.MaxEntries = ebpf.Hash, 0, 1
}

// mayUseTaskStorage asks the kernel for the hooks' program type. Tracing programs cannot be probed; they may use what
// tracepoint programs may (kernel/trace/bpf_trace.c, bpf_tracing_func_proto).
func mayUseTaskStorage(t ebpf.ProgramType) bool {
	return features.HaveProgramHelper(ebpf.TracePoint, asm.FnTaskStorageGet) == nil &&
		(t == ebpf.Tracing || features.HaveProgramHelper(t, asm.FnTaskStorageGet) == nil)
}

// Backend tells which backend is attached.
func (c *Capture) Backend() Backend { return c.backend }

// BlindSpots tells in words what this backend cannot see on this kernel.
func (c *Capture) BlindSpots() []string { return c.blindSpots }

// Detach ends the capture and leaves rings, maps and counters readable, so that the last records and the last counts can
// agree. Attempts in flight then stay so for good. It may be called again.
func (c *Capture) Detach() error {
	errs := []error{c.pins.removeAll()}
	for _, a := range slices.Backward(c.attached) {
		errs = append(errs, a.link.Close())
	}
	c.attached = nil
	errs = append(errs, c.closeFrames())
	return errors.Join(errs...)
}

// Close detaches what is not pinned, and frees the maps that are not. Readers that wait return os.ErrClosed.
func (c *Capture) Close() error {
	var errs []error
	if c.pins == nil {
		errs = append(errs, c.Detach())
	}
	for _, a := range c.attached { // pinned: it stays attached
		_ = a.link.Close()
	}
	c.attached = nil
	errs = append(errs, c.closeFrames())
	if c.fill != nil {
		errs = append(errs, c.fill.close())
	}
	for _, r := range c.rings() {
		if *r != nil {
			errs = append(errs, (*r).close())
		}
	}
	for _, l := range c.left {
		errs = append(errs, l.close())
	}
	c.left = nil
	errs = append(errs, c.pins.close())
	if c.collection != nil {
		c.collection.Close()
	}
	return errors.Join(errs...)
}
