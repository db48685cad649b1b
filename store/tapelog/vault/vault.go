package vault

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Sizes in bytes.
const (
	// SlotSize is the length of a slot in a file.
	SlotSize = 4096
	// LabelSize limits the label of a slot.
	LabelSize = SlotSize - labelAt - 1

	seedSize = 32
	sumAt    = 2 * seedSize
	labelAt  = sumAt + 64
)

// A vault has two slots: the keys in use and the next ones. A third one has the decoy's keys, which are not secret.
const (
	slots = 2
	decoy = slots
)

// Key is one of the two keys of a slot.
type Key int

// Keys of a slot.
const (
	Leaf Key = iota // signs one leaf
	Part            // signs the header of a part of the log
)

// ErrSlot is returned by Load for a slot that is erased, torn or damaged.
var ErrSlot = errors.New("no key in this slot")

// Vault keeps the keys of two slots, 0 and 1. It is safe for concurrent use. A method called for a slot without keys
// panics, and so does any after Close.
type Vault struct {
	mu      sync.Mutex
	memory  []byte // of block
	block   *block
	kind    Protection
	cleanup runtime.Cleanup
}

// New makes an empty vault. Close it after use.
func New() (*Vault, error) {
	memory, kind, err := newBlock()
	if err != nil {
		return nil, err
	}
	v := &Vault{memory: memory, block: (*block)(unsafe.Pointer(&memory[0])), kind: kind}
	v.cleanup = runtime.AddCleanup(v, release, memory)
	v.block.ready[decoy] = true // its keys are zeros
	(&task{do: pack, slot: decoy, message: []byte("decoy")}).perform(v.block, &v.block.pages[1])
	return v, nil
}

// release erases a block and gives the memory back.
func release(memory []byte) {
	clear(memory)
	// It can only fail for an unmapped address.
	_ = unix.Munmap(memory)
}

// Close erases all keys. Calling it again does nothing.
func (v *Vault) Close() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.block == nil {
		return
	}
	v.cleanup.Stop()
	release(v.memory)
	v.block, v.memory = nil, nil
}

// Protection returns the protection of the keys' memory.
func (v *Vault) Protection() Protection { return v.kind }

// Generate makes a random key in a slot.
func (v *Vault) Generate(slot int, key Key) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	seed := v.block.keys[slot].seeds[key][:]
	for done := 0; done < len(seed); {
		n, err := unix.Getrandom(seed[done:], 0)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("make key: %w", err)
		}
		done += max(n, 0)
	}
	v.block.ready[slot] = true
	return nil
}

// CopyPart copies the part key from one slot to the other.
func (v *Vault) CopyPart(to, from int) { v.run(task{do: copyPart, slot: to, from: from}) }

// Public returns the public key of a key.
func (v *Vault) Public(slot int, key Key) (public [32]byte) {
	v.run(task{do: publicKey, slot: slot, key: key, public: &public})
	return public
}

// Sign returns the Ed25519 signature of message (RFC 8032), 64 bytes.
func (v *Vault) Sign(slot int, key Key, message []byte) []byte {
	signature := new([64]byte)
	v.run(task{do: sign, slot: slot, key: key, message: message, signature: signature})
	return signature[:]
}

// Erase overwrites the keys of a slot.
func (v *Vault) Erase(slot int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	clear(v.block.keys[slot].seeds[Leaf][:])
	clear(v.block.keys[slot].seeds[Part][:])
	v.block.ready[slot] = false
}

// Store writes a slot to a file at an offset: the keys, a checksum and the label, SlotSize bytes. The label is not
// secret and must have no zero byte.
func (v *Vault) Store(slot int, label []byte, to io.WriterAt, at int64) error {
	if len(label) > LabelSize {
		return fmt.Errorf("store key: label of %d bytes is too long", len(label))
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	defer clear(v.block.pages[0][:])
	v.work(task{do: pack, slot: slot, message: label})
	_, err := to.WriteAt(v.block.pages[0][:], at)
	return err
}

// Load reads a slot written by Store and returns the label. If there is none, the error is ErrSlot and the slot is
// unchanged.
func (v *Vault) Load(slot int, from io.ReaderAt, at int64) (label []byte, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	defer clear(v.block.pages[0][:])
	clear(v.block.pages[0][:])
	n, err := from.ReadAt(v.block.pages[0][:], at)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read key: %w", err)
	}
	ok := false
	if n == SlotSize {
		v.work(task{do: unpack, slot: slot, label: &label, ok: &ok})
	}
	if !ok {
		return nil, ErrSlot
	}
	return label, nil
}

func (v *Vault) run(t task) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.work(t)
}

// work does a task without leaving a key behind.
func (v *Vault) work(t task) {
	if t.do != unpack && !v.block.ready[t.slot] || t.do == copyPart && !v.block.ready[t.from] {
		panic("vault: no key in this slot")
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all, before unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	// It can only fail for invalid arguments.
	_ = unix.PthreadSigmask(unix.SIG_SETMASK, &all, &before)
	onDeepStack(v.block, &t)
	_ = unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil)
}
