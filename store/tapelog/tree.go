package tapelog

import (
	"fmt"
	"math/bits"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// tree is the part of a Merkle tree that is needed to append and to compute the root: the hashes of its complete
// subtrees, the largest first. A tree of n leaves has one for each bit set in n.
type tree struct {
	size   int64
	hashes []tlog.Hash
}

// indexes returns the positions of these hashes in package tlog's storage, for a tree of size n.
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

// ReadHashes implements tlog.HashReader. For appending and for the root, package tlog only asks for complete subtrees.
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

// appended returns a copy of the tree with one more leaf.
func (t *tree) appended(leaf string) (*tree, error) {
	stored, err := tlog.StoredHashesForRecordHash(t.size, tlog.RecordHash([]byte(leaf)), t)
	if err != nil {
		return nil, fmt.Errorf("append leaf %d: %w", t.size, err)
	}
	// The last stored hash is of the largest subtree completed by the leaf; it replaces the hashes of its parts.
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

// newTree makes a tree of size leaves from its hashes.
func newTree(size int64, hashes []tlog.Hash) (*tree, error) {
	if size < 0 || len(hashes) != bits.OnesCount64(uint64(size)) {
		return nil, fmt.Errorf("a tree of %d leaves has not %d hashes", size, len(hashes))
	}
	return &tree{size: size, hashes: hashes}, nil
}
