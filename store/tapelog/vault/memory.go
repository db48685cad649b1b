package vault

import (
	"fmt"
	"os"
	"unsafe"

	"filippo.io/edwards25519"
	"golang.org/x/sys/unix"
)

// block is everything that must not be found elsewhere. It has no pointers and
// lies outside of Go's heap.
type block struct {
	keys    [slots + 1]pair
	pages   [2][SlotSize]byte // a slot of the key file on its way; that of the decoy
	ready   [slots + 1]bool   // there are keys in the slot
	scratch scratch
}

// scratch is what the work with a key needs, all of it secret while it lasts.
type scratch struct {
	digest              hasher
	hash                [64]byte // of the seed: the scalar, and the prefix of the nonce
	wide                [64]byte // a hash that becomes a scalar
	secret, nonce, mark edwards25519.Scalar
	point               edwards25519.Point
}

// pair is the two seeds of a slot.
type pair struct{ seeds [2][seedSize]byte }

// Protection is what keeps others from the memory that the keys are in.
type Protection string

// From the strongest on.
const (
	Secret Protection = "secret" // memfd_secret: nobody but this process can read it, it is never swapped
	Locked Protection = "locked" // never swapped, in no core dump; root can read it
	Plain  Protection = "plain"  // in no core dump; it may be swapped: RLIMIT_MEMLOCK forbids more
)

// blockSize is the size of the mapping, in whole pages of any size up to 64 KiB.
func blockSize() int {
	page := os.Getpagesize()
	return (int(unsafe.Sizeof(block{})) + page - 1) / page * page
}

// newBlock maps the memory for the keys, as well protected as can be.
func newBlock() ([]byte, Protection, error) {
	if memory, err := mapSecret(blockSize()); err == nil {
		return memory, Secret, nil
	}
	return mapLocked(blockSize())
}

func mapLocked(size int) ([]byte, Protection, error) {
	memory, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, "", fmt.Errorf("map memory for keys: %w", err)
	}
	for _, advice := range []int{unix.MADV_DONTDUMP, unix.MADV_WIPEONFORK} {
		if err := unix.Madvise(memory, advice); err != nil {
			unix.Munmap(memory)
			return nil, "", fmt.Errorf("protect memory for keys: %w", err)
		}
	}
	if unix.Mlock(memory) != nil {
		return memory, Plain, nil
	}
	return memory, Locked, nil
}

// sysMemfdSecret is memfd_secret(2), Linux 5.14: one number on all architectures.
const sysMemfdSecret = 447

func mapSecret(size int) ([]byte, error) {
	fd, _, errno := unix.Syscall(sysMemfdSecret, unix.O_CLOEXEC, 0, 0)
	if errno != 0 {
		return nil, errno
	}
	defer unix.Close(int(fd))
	if err := unix.Ftruncate(int(fd), int64(size)); err != nil {
		return nil, err
	}
	memory, err := unix.Mmap(int(fd), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	if err := unix.Madvise(memory, unix.MADV_DONTFORK); err != nil {
		unix.Munmap(memory)
		return nil, err
	}
	return memory, nil
}
