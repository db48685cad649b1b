package tapelog

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// storedHashes has the hashes of a log from a given leaf on: those of the complete subtrees before it and of everything
// after. Proofs that begin at this leaf need them.
type storedHashes struct {
	from   *tree
	hashes []tlog.Hash // as package tlog stores them, from that leaf's first on
}

// ErrPruned means that the log's entries for a proof were removed, together with their segments.
var ErrPruned = errors.New("the entries of the log from there on were removed with their segments")

// errNotThere: the log is shorter than its own head says.
var errNotThere = errors.New("the log is damaged: verify tells where")

// ReadHashes implements tlog.HashReader.
func (h *storedHashes) ReadHashes(wanted []int64) ([]tlog.Hash, error) {
	base := tlog.StoredHashIndex(0, h.from.size)
	before := indexes(h.from.size)
	out := make([]tlog.Hash, len(wanted))
	for i, index := range wanted {
		k := slices.Index(before, index)
		switch {
		case k >= 0:
			out[i] = h.from.hashes[k]
		case index >= base && index-base < int64(len(h.hashes)):
			out[i] = h.hashes[index-base]
		default:
			return nil, fmt.Errorf("hash %d of the log is not known", index)
		}
	}
	return out, nil
}

// historyReader reads leaves from a log's parts.
type historyReader struct {
	from, to int64
	tree     *tree // up to from
	history  *storedHashes
	size     int64 // leaves read so far
}

// readHistory reads the hashes of leaves from to to-1. It verifies nothing: callers compare with a checkpoint.
func readHistory(fsys files, origin string, from, to int64) (*storedHashes, error) {
	names, err := fsys.list()
	if err != nil {
		return nil, fmt.Errorf("list log: %w", err)
	}
	numbers := partNumbers(names)
	start := 0
	headers := map[int]*partHeader{}
	for i, n := range numbers {
		h, err := headerOf(fsys, n)
		if errors.Is(err, errPart) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if h.origin != origin {
			continue
		}
		headers[n] = h
		if h.tree.size <= from {
			start = i
		}
	}
	r := &historyReader{from: from, to: to}
	for _, n := range numbers[start:] {
		if headers[n] == nil {
			continue
		}
		if err := r.part(fsys, n); err != nil {
			return nil, err
		}
	}
	if r.history == nil || r.size != to {
		return nil, errNotThere
	}
	return r.history, nil
}

func headerOf(fsys files, n int) (*partHeader, error) {
	f, err := fsys.read(partName(n))
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	defer f.Close()
	p, err := readPart(&sequential{f: f})
	if err != nil {
		return nil, err
	}
	return p.header, nil
}

// part reads one part.
func (r *historyReader) part(fsys files, n int) error {
	f, err := fsys.read(partName(n))
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer f.Close()
	p, err := readPart(&sequential{f: f})
	if err != nil {
		return err
	}
	if r.tree == nil {
		r.tree, r.size = p.header.tree, p.header.tree.size
	}
	if p.header.tree.size > r.size {
		if r.history == nil && p.header.tree.size > r.from {
			return ErrPruned
		}
		return errNotThere
	}
	for r.begin(); r.size < r.to; r.begin() {
		e, err := p.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if errors.Is(err, errLine) || errors.Is(err, errJunk) || err == nil && e.leaf.Seq != r.size {
			continue // a line repeated in the next part, or damage, which the root shows
		}
		if err != nil {
			return err
		}
		if err := r.leaf(e.text); err != nil {
			return err
		}
	}
	return nil
}

// begin starts the history when its first leaf is next.
func (r *historyReader) begin() {
	if r.history == nil && r.size == r.from {
		r.history = &storedHashes{from: r.tree}
	}
}

// leaf adds the next leaf.
func (r *historyReader) leaf(text string) (err error) {
	if r.history == nil {
		r.tree, err = r.tree.appended(text)
		r.size++
		return err
	}
	hashes, err := tlog.StoredHashesForRecordHash(r.size, tlog.RecordHash([]byte(text)), r.history)
	if err != nil {
		return fmt.Errorf("hash leaf %d: %w", r.size, err)
	}
	r.history.hashes = append(r.history.hashes, hashes...)
	r.size++
	return nil
}

// proveTree proves that the log of a checkpoint continues its first old leaves. From 0, or from the checkpoint itself,
// the proof is empty.
func proveTree(fsys files, c Checkpoint, old int64) (tlog.TreeProof, error) {
	if old == 0 || old == c.Size {
		return nil, nil
	}
	h, err := readHistory(fsys, c.Origin, old, c.Size)
	if err != nil {
		return nil, err
	}
	root, err := h.from.root()
	if err != nil {
		return nil, err
	}
	proof, err := tlog.ProveTree(c.Size, old, h)
	if err != nil {
		return nil, fmt.Errorf("prove log: %w", err)
	}
	if err := tlog.CheckTree(proof, c.Size, c.Root, old, root); err != nil {
		return nil, errNotThere
	}
	return proof, nil
}
