package vault

import (
	"fmt"
	"os"
	"unsafe"

	"filippo.io/edwards25519"
	"golang.org/x/sys/unix"
)

// block has everything secret. It has no pointers and is outside Go's heap.
type block struct {
	keys    [slots + 1]pair
	pages   [2][SlotSize]byte // a slot of the key file being read or written; the decoy's
	ready   [slots + 1]bool   // the slot has keys
	scratch scratch
}

// scratch has the intermediate values of the work with a key, all secret.
type scratch struct {
	digest              hasher
	hash                [64]byte // of the seed: scalar and prefix of the nonce
	wide                [64]byte // a hash to be reduced to a scalar
	secret, nonce, mark edwards25519.Scalar
	point               edwards25519.Point
}

// pair is the two seeds of a slot.
type pair struct{ seeds [2][seedSize]byte }

// Protection is the protection of the keys' memory against others.
type Protection string

// From strong to weak.
const (
	Secret Protection = "secret" // memfd_secret: no other process can read it; never swapped
	Locked Protection = "locked" // never swapped, in no core dump; root can read it
	Plain  Protection = "plain"  // in no core dump; may be swapped: RLIMIT_MEMLOCK is too low
)

// blockSize is the size of the mapping, in whole pages for page sizes up to 64 KiB.
func blockSize() int {
	page := os.Getpagesize()
	return (int(unsafe.Sizeof(block{})) + page - 1) / page * page
}

// newBlock maps memory for the keys with the best available protection.
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
