package tapelog

import (
	"errors"
	"fmt"
	"io"
	"time"
)

// A part is pruned only when its first leaf is older than pruneAge. The key that signs the next part's header may have
// been stolen before; the thief could pretend that the part was pruned and replace its leaves. With pruneAge, he would
// have to hide that for this long. A part is never longer than partAge, so that its key is younger.
const (
	partAge  = 7 * 24 * time.Hour
	pruneAge = partAge + 24*time.Hour
)

// keptParts is the number of parts at the end of a log that are never pruned.
const keptParts = 2

// Prune removes all leaves except the first, which links the part to the next, from the oldest parts, as long as all
// leaves of a part are expendable. Before, it writes a leaf about it: note with the range of leaves.
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

// prunePart prunes one part. more reports whether the next one may be pruned.
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
		return true, nil // an abandoned log is evidence
	}
	end, leaves := int64(0), 0
	for {
		e, err := p.next()
		if errors.Is(err, io.EOF) || err == nil && e.leaf.Seq >= follows.header.tree.size {
			break
		}
		if err != nil || !expendable(e.leaf) {
			return false, nil // needed, or damaged and so evidence
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
	// The range includes earlier removals: the leaf about them may be removed now.
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
