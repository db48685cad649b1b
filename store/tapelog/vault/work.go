package vault

import (
	"bytes"

	"filippo.io/edwards25519"
)

// kind is a kind of work with a secret.
type kind int

const (
	publicKey kind = iota
	sign
	copyPart
	pack
	unpack
)

// task is a piece of work. It has no secret.
type task struct {
	do         kind
	slot, from int
	key        Key
	message    []byte // message to sign, or label to pack

	public    *[32]byte
	signature *[64]byte
	label     *[]byte
	ok        *bool
}

// Bytes of stack. The work needs less than 12 KiB.
const (
	held   = 40 << 10 // in use during the work: the runtime shrinks a stack that is used less than a quarter
	burned = 24 << 10 // overwritten before and after
)

// onDeepStack does the work on a stack that the runtime does not move meanwhile, and then overwrites it. The decoy's
// work comes last, so that frames and registers have its keys.
//
//go:noinline
func onDeepStack(b *block, t *task) {
	var frame [held]byte
	burn() // grows the stack before the work
	t.perform(b, &b.pages[0])
	t.decoy().perform(b, &b.pages[1])
	burn()
	touch(frame[:])
}

// burn overwrites the stack below its caller.
//
//go:noinline
func burn() {
	var frame [burned]byte
	touch(frame[:])
}

// touch prevents the compiler from removing an array.
//
//go:noinline
func touch(frame []byte) { frame[0]++ }

// perform does the work.
//
//go:noinline
func (t *task) perform(b *block, page *[SlotSize]byte) {
	keys, s := &b.keys[t.slot], &b.scratch
	switch t.do {
	case publicKey:
		s.expand(&keys.seeds[t.key])
		s.public(t.public)
	case sign:
		s.expand(&keys.seeds[t.key])
		s.sign(t.signature, t.message)
	case copyPart:
		copy(keys.seeds[Part][:], b.keys[t.from].seeds[Part][:])
	case pack:
		s.pack(page, keys, t.message)
	case unpack:
		if *t.ok = s.unpack(keys, page); *t.ok {
			b.ready[t.slot] = true
			*t.label = label(page)
		}
	}
	b.scratch = scratch{}
}

// decoy is the same work with public keys.
func (t *task) decoy() *task {
	d := *t
	d.slot, d.from = decoy, decoy
	d.public, d.signature, d.label, d.ok = new([32]byte), new([64]byte), new([]byte), new(bool)
	return &d
}

// expand derives the scalar and the prefix from a seed (RFC 8032, 5.1.5).
func (s *scratch) expand(seed *[seedSize]byte) {
	s.digest.reset()
	s.digest.write(seed[:])
	s.digest.finish(&s.hash)
	must(s.secret.SetBytesWithClamping(s.hash[:32]))
}

// public computes the scalar's public key.
func (s *scratch) public(to *[32]byte) {
	copy(to[:], s.point.ScalarBaseMult(&s.secret).Bytes())
}

// sign computes a signature (RFC 8032, 5.1.6).
func (s *scratch) sign(to *[64]byte, message []byte) {
	var public [32]byte
	s.public(&public)
	s.digest.reset()
	s.digest.write(s.hash[32:])
	s.digest.write(message)
	s.digest.finish(&s.wide)
	must(s.nonce.SetUniformBytes(s.wide[:]))
	copy(to[:32], s.point.ScalarBaseMult(&s.nonce).Bytes())
	s.digest.reset()
	s.digest.write(to[:32])
	s.digest.write(public[:])
	s.digest.write(message)
	s.digest.finish(&s.wide)
	must(s.mark.SetUniformBytes(s.wide[:]))
	copy(to[32:], s.mark.MultiplyAdd(&s.mark, &s.secret, &s.nonce).Bytes())
}

// must handles errors about an argument's length, which is constant here.
func must(_ *edwards25519.Scalar, err error) {
	if err != nil {
		panic(err)
	}
}

// pack writes keys, label and checksum to a page.
func (s *scratch) pack(page *[SlotSize]byte, keys *pair, label []byte) {
	clear(page[:])
	copy(page[:seedSize], keys.seeds[Leaf][:])
	copy(page[seedSize:sumAt], keys.seeds[Part][:])
	copy(page[labelAt:], label)
	s.sum(page)
	copy(page[sumAt:labelAt], s.wide[:])
}

// unpack reads the keys from a page if the checksum is right.
func (s *scratch) unpack(keys *pair, page *[SlotSize]byte) bool {
	s.sum(page)
	if page[labelAt] == 0 || *(*[64]byte)(page[sumAt:]) != s.wide {
		return false
	}
	copy(keys.seeds[Leaf][:], page[:seedSize])
	copy(keys.seeds[Part][:], page[seedSize:sumAt])
	return true
}

// sum hashes a page without its checksum.
func (s *scratch) sum(page *[SlotSize]byte) {
	s.digest.reset()
	s.digest.write(page[:sumAt])
	s.digest.write(page[labelAt:])
	s.digest.finish(&s.wide)
}

// label returns the label of a page.
func label(page *[SlotSize]byte) []byte {
	text, _, _ := bytes.Cut(page[labelAt:], []byte{0})
	return bytes.Clone(text)
}
