// Package vault keeps the secret keys of a log where an erased key is gone.
//
// An intruder who becomes root reads the recorder's memory. With the key of a
// past leaf in it he could rewrite that leaf and everything after it. Go's
// crypto/ed25519 leaves such keys behind: in copies that the heap and the stacks
// keep until they are reused, out of reach of clear. Measured with that package,
// 67 to 200 of 200 keys were still in memory a second after the last of them was
// erased. Here it is none.
//
// # What it does
//
//   - Keys, hash states and scalars live in one block outside of Go's heap. It is
//     memfd_secret(2) where the kernel has it, which not even root can read through
//     /proc/PID/mem; else it is locked, so that it is never swapped out, and left
//     out of core dumps and of children.
//   - Keys come from getrandom(2) straight into the block, and go from it to the
//     key file and back with pread(2) and pwrite(2). They never are a string, a
//     slice of the heap or an argument by value.
//   - SHA-512 is our own, because the state of crypto/sha512 is on the heap. The
//     arithmetic is filippo.io/edwards25519, whose temporaries are on the stack.
//   - The stack beneath the work is overwritten before it and after it. It is large
//     enough from the start, and used enough, that the runtime neither grows nor
//     shrinks it meanwhile: both would leave a copy behind.
//   - Signals are blocked meanwhile: the kernel saves registers for a handler.
//   - At last the same work is done with a key that is no secret, so that what
//     registers hold is worth nothing.
//
// # What it does not do
//
// It does not hide the key that is in use from code that runs inside the process
// or the kernel. It does not erase what a file system or a disk keeps of the key
// file: docs/integrity.md says more.
//
// The package knows nothing of logs, leaves or names.
package vault
