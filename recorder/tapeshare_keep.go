package recorder

import (
	"encoding/json"
	"fmt"
	"math"
	"time"

	"golang.org/x/sys/unix"
)

// What is charged outlives the recorder: whoever floods is to have no fresh share because that was restarted. So the shares
// that count are kept in a file of the tape, which is written once a 256th of the tape was charged, and at the end.

// leastKept is the part of a tape from which on a share is kept in the file: less is far from any bound.
const leastKept = 128

// keptShares is the file.
type keptShares struct {
	Bytes   int64 // of the tape
	Full    bool
	BootID  string // of which the processes and cgroups are
	At      int64  // ns since the Unix epoch
	Written int64  // since the charges last shrank, bytes
	Shares  []keptShare
}

// keptShare is one share. Those above come before it.
type keptShare struct {
	Above  int // index of the share above; -1: all of the tape
	A, B   uint64
	Used   int64
	Recent int64
	Excess int64
}

// keep returns the text of the file, nil if too little was charged since it was last asked.
func (t *tapeShares) keep(last bool) []byte {
	if t.shares == nil || t.unkept == 0 || !last && t.unkept < t.bytes/256 {
		return nil
	}
	t.unkept = 0
	kept := keptShares{Bytes: t.bytes, Full: t.full.Load(), BootID: t.bootID, At: time.Now().UnixNano(), Written: t.written}
	index := map[*share]int{&t.shares.all: -1}
	for depth := 1; depth <= processDepth; depth++ {
		for k, s := range t.shares.of {
			above, ok := index[k.above]
			if s.depth == depth && ok && s.used >= t.bytes/leastKept {
				index[s] = len(kept.Shares)
				kept.Shares = append(kept.Shares, keptShare{above, k.a, k.b, s.used, s.recent, s.excess})
			}
		}
	}
	text, err := json.Marshal(kept)
	if err != nil { // numbers and texts alone
		return nil
	}
	return text
}

// recall takes over what an earlier recorder has kept. Of another boot of the host only the logins are the same ones.
func (t *tapeShares) recall(text []byte) error {
	if t.shares == nil || len(text) == 0 {
		return nil
	}
	var kept keptShares
	if err := json.Unmarshal(text, &kept); err != nil {
		return fmt.Errorf("read shares of the tape: %w", err)
	}
	t.written = max(0, kept.Written)
	t.full.Store(kept.Full && kept.Bytes >= t.bytes)
	minutes := max(0, time.Since(time.Unix(0, kept.At)).Minutes())
	fresh := math.Exp(-minutes / 60)
	shares := make([]*share, len(kept.Shares))
	for i, one := range kept.Shares {
		above := &t.shares.all
		switch {
		case one.Above >= i || one.Above < -1 || one.Used < 0 || one.Recent < 0 || one.Excess < 0:
			return fmt.Errorf("read shares of the tape: share %d: %w", i, unix.EINVAL)
		case one.Above >= 0:
			above = shares[one.Above]
		}
		if above == nil || above.depth == processDepth || above.depth > 0 && kept.BootID != t.bootID {
			continue
		}
		s := t.shares.below(shareKey{above, one.A, one.B})
		s.used, s.excess, s.recent = one.Used, one.Excess, int64(float64(one.Recent)*fresh)
		shares[i] = s
	}
	return nil
}
