package tapelog

import (
	"errors"
	"fmt"
	"io"
	"time"
)

// A part is pruned when its first leaf is older than pruneAge, and not before. Until
// then the key that signs how the next part begins may have been in the hands of
// somebody who could pretend with it that the part was pruned, and write what he
// likes in the place of what was in it: that is how long he would have to hide it.
// A part is never longer than partAge, so that its key is younger.
const (
	partAge  = 7 * 24 * time.Hour
	pruneAge = partAge + 24*time.Hour
)

// keptParts is the number of parts at the end of a log that are never pruned.
const keptParts = 2

// Prune removes from the oldest parts all leaves but the first, which ties the
// part to the next one, as long as every leaf in the part is expendable. That it
// did is a leaf of its own, written before: note is what that says beside how far
// it went.
func (l *Log) Prune(note Leaf, expendable func(Leaf) bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.flush(); err != nil {
		return err
	}
	names, err := l.files.list()
	if err != nil {
		return fmt.Errorf("list log: %w", err)
	}
	numbers := partNumbers(names)
	for i := 0; i < len(numbers)-keptParts; i++ {
		more, err := l.prunePart(numbers[i], numbers[i+1], note, expendable)
		if err != nil {
			return fmt.Errorf("prune %s: %w", partName(numbers[i]), err)
		}
		if !more {
			return nil
		}
	}
	return nil
}

// prunePart prunes one part. It reports whether the next one may be looked at.
func (l *Log) prunePart(number, next int, note Leaf, expendable func(Leaf) bool) (more bool, err error) {
	f, err := l.files.open(partName(number))
	if err != nil {
		return false, err
	}
	defer f.Close()
	after, err := l.files.read(partName(next))
	if err != nil {
		return false, err
	}
	defer after.Close()
	follows, err := readPart(&sequential{f: after})
	if err != nil {
		return false, err
	}
	p, err := readPart(&sequential{f: f})
	if err != nil {
		return false, err
	}
	if p.header.origin != l.state.origin || follows.header.origin != l.state.origin {
		return true, nil // a log that was given up: evidence
	}
	end, leaves := int64(0), 0
	for {
		e, err := p.next()
		if errors.Is(err, io.EOF) || err == nil && e.leaf.Seq >= follows.header.tree.size {
			break
		}
		if err != nil || !expendable(e.leaf) {
			return false, nil // needed, or damaged, which is evidence too
		}
		if leaves == 0 {
			end = e.end
			if note.Real-e.leaf.Real < int64(pruneAge) {
				return false, nil
			}
		}
		leaves++
	}
	if leaves <= 1 {
		return true, nil // pruned already
	}
	// It covers what was removed before as well: the leaf that told of that may be
	// among those that go.
	note.Kind, note.From, note.To = KindPrune, 1, follows.header.tree.size-1
	if l.pending, err = l.sign(note); err != nil {
		return false, err
	}
	if err := l.flush(); err != nil {
		return false, err
	}
	if err := f.Truncate(end); err != nil {
		return false, err
	}
	return true, f.Sync()
}
