package tapelog

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/conntape/conntape/store/tapelog/vault"
)

// Names of the key file and of its replacement.
const (
	keyName    = "key"
	newKeyName = "key.new"
)

// The key file has two slots in separate blocks, so that a torn write of one spares the other. Key n is in slot n modulo
// 2, as in the vault; an erased slot is all zeros.
const (
	slotSize  = vault.SlotSize
	slotMagic = "conntape key 1"
)

// state is the state for continuing a log: the tree so far, the key of the next leaf, whose number is the tree's size,
// and the key that signs the header of the next part. Both keys are in a slot of the vault.
type state struct {
	origin string
	tree   *tree
	vault  *vault.Vault
	public [ed25519.PublicKeySize]byte // of the key that signs the next leaf
}

// newState makes the state after a tree, with a new key for the next leaf.
func newState(v *vault.Vault, origin string, t *tree) (*state, error) {
	s := &state{origin: origin, tree: t, vault: v}
	if err := v.Generate(s.slot(), vault.Leaf); err != nil {
		return nil, err
	}
	s.public = v.Public(s.slot(), vault.Leaf)
	return s, nil
}

// slot returns the slot of the keys.
func (s *state) slot() int { return slotOf(s.tree.size) }

// newPart makes a new part key and returns its public half.
func (s *state) newPart() ([ed25519.PublicKeySize]byte, error) {
	if err := s.vault.Generate(s.slot(), vault.Part); err != nil {
		return [ed25519.PublicKeySize]byte{}, err
	}
	return s.vault.Public(s.slot(), vault.Part), nil
}

// sign signs a checkpoint with the key of the next leaf.
func (s *state) sign(c Checkpoint) []byte {
	return s.vault.Sign(s.slot(), vault.Leaf, []byte(c.String()))
}

// erase overwrites the keys in memory.
func (s *state) erase() { s.vault.Erase(s.slot()) }

// label returns the text stored with the keys.
func (s *state) label() []byte {
	text := fmt.Appendf(nil, "%s\norigin %s\nsize %d\ntree", slotMagic, s.origin, s.tree.size)
	for _, h := range s.tree.hashes {
		text = fmt.Appendf(text, " %s", h)
	}
	return append(text, '\n')
}

// store writes the slot of s to a file.
func (s *state) store(f file) error {
	return s.vault.Store(s.slot(), s.label(), f, int64(s.slot())*slotSize)
}

// loadState reads one slot of a file into the vault. The error is vault.ErrSlot if the slot has no key.
func loadState(v *vault.Vault, f file, slot int) (*state, error) {
	label, err := v.Load(slot, f, int64(slot)*slotSize)
	if err != nil {
		return nil, err
	}
	s, err := parseLabel(label)
	if err != nil || s.slot() != slot {
		v.Erase(slot)
		return nil, vault.ErrSlot
	}
	s.vault, s.public = v, v.Public(slot, vault.Leaf)
	return s, nil
}

// parseLabel parses the output of label and refuses any other form.
func parseLabel(label []byte) (*state, error) {
	lines := strings.Split(string(label), "\n")
	if len(lines) != 5 {
		return nil, vault.ErrSlot
	}
	origin, _ := strings.CutPrefix(lines[1], "origin ")
	digits, _ := strings.CutPrefix(lines[2], "size ")
	size, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || !validOrigin(origin) {
		return nil, vault.ErrSlot
	}
	t, err := parseTree(size, strings.Split(lines[3], " ")[1:])
	if err != nil {
		return nil, vault.ErrSlot
	}
	if s := (&state{origin: origin, tree: t}); bytes.Equal(s.label(), label) {
		return s, nil
	}
	return nil, vault.ErrSlot
}

// parseTree parses a tree's hashes.
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

// slotOf returns the slot of the key of leaf n.
func slotOf(n int64) int { return int(n % 2) }

// readSlots reads a file's keys into the vault and returns them by leaf.
func readSlots(v *vault.Vault, f file) ([]*state, error) {
	var found []*state
	for slot := range 2 {
		s, err := loadState(v, f, slot)
		if errors.Is(err, vault.ErrSlot) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found = append(found, s)
	}
	if len(found) == 2 && found[0].tree.size > found[1].tree.size {
		found[0], found[1] = found[1], found[0]
	}
	return found, nil
}

// openKeys opens the key file and reads its keys, at most two, into the vault. It first finishes an interrupted
// replacement of the file.
func openKeys(fsys files, v *vault.Vault) (*keyFile, []*state, error) {
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
		wanted := len(keys) == 0
		if wanted {
			keys, err = readSlots(v, f)
		}
		if err == nil && name == newKeyName {
			err = k.settle(f, wanted && len(keys) > 0)
		}
		if err != nil {
			f.Close()
			return nil, nil, err
		}
		if name == keyName {
			k.f = f
		}
	}
	return k, keys, nil
}

// settle finishes the replacement of the key file by f: it renames f, or erases f if it is not wanted.
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

// wipe overwrites both slots with zeros.
func wipe(f file) error {
	if _, err := f.WriteAt(make([]byte, 2*slotSize), 0); err != nil {
		return err
	}
	return f.Sync()
}

// put stores s in its slot and syncs. others are the keys to keep if the file has to be replaced.
func (k *keyFile) put(s *state, others ...*state) error {
	if err := k.write(s.store); err != nil {
		return k.replace(append(others, s)...)
	}
	return nil
}

// erase overwrites the key of leaf n with zeros. others are as for put.
func (k *keyFile) erase(n int64, others ...*state) error {
	zeros := func(f file) error {
		_, err := f.WriteAt(make([]byte, slotSize), int64(slotOf(n))*slotSize)
		return err
	}
	if err := k.write(zeros); err != nil {
		return k.replace(others...)
	}
	return nil
}

// write calls to for the key file, and syncs it.
func (k *keyFile) write(to func(file) error) error {
	if k.f == nil {
		return errors.New("no key file")
	}
	if err := to(k.f); err != nil {
		return fmt.Errorf("write key: %w", err)
	}
	if err := k.f.Sync(); err != nil {
		return fmt.Errorf("sync key: %w", err)
	}
	return nil
}

// replace makes a new key file with these keys, and erases the old one as far as possible: it is faulty or missing.
func (k *keyFile) replace(keys ...*state) error {
	if err := k.files.remove(newKeyName); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove key: %w", err)
	}
	f, err := k.files.create(newKeyName)
	if err != nil {
		return fmt.Errorf("create key: %w", err)
	}
	_, err = f.WriteAt(make([]byte, 2*slotSize), 0)
	for _, s := range keys {
		if err == nil {
			err = s.store(f)
		}
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = k.files.syncDir() // before the old one is erased
	}
	if err != nil {
		wipe(f) // as far as possible
		f.Close()
		return fmt.Errorf("write key: %w", err)
	}
	if k.f != nil {
		wipe(k.f) // it may be the broken one
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
