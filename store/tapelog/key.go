package tapelog

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// Names of the key file, and of the one that is to take its place.
const (
	keyName    = "key"
	newKeyName = "key.new"
)

// The key file has two slots, of a block each, so that writing one cannot tear
// the other. Key n is in slot n modulo 2; an erased slot is all zeros.
const (
	slotSize  = 4096
	slotMagic = "conntape key 1"
)

// state is what it takes to go on with a log: the tree so far, the key that signs
// the leaf that comes next, whose number is the size of the tree, and the key that
// signs how the next part begins.
type state struct {
	origin string
	seed   [ed25519.SeedSize]byte
	part   [ed25519.SeedSize]byte
	tree   *tree
}

// newSeed returns the seed of a new key.
func newSeed() (seed [ed25519.SeedSize]byte) {
	rand.Read(seed[:]) // never fails
	return seed
}

// public returns the verifier key.
func (s *state) public() [ed25519.PublicKeySize]byte { return publicOf(&s.seed) }

func publicOf(seed *[ed25519.SeedSize]byte) [ed25519.PublicKeySize]byte {
	key := ed25519.NewKeyFromSeed(seed[:])
	defer clear(key)
	return publicKey(key)
}

// erase overwrites the keys in memory.
func (s *state) erase() {
	clear(s.seed[:])
	clear(s.part[:])
}

// encode returns the slot of s, slotSize bytes. The caller clears it after use.
func (s *state) encode() []byte {
	slot := make([]byte, 0, slotSize)
	slot = fmt.Appendf(slot, "%s\norigin %s\nsize %d\nseed ", slotMagic, s.origin, s.tree.size)
	slot = base64.StdEncoding.AppendEncode(slot, s.seed[:])
	slot = append(slot, "\npart "...)
	slot = base64.StdEncoding.AppendEncode(slot, s.part[:])
	slot = append(slot, "\ntree"...)
	for _, h := range s.tree.hashes {
		slot = fmt.Appendf(slot, " %s", h)
	}
	slot = append(slot, '\n')
	slot = fmt.Appendf(slot, "sha256 %x\n", sha256.Sum256(slot))
	return append(slot, make([]byte, slotSize-len(slot))...)
}

// errSlot: the slot is erased, torn or damaged.
var errSlot = errors.New("no key in this slot")

// parseSlot reads what encode wrote.
func parseSlot(slot []byte) (*state, error) {
	text, padding, ok := bytes.Cut(slot, []byte{0})
	if len(slot) != slotSize || !ok || len(bytes.Trim(padding, "\x00")) != 0 {
		return nil, errSlot
	}
	at := bytes.LastIndex(text, []byte("sha256 "))
	if at < 0 || string(text[at:]) != fmt.Sprintf("sha256 %x\n", sha256.Sum256(text[:at])) {
		return nil, errSlot
	}
	lines := strings.Split(string(text[:at]), "\n")
	if len(lines) != 7 || lines[0] != slotMagic || lines[6] != "" {
		return nil, errSlot
	}
	var words [5][]string
	for i, name := range []string{"origin", "size", "seed", "part", "tree"} {
		all := strings.Split(lines[i+1], " ")
		if all[0] != name || i < 4 && len(all) != 2 {
			return nil, errSlot
		}
		words[i] = all[1:]
	}
	if !validOrigin(words[0][0]) {
		return nil, errSlot
	}
	s := &state{origin: words[0][0]}
	size, err := strconv.ParseInt(words[1][0], 10, 64)
	if err != nil {
		return nil, errSlot
	}
	for i, to := range []*[ed25519.SeedSize]byte{&s.seed, &s.part} {
		seed, err := base64.StdEncoding.Strict().DecodeString(words[2+i][0])
		if err != nil || len(seed) != len(to) {
			return nil, errSlot
		}
		copy(to[:], seed)
		clear(seed)
	}
	if s.tree, err = parseTree(size, words[4]); err != nil {
		return nil, errSlot
	}
	return s, nil
}

// parseTree reads the hashes of a tree as text.
func parseTree(size int64, words []string) (*tree, error) {
	var hashes []tlog.Hash
	for _, word := range words {
		h, err := tlog.ParseHash(word)
		if err != nil {
			return nil, fmt.Errorf("parse tree: %w", err)
		}
		hashes = append(hashes, h)
	}
	return newTree(size, hashes)
}

// keyFile is the open key file.
type keyFile struct {
	files files
	f     file // nil after an error
}

