package tapelog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"

	"github.com/conntape/conntape/store/tapelog/vault"
)

// memory is a directory that fails on request. A crash keeps the synced data and a random part of the rest, in any
// order.
type memory struct {
	names   map[string]*inode // current names
	durable map[string]*inode // names at the last sync of the directory
	changes []nameChange      // since the last sync

	operations int // so far
	failAt     int // the operation that fails; 0: none
	forGood    bool
	crashAt    int  // from this operation on nothing happens
	full       bool // appending fails; making and overwriting files works
	noDirSync  bool // the mutant: a sync of the directory does nothing
}

type nameChange struct {
	from, to string // create: from is "", remove: to is ""
	inode    *inode
}

type inode struct {
	now     []byte   // current content
	disk    []byte   // content at the last sync
	changes []change // since the last sync
}

type change struct {
	at   int64
	data []byte // nil: truncate to at
}

var (
	errInjected = errors.New("injected")
	errCrashed  = errors.New("crashed")
)

func newMemory() *memory {
	return &memory{names: map[string]*inode{}, durable: map[string]*inode{}}
}

// step counts an operation and reports whether it fails.
func (m *memory) step() error {
	m.operations++
	switch {
	case m.crashAt > 0 && m.operations >= m.crashAt:
		return errCrashed
	case m.failAt > 0 && (m.operations == m.failAt || m.forGood && m.operations > m.failAt):
		return errInjected
	}
	return nil
}

func (m *memory) makeDir() error { return nil }

func (m *memory) close() {}

func (m *memory) list() ([]string, error) { return slices.Sorted(maps.Keys(m.names)), nil }

func (m *memory) create(name string) (file, error) {
	if m.names[name] != nil {
		return nil, fs.ErrExist
	}
	if err := m.step(); err != nil {
		return nil, err
	}
	n := &inode{}
	m.names[name] = n
	m.changes = append(m.changes, nameChange{to: name, inode: n})
	return &handle{m, n}, nil
}

func (m *memory) open(name string) (file, error) {
	n := m.names[name]
	if n == nil {
		return nil, fs.ErrNotExist
	}
	return &handle{m, n}, nil
}

func (m *memory) read(name string) (file, error) { return m.open(name) }

func (m *memory) remove(name string) error {
	if m.names[name] == nil {
		return fs.ErrNotExist
	}
	if err := m.step(); err != nil {
		return err
	}
	delete(m.names, name)
	m.changes = append(m.changes, nameChange{from: name})
	return nil
}

func (m *memory) rename(from, to string) error {
	if err := m.step(); err != nil {
		return err
	}
	n := m.names[from]
	delete(m.names, from)
	m.names[to] = n
	m.changes = append(m.changes, nameChange{from: from, to: to, inode: n})
	return nil
}

func (m *memory) syncDir() error {
	if err := m.step(); err != nil {
		return err
	}
	if !m.noDirSync {
		m.durable, m.changes = maps.Clone(m.names), nil
	}
	return nil
}

// crash returns the directory after a power cut.
func (m *memory) crash(r *rand.Rand) *memory {
	names := maps.Clone(m.durable)
	for _, c := range m.changes {
		if r.IntN(2) == 0 {
			continue
		}
		delete(names, c.from)
		if c.to != "" {
			names[c.to] = c.inode
		}
	}
	after := newMemory()
	for name, n := range names {
		disk := &inode{now: n.crash(r)}
		disk.disk = bytes.Clone(disk.now)
		after.names[name] = disk
	}
	after.durable = maps.Clone(after.names)
	return after
}

// crash returns a possible content of the file after a crash: unsynced writes are there, missing, partial, or zeros.
func (n *inode) crash(r *rand.Rand) []byte {
	data := bytes.Clone(n.disk)
	changes := slices.Clone(n.changes)
	r.Shuffle(len(changes), func(i, j int) { changes[i], changes[j] = changes[j], changes[i] })
	for _, c := range changes {
		switch r.IntN(4) {
		case 0:
			continue
		case 1:
			if len(c.data) > 0 {
				c.data = c.data[:r.IntN(len(c.data))+1]
			}
		case 2:
			if c.data != nil {
				c.data = make([]byte, len(c.data))
			}
		}
		data = c.apply(data)
	}
	return data
}

func (c change) apply(data []byte) []byte {
	if c.data == nil {
		return resize(data, c.at)
	}
	if end := c.at + int64(len(c.data)); end > int64(len(data)) {
		data = resize(data, end)
	}
	copy(data[c.at:], c.data)
	return data
}

func resize(data []byte, size int64) []byte {
	if size <= int64(len(data)) {
		return data[:size]
	}
	return append(data, make([]byte, size-int64(len(data)))...)
}

// handle is an open file.
type handle struct {
	m *memory
	n *inode
}

func (h *handle) ReadAt(b []byte, at int64) (int, error) {
	if at >= int64(len(h.n.now)) {
		return 0, io.EOF
	}
	n := copy(b, h.n.now[at:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (h *handle) change(c change) {
	h.n.now = c.apply(h.n.now)
	h.n.changes = append(h.n.changes, c)
}

// A failing WriteAt writes half.
func (h *handle) WriteAt(b []byte, at int64) (int, error) {
	if err := h.m.step(); err != nil {
		if !errors.Is(err, errCrashed) || h.m.operations == h.m.crashAt {
			h.change(change{at, bytes.Clone(b[:len(b)/2])})
		}
		return len(b) / 2, err
	}
	if end := at + int64(len(b)); h.m.full && end > int64(len(h.n.now)) {
		return 0, errInjected
	}
	h.change(change{at, bytes.Clone(b)})
	return len(b), nil
}

func (h *handle) Truncate(size int64) error {
	if err := h.m.step(); err != nil {
		return err
	}
	h.change(change{at: size})
	return nil
}

// A failing Sync loses the unsynced data for good, and the next one succeeds.
func (h *handle) Sync() error {
	if err := h.m.step(); err != nil {
		if errors.Is(err, errInjected) {
			h.n.changes = nil
		}
		return err
	}
	for _, c := range h.n.changes {
		h.n.disk = c.apply(h.n.disk)
	}
	h.n.disk, h.n.changes = bytes.Clone(h.n.disk), nil
	return nil
}

func (h *handle) Close() error            { return nil }
func (h *handle) reserve(_, _ int64) bool { return true }
func (h *handle) release(int64)           {}
func (h *handle) size() (int64, error)    { return int64(len(h.n.now)), nil }

// keysIn returns the number of readable keys on the disk, in all files.
func (m *memory) keysIn() int {
	v, err := vault.New()
	if err != nil {
		panic(err)
	}
	defer v.Close()
	found := 0
	for _, n := range m.names {
		for at := int64(0); at+slotSize <= int64(len(n.disk)); at += slotSize {
			if _, err := v.Load(0, bytes.NewReader(n.disk), at); err == nil {
				found++
			}
		}
	}
	return found
}

func (m *memory) String() string {
	text := ""
	for _, name := range slices.Sorted(maps.Keys(m.names)) {
		text += fmt.Sprintf("%s %d bytes; ", name, len(m.names[name].now))
	}
	return text
}
