package vault

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// newVault returns a vault with these keys in slot 0.
func newVault(t testing.TB, leaf, part [seedSize]byte) *Vault {
	t.Helper()
	v, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	v.block.keys[0].seeds = [2][seedSize]byte{leaf, part}
	v.block.ready[0] = true
	return v
}

func random(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func TestSHA512(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for n := range 600 {
		message := random(r, n)
		var h hasher
		var sum [64]byte
		h.reset()
		for rest := message; ; {
			k := r.IntN(len(rest) + 1)
			h.write(rest[:k])
			if rest = rest[k:]; len(rest) == 0 {
				break
			}
		}
		h.finish(&sum)
		if sum != sha512.Sum512(message) {
			t.Fatalf("%d bytes: %x", n, sum)
		}
	}
}

// Test vectors of RFC 8032, 7.1.
func TestVectors(t *testing.T) {
	for _, v := range []struct{ seed, public, message, signature string }{
		{"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60", "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
			"e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"},
		{"4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb", "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
			"92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"},
		{"c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7", "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
			"6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"},
	} {
		seed, _ := hex.DecodeString(v.seed)
		message, _ := hex.DecodeString(v.message)
		vault := newVault(t, [32]byte(seed), [32]byte{})
		if public := vault.Public(0, Leaf); hex.EncodeToString(public[:]) != v.public {
			t.Errorf("public key %x, want %s", public, v.public)
		}
		if signature := vault.Sign(0, Leaf, message); hex.EncodeToString(signature) != v.signature {
			t.Errorf("signature %x, want %s", signature, v.signature)
		}
	}
}

// Keys and signatures equal those of crypto/ed25519.
func TestSameAsStandardLibrary(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for n := range 300 {
		leaf, part, message := [32]byte(random(r, 32)), [32]byte(random(r, 32)), random(r, n*13)
		v := newVault(t, leaf, part)
		for key, seed := range map[Key][32]byte{Leaf: leaf, Part: part} {
			private := ed25519.NewKeyFromSeed(seed[:])
			public := v.Public(0, key)
			if !bytes.Equal(public[:], private.Public().(ed25519.PublicKey)) {
				t.Fatalf("seed %x: public key %x", seed, public)
			}
			if got := v.Sign(0, key, message); !bytes.Equal(got, ed25519.Sign(private, message)) {
				t.Fatalf("seed %x, message %x: signature %x", seed, message, got)
			}
		}
	}
}

// page is a file of one slot.
type page struct{ data []byte }

func (p *page) WriteAt(b []byte, at int64) (int, error) {
	return copy(p.data[at:], b), nil
}

func (p *page) ReadAt(b []byte, at int64) (int, error) {
	if n := copy(b, p.data[at:]); n < len(b) {
		return n, io.EOF
	}
	return len(b), nil
}

func TestStoreAndLoad(t *testing.T) {
	v := newVault(t, [32]byte{1}, [32]byte{2})
	file := &page{make([]byte, 2*SlotSize)}
	text := bytes.Repeat([]byte("x"), LabelSize)
	if err := v.Store(0, text, file, SlotSize); err != nil {
		t.Fatal(err)
	}
	if err := v.Store(0, append(text, 'x'), file, 0); err == nil {
		t.Error("a label that is too long is taken")
	}
	other := newVault(t, [32]byte{}, [32]byte{})
	got, err := other.Load(1, file, SlotSize)
	if err != nil || !bytes.Equal(got, text) {
		t.Fatalf("%v, %d bytes", err, len(got))
	}
	if other.Public(1, Leaf) != v.Public(0, Leaf) || other.Public(1, Part) != v.Public(0, Part) {
		t.Error("other keys were loaded than were stored")
	}
	before := other.Public(1, Leaf)
	for at := range SlotSize {
		file.data[SlotSize+at] ^= 4
		if _, err := other.Load(1, file, SlotSize); !errors.Is(err, ErrSlot) {
			t.Fatalf("byte %d altered: %v", at, err)
		}
		file.data[SlotSize+at] ^= 4
	}
	if _, err := other.Load(1, file, 0); !errors.Is(err, ErrSlot) {
		t.Errorf("an erased slot: %v", err)
	}
	if _, err := other.Load(1, file, SlotSize+1); !errors.Is(err, ErrSlot) {
		t.Errorf("a slot cut short: %v", err)
	}
	if other.Public(1, Leaf) != before {
		t.Error("a slot that was not loaded has other keys now")
	}
}

func TestGenerateCopyErase(t *testing.T) {
	v := newVault(t, [32]byte{1}, [32]byte{2})
	if err := v.Generate(1, Leaf); err != nil {
		t.Fatal(err)
	}
	v.CopyPart(1, 0)
	if v.Public(1, Part) != v.Public(0, Part) || v.Public(1, Leaf) == v.Public(0, Leaf) {
		t.Error("the part key is to be the same, and the other is not")
	}
	v.Erase(0)
	if v.block.keys[0] != (pair{}) {
		t.Error("the keys are still there")
	}
	defer func() {
		if recover() == nil {
			t.Error("an erased key signs")
		}
	}()
	v.Sign(0, Leaf, nil)
}

// The block keeps no intermediate values.
func TestScratchIsCleared(t *testing.T) {
	v := newVault(t, [32]byte{1}, [32]byte{2})
	v.Sign(0, Leaf, []byte("message"))
	if err := v.Store(0, []byte("label"), &page{make([]byte, SlotSize)}, 0); err != nil {
		t.Fatal(err)
	}
	left := unsafe.Slice((*byte)(unsafe.Pointer(&v.block.scratch)), unsafe.Sizeof(scratch{}))
	if !bytes.Equal(left, make([]byte, len(left))) {
		t.Error("the scratch is not empty")
	}
	if v.block.pages[0] != ([SlotSize]byte{}) {
		t.Error("the page is not empty")
	}
}

// Keys are never swapped, in no core dump and in no child, with either kind of memory.
func TestMemory(t *testing.T) {
	locked, kind, err := mapLocked(blockSize())
	if err != nil || kind != Locked {
		t.Fatalf("%s, %v", kind, err)
	}
	defer release(locked)
	for _, flag := range []string{"lo", "dd", "wf"} {
		if flags := flagsOf(t, locked); !slices.Contains(flags, flag) {
			t.Errorf("locked memory has no flag %s: %v", flag, flags)
		}
	}
	secret, err := mapSecret(blockSize())
	if errors.Is(err, unix.ENOSYS) {
		t.Log("this kernel has no memfd_secret")
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer release(secret)
	for _, flag := range []string{"lo", "dd", "dc"} {
		if flags := flagsOf(t, secret); !slices.Contains(flags, flag) {
			t.Errorf("secret memory has no flag %s: %v", flag, flags)
		}
	}
	memory, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	if _, err := memory.ReadAt(make([]byte, 8), int64(uintptr(unsafe.Pointer(&secret[0])))); err == nil {
		t.Error("secret memory can be read through /proc")
	}
}

// flagsOf returns the kernel's flags of a mapping (proc_pid_smaps(5), VmFlags).
func flagsOf(t *testing.T, memory []byte) []string {
	t.Helper()
	text, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	at, here := uint64(uintptr(unsafe.Pointer(&memory[0]))), false
	for line := range strings.Lines(string(text)) {
		var from, to uint64
		if n, _ := fmt.Sscanf(line, "%x-%x ", &from, &to); n == 2 {
			here = from <= at && at < to
		}
		if flags, ok := strings.CutPrefix(line, "VmFlags:"); ok && here {
			return strings.Fields(flags)
		}
	}
	t.Fatal("the mapping is not in smaps")
	return nil
}

// BenchmarkEpoch measures a leaf's work: a new key, its public half, a signature.
func BenchmarkEpoch(b *testing.B) {
	v := newVault(b, [32]byte{1}, [32]byte{2})
	message := make([]byte, 140)
	b.ReportAllocs()
	for b.Loop() {
		if err := v.Generate(0, Leaf); err != nil {
			b.Fatal(err)
		}
		v.Public(0, Leaf)
		v.Sign(0, Leaf, message)
	}
}

// BenchmarkEpochStandard is the same with crypto/ed25519.
func BenchmarkEpochStandard(b *testing.B) {
	message := make([]byte, 140)
	for b.Loop() {
		_, key, err := ed25519.GenerateKey(nil)
		if err != nil {
			b.Fatal(err)
		}
		ed25519.Sign(key, message)
	}
}
