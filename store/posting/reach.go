package posting

import (
	"encoding/binary"
	"iter"
)

// Reach is the endpoints of a task, in parts like those of a posting.
type Reach struct {
	Task, Number int64
	List         []byte
}

// ReachBuilder packs pairs that come in the order of task and endpoint.
type ReachBuilder struct {
	emit   func(*Reach) error
	part   Reach
	remote int64 // previous endpoint
}

// NewReachBuilder returns a builder that passes each part to emit, in order.
func NewReachBuilder(emit func(*Reach) error) *ReachBuilder { return &ReachBuilder{emit: emit} }

// Add adds the next pair.
func (b *ReachBuilder) Add(task, remote int64) error {
	begun := len(b.part.List) > 0
	if begun && (task < b.part.Task || task == b.part.Task && remote <= b.remote) {
		return ErrOrder
	}
	step := uint64(remote)
	switch {
	case begun && task != b.part.Task:
		if err := b.Flush(); err != nil {
			return err
		}
		begun = false
		fallthrough
	case !begun:
		b.part.Task, b.part.Number = task, 0
	default:
		step = uint64(remote - b.remote)
		if len(b.part.List)+uvarintLen(step) > MostBytes {
			if err := b.Flush(); err != nil {
				return err
			}
			b.part.Number++
			step = uint64(remote)
		}
	}
	b.part.List = binary.AppendUvarint(b.part.List, step)
	b.remote = remote
	return nil
}

// Flush ends the part, if one is begun. Call it after the last pair.
func (b *ReachBuilder) Flush() error {
	if len(b.part.List) == 0 {
		return nil
	}
	err := b.emit(&b.part)
	b.part.List = b.part.List[:0]
	return err
}

// IDs iterates over the numbers of a list made by a [ReachBuilder] or [AppendID], in ascending order. It ends with
// [ErrCorrupt] if the list is corrupt.
func IDs(list []byte) iter.Seq2[int64, error] {
	return func(yield func(int64, error) bool) {
		last := int64(0)
		for first := true; len(list) > 0; first = false {
			step, n := uvarint(list)
			id := last + int64(step)
			if n == 0 || !first && id <= last {
				yield(0, ErrCorrupt)
				return
			}
			if !yield(id, nil) {
				return
			}
			last, list = id, list[n:]
		}
	}
}

// AppendID adds a number to a list. before is the previous, lower number; 0 for the first.
func AppendID(list []byte, before, id int64) []byte {
	return binary.AppendUvarint(list, uint64(id-before))
}
