package tapelog

import (
	"fmt"
	"math/bits"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// tree is what of a Merkle tree is needed to append to it and to tell its root:
// the hashes of the complete subtrees that it is made of, the largest first. A
// tree of n leaves has as many of them as n has bits that are set.
type tree struct {
	size   int64
	hashes []tlog.Hash
}

// indexes returns where package tlog stores the hashes of a tree of size n.
func indexes(n int64) []int64 {
	var at []int64
	start := int64(0)
	for rest := n; rest > 0; {
		level := bits.Len64(uint64(rest)) - 1
		at = append(at, tlog.StoredHashIndex(level, start>>level))
		start += 1 << level
		rest -= 1 << level
	}
	return at
}

// ReadHashes gives package tlog what it asks for when it appends or tells the
// root: it asks for complete subtrees alone.
func (t *tree) ReadHashes(wanted []int64) ([]tlog.Hash, error) {
	at := indexes(t.size)
	out := make([]tlog.Hash, len(wanted))
	for i, index := range wanted {
		k := slices.Index(at, index)
		if k < 0 {
			return nil, fmt.Errorf("hash %d is not one of a tree of %d leaves", index, t.size)
		}
		out[i] = t.hashes[k]
	}
	return out, nil
}

// appended returns the tree with one more leaf. The one it is called on stays
// as it is.
func (t *tree) appended(leaf string) (*tree, error) {
	stored, err := tlog.StoredHashesForRecordHash(t.size, tlog.RecordHash([]byte(leaf)), t)
	if err != nil {
		return nil, fmt.Errorf("append leaf %d: %w", t.size, err)
	}
	// The last hash stored is that of the largest subtree which the leaf
	// completes; it takes the place of those that it is made of.
	n := &tree{size: t.size + 1}
	n.hashes = append(n.hashes, t.hashes[:len(t.hashes)-(len(stored)-1)]...)
	n.hashes = append(n.hashes, stored[len(stored)-1])
	return n, nil
}

// root returns the hash of the whole tree.
func (t *tree) root() (tlog.Hash, error) {
	root, err := tlog.TreeHash(t.size, t)
	if err != nil {
		return tlog.Hash{}, fmt.Errorf("hash tree of %d leaves: %w", t.size, err)
	}
	return root, nil
}

// newTree makes a tree of size leaves of its hashes.
func newTree(size int64, hashes []tlog.Hash) (*tree, error) {
	if size < 0 || len(hashes) != bits.OnesCount64(uint64(size)) {
		return nil, fmt.Errorf("a tree of %d leaves has not %d hashes", size, len(hashes))
	}
	return &tree{size: size, hashes: hashes}, nil
}
