package bpf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

const unseenSends = "datagrams that are sent without a connect (sendto, sendmsg): this kernel does not take the programs, or has no cgroup v2"

const unseenRaw = "what is sent through raw and ping sockets without a connect: this kernel has no trampolines, and no kprobes"

const unseenUnix = "UNIX datagrams that are sent without a connect: before Linux 6.7 no program runs for them that does not run for all others, too"

// blindSends is what none of the programs sees: nothing runs in a sender there that has the address, or it runs for each packet of the host.
const blindSends = "what is sent without a connect through XDP and SCTP sockets (sockets_opened has who can, of XDP)"

// rawSenders are the functions that send through raw and ping sockets, with the program of each. A kernel need not have all.
var rawSenders = []struct{ function, program string }{
	{"raw_sendmsg", "fentry_raw4"}, {"rawv6_sendmsg", "fentry_raw6"}, {"ping_v4_sendmsg", "fentry_ping4"}, {"ping_v6_sendmsg", "fentry_ping6"},
}

// sendHooks appends those of sends without connect.
func sendHooks(hooks []hook, b Backend, k *kernel) []hook {
	hooks = append(hooks,
		hook{program: "cgroup_sendmsg4", how: cgroup, attach: ebpf.AttachCGroupUDP4Sendmsg, mayFail: true, unseen: unseenSends},
		hook{program: "cgroup_sendmsg6", how: cgroup, attach: ebpf.AttachCGroupUDP6Sendmsg, mayFail: true, unseen: unseenSends})
	if k.hasValue("bpf_attach_type", "BPF_CGROUP_UNIX_SENDMSG") {
		hooks = append(hooks, hook{program: "cgroup_sendmsg_unix", how: cgroup, attach: ebpf.AttachCgroupUnixSendmsg, mayFail: true, unseen: unseenUnix})
	}
	hooks = frameHooks(hooks, b, k)
	for _, raw := range rawSenders {
		switch {
		case !k.hasFunc(raw.function):
		case b == Fexit:
			hooks = append(hooks, hook{program: raw.program, mayFail: true, unseen: unseenRaw})
		default:
			hooks = append(hooks, hook{program: "kprobe_send", how: kprobe, target: raw.function, mayFail: true, unseen: unseenRaw})
		}
	}
	return hooks
}

// SendCount is a number of sends without connect that no record tells of.
type SendCount struct {
	// Of is the first send of the process, on the socket and to the address that these have in common, counted here or told
	// before: its BootTime may be earlier than First. Its port is 0 where answers of a server to one address are counted together;
	// Remote is empty where they are all that a process sent and that found no room.
	Of          Connect
	Count       uint64
	First, Last uint64 // of them, ns CLOCK_BOOTTIME
	Bytes       int64  // Unknown: of one of them at least it is
}

// sendBatch is the number of entries that are read at once.
const sendBatch = 1024

// decode reads a struct send_key and a struct send of send.h.
func (s *SendCount) decode(key, value []byte) error {
	if err := s.Of.decode(value); err != nil {
		return err
	}
	n := binary.NativeEndian
	counts := value[len(value)-40:]
	s.Count, s.First, s.Last, s.Bytes = n.Uint64(counts), n.Uint64(counts[8:]), n.Uint64(counts[16:]), int64(n.Uint64(counts[24:]))
	if n.Uint32(counts[32:]) > 0 {
		s.Bytes = Unknown
	}
	if key[44] == 0 {
		s.Of.Remote, s.Of.Local = nil, nil
	}
	return nil
}

// NextSends begins another generation of counts and forgets the one before the last. Call it only after Sends has read that, and not
// again before every program that was running then has ended.
func (c *Capture) NextSends() error {
	now, err := c.generation()
	if err != nil {
		return err
	}
	if err := c.dropSends(func(of uint32) bool { return of != now }); err != nil {
		return err
	}
	if err := c.collection.Variables["send_generation"].Set(now + 1); err != nil {
		return fmt.Errorf("set send_generation: %w", err)
	}
	return nil
}