// slotOf returns where the key of leaf n is.
func slotOf(n int64) int64 { return n % 2 * slotSize }

// readSlots returns the keys in a file, by leaf.
func readSlots(f file) ([]*state, error) {
	var found []*state
	slot := make([]byte, slotSize)
	defer clear(slot)
	for at := int64(0); at < 2*slotSize; at += slotSize {
		n, err := f.ReadAt(slot, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("read key: %w", err)
		}
		s, err := parseSlot(slot[:n])
		if err != nil || slotOf(s.tree.size) != at {
			continue
		}
		found = append(found, s)
	}
	if len(found) == 2 && found[0].tree.size > found[1].tree.size {
		found[0], found[1] = found[1], found[0]
	}
	return found, nil
}

// openKeys opens the key file and returns the keys in it, at most two. When the
// file is being replaced, that is finished first.
func openKeys(fsys files) (*keyFile, []*state, error) {
	k := &keyFile{files: fsys}
	var keys []*state
	for _, name := range []string{keyName, newKeyName} {
		f, err := fsys.open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("open key: %w", err)
		}
		found, err := readSlots(f)
		if err == nil && name == newKeyName {
			err = k.settle(f, len(keys) == 0 && len(found) > 0)
		}
		if err != nil {
			f.Close()
			return nil, nil, err
		}
		if name == keyName {
			k.f = f
		}
		if len(keys) == 0 {
			keys = found
		}
	}
	return k, keys, nil
}

// settle ends the replacement of the key file by f: f takes its name when it is
// wanted, and is erased when it is not.
func (k *keyFile) settle(f file, wanted bool) error {
	if !wanted {
		if err := wipe(f); err != nil {
			return fmt.Errorf("erase key: %w", err)
		}
		if err := f.Close(); err != nil {
			return fmt.Errorf("erase key: %w", err)
		}
		if err := k.files.remove(newKeyName); err != nil {
			return fmt.Errorf("remove key: %w", err)
		}
		return nil
	}
	if err := k.files.rename(newKeyName, keyName); err != nil {
		return fmt.Errorf("rename key: %w", err)
	}
	if err := k.files.syncDir(); err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	if k.f != nil {
		k.f.Close()
	}
	k.f = f
	return nil
}

// wipe writes zeros over both slots.
func wipe(f file) error {
	if _, err := f.WriteAt(make([]byte, 2*slotSize), 0); err != nil {
		return err
	}
	return f.Sync()
}

// put stores s in its slot and returns when it is on the disk. others are the
// keys that must be there as well, should the file have to be replaced.
func (k *keyFile) put(s *state, others ...*state) error {
	slot := s.encode()
	defer clear(slot)
	if err := k.write(slot, slotOf(s.tree.size)); err != nil {
		return k.replace(append(others, s)...)
	}
	return nil
}

// erase writes zeros over the key of leaf n. others are as for put.
func (k *keyFile) erase(n int64, others ...*state) error {
	if err := k.write(make([]byte, slotSize), slotOf(n)); err != nil {
		return k.replace(others...)
	}
	return nil
}

func (k *keyFile) write(slot []byte, at int64) error {
	if k.f == nil {
		return errors.New("no key file")
	}
	if _, err := k.f.WriteAt(slot, at); err != nil {
		return fmt.Errorf("write key: %w", err)
	}
	if err := k.f.Sync(); err != nil {
		return fmt.Errorf("sync key: %w", err)
	}
	return nil
}

// replace makes a new key file with these keys and erases the one that there is
// as well as it can be: it is at fault, or not there.
func (k *keyFile) replace(keys ...*state) error {
	if err := k.files.remove(newKeyName); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove key: %w", err)
	}
	f, err := k.files.create(newKeyName)
	if err != nil {
		return fmt.Errorf("create key: %w", err)
	}
	both := make([]byte, 2*slotSize)
	defer clear(both)
	for _, s := range keys {
		slot := s.encode()
		copy(both[slotOf(s.tree.size):], slot)
		clear(slot)
	}
	if _, err = f.WriteAt(both, 0); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = k.files.syncDir() // before the old one is erased
	}
	if err != nil {
		wipe(f) // as far as it goes
		f.Close()
		return fmt.Errorf("write key: %w", err)
	}
	if k.f != nil {
		wipe(k.f) // it may be what is broken
		k.f.Close()
		k.f = nil
	}
	return k.settle(f, true)
}

func (k *keyFile) close() error {
	if k.f == nil {
		return nil
	}
	err := k.f.Close()
	k.f = nil
	return err
}
