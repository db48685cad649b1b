package bpf

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// OpenSocket is a TCP socket that is open, and followed.
type OpenSocket struct {
	// Holder is a process that has the socket, as if it had connected it by ViaSnapshot; its BootTime is that of the look.
	Holder Connect
	// SoFar is of kind OutcomeOpen or OutcomeConnecting. Its Attempt is that of the connect, which has the same Cookie; or of the
	// look that found the socket first, which then is the time of Established too.
	SoFar Outcome
}

// decode reads a struct open_socket of record.h. Holder's addresses alias b.
func (s *OpenSocket) decode(b []byte) error {
	if len(b) < openSize {
		return fmt.Errorf("decode open socket of %d bytes: %w", len(b), ErrShortRecord)
	}
	if err := s.Holder.decode(b); err != nil {
		return err
	}
	return s.SoFar.decode(b[openSize-outcomeSize:])
}

// Adopted tells whether nobody saw the socket connect, and o is told since a look found it.
func (o *Outcome) Adopted() bool { return o.Established != 0 && o.Established == o.Attempt.BootTime }

// OpenSockets calls fn with every TCP socket that is followed and that a process has a descriptor of; with adopt it first
// begins to follow those that were connected before the hooks were attached. A socket of several descriptors comes as often.
// The record is reused.
func (c *Capture) OpenSockets(adopt bool, fn func(*OpenSocket)) (err error) {
	if adopt {
		adopting := c.collection.Variables["adopting"]
		if err := adopting.Set(uint32(1)); err != nil {
			return fmt.Errorf("set adopting: %w", err)
		}
		defer func() { err = errors.Join(err, adopting.Set(uint32(0))) }()
	}
	var socket OpenSocket
	return walkFiles(c.collection.Programs["open_sockets"], openSize, func(record []byte) error {
		if err := socket.decode(record); err != nil {
			return err
		}
		fn(&socket)
		return nil
	})
}

// FoundSockets calls fn with what sockets are that a process has already, as far as [Events] asks for it: ViaListen, ViaBind, ViaSocket and
// the options, as [Capture.ReadEvent] tells of what happens. A process that has several descriptors of a socket comes once, and each of several
// processes does. Devices are told where [Capture.BlindSpots] does not say otherwise. The record is reused.
func (c *Capture) FoundSockets(fn func(*Connect)) error {
	walk := c.collection.Programs["found_sockets"]
	if walk == nil {
		return nil
	}
	type one struct {
		process ProcessKey
		inode   int32
		via     Via
	}
	var rec Connect
	told := map[one]struct{}{}
	return walkFiles(walk, foundSize, func(record []byte) error {
		if err := rec.decode(record); err != nil {
			return err
		}
		this := one{rec.Key, rec.Addrlen, rec.Via}
		if _, again := told[this]; again {
			return nil
		}
		told[this] = struct{}{}
		rec.Addrlen, rec.Found = 0, true
		fn(&rec)
		return nil
	})
}

// walkFiles runs an iterator over the files of all processes and calls fn with each record, of size bytes, that it writes.
func walkFiles(program *ebpf.Program, size int, fn func([]byte) error) error {
	it, err := link.AttachIter(link.IterOptions{Program: program})
	if err != nil {
		return fmt.Errorf("attach file iterator: %w", err)
	}
	defer it.Close()
	walk, err := it.Open()
	if err != nil {
		return fmt.Errorf("open file iterator: %w", err)
	}
	defer walk.Close()
	all := bufio.NewReaderSize(walk, 128*size) // there may be many
	record := make([]byte, size)
	for {
		if _, err := io.ReadFull(all, record); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read file iterator: %w", err)
		}
		if err := fn(record); err != nil {
			return err
		}
	}
}