// Sends calls fn with what was counted before the last NextSends, and with all, after Detach, since. The record is reused.
func (c *Capture) Sends(all bool, fn func(*SendCount)) error {
	if err := c.leftSends(fn); err != nil {
		return err
	}
	now, err := c.generation()
	if err != nil {
		return err
	}
	return c.readSends(func(of uint32) bool { return (of == now) == all }, fn)
}

// sendsSince calls fn with what was counted in a generation and those after it.
func (c *Capture) sendsSince(first uint32, fn func(*SendCount)) error {
	return c.readSends(func(of uint32) bool { return of >= first }, fn)
}

// sendsAllTold is a generation that never comes.
const sendsAllTold = ^uint32(0)

// forgetSends forgets the sends that were counted until now: the programs that these ones replaced have counted them, too.
func (c *Capture) forgetSends() error {
	if !c.options.Events.Sends {
		return nil
	}
	c.sendsFrom = bootNow()
	n, err := c.Counters()
	if err != nil {
		return err
	}
	now, err := c.generation()
	if err != nil {
		return err
	}
	if err := c.collection.Variables["send_generation"].Set(now + 1); err != nil {
		return fmt.Errorf("set send_generation: %w", err)
	}
	c.base.SendCounted += n.SendCounted
	return c.dropSends(func(of uint32) bool { return of <= now })
}

func (c *Capture) generation() (n uint32, err error) {
	if err = c.collection.Variables["send_generation"].Get(&n); err != nil {
		err = fmt.Errorf("read send_generation: %w", err)
	}
	return n, err
}

// readSends calls fn with what was counted in generations.
func (c *Capture) readSends(of func(generation uint32) bool, fn func(*SendCount)) error {
	var s SendCount
	return c.walkSends(func(_ *ebpf.Map, key, value []byte) error {
		if !of(generationOf(key)) {
			return nil
		}
		if err := s.decode(key, value); err != nil {
			return err
		}
		if s.Count > 0 {
			fn(&s)
		}
		return nil
	})
}

// dropSends deletes the entries of generations.
func (c *Capture) dropSends(of func(generation uint32) bool) error {
	stale := map[*ebpf.Map][][]byte{}
	err := c.walkSends(func(m *ebpf.Map, key, _ []byte) error {
		if of(generationOf(key)) {
			stale[m] = append(stale[m], bytes.Clone(key))
		}
		return nil
	})
	for m, keys := range stale {
		for _, key := range keys {
			if err := m.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
				return fmt.Errorf("forget sends: %w", err)
			}
		}
	}
	return err
}

func generationOf(key []byte) uint32 { return binary.NativeEndian.Uint32(key[40:]) }

// walkSends reads both maps of sends.
func (c *Capture) walkSends(fn func(m *ebpf.Map, key, value []byte) error) error {
	sends, names := c.collection.Maps["sends"], c.collection.Maps["unix_sends"]
	err := walkMap(sends, func(k *[sendKeySize]byte, v *[sendSize]byte) error { return fn(sends, k[:], v[:]) })
	if err == nil && names != nil { // programs of another version may have none
		err = walkMap(names, func(k *[unixKeySize]byte, v *[unixSendSize]byte) error { return fn(names, k[:], v[:]) })
	}
	return err
}

// walkMap reads a map bucket by bucket: an entry that stays is seen once, whatever comes and goes meanwhile.
func walkMap[K, V any](m *ebpf.Map, fn func(*K, *V) error) error {
	var (
		cursor ebpf.MapBatchCursor
		size   = min(sendBatch, int(m.MaxEntries()))
		keys   = make([]K, size)
		values = make([]V, size)
	)
	for {
		n, err := m.BatchLookup(&cursor, keys, values, nil)
		last := errors.Is(err, ebpf.ErrKeyNotExist)
		if err != nil && !last {
			return fmt.Errorf("read sends: %w", err)
		}
		for i := range n {
			if err := fn(&keys[i], &values[i]); err != nil {
				return err
			}
		}
		if last {
			return nil
		}
	}
}
