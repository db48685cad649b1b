// Package tapelog keeps the log of a tape: an append-only Merkle tree of short
// text lines, each covered by a signature whose key is erased before the next
// line is written.
//
// It knows files, hashes and keys. It knows nothing of SQLite, of segments other
// than as numbers with a hash, or of when something ought to be written: it is
// handed a [Leaf] and gives back a signed checkpoint.
//
// # What is signed
//
// Leaf n is signed by key n, and by no other: the signature is over the head of
// the tree of n+1 leaves (origin, size, root: the checkpoint of C2SP's
// tlog-checkpoint). The leaf names the verifier key n+1. So whoever knows the
// first verifier key can follow the keys from leaf to leaf, and the number of
// the key is the number of the leaf: no clock has a say in it, and there is no
// key that signs nothing.
//
// # What is erased
//
// [Log.Append] stores key n+1, then writes and syncs leaf n with its signature,
// then erases key n, and only then returns. Who becomes root afterwards finds key
// n+1, with which no leaf up to n can be signed.
//
// # Files
//
// A log is a directory with a key file and numbered parts. docs/integrity.md has
// the format byte for byte.
package tapelog
