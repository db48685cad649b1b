package recorder

import (
	"crypto/sha256"
	"encoding/hex"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/store"
)

// names bound what the names of one process, and of its kin, take in a segment: socket paths and arguments are as long as
// their maker likes, and each is stored. Who is at the end of his share has a prefix and a hash stored of a socket's name,
// and arguments cut as fit does. A share lasts as long as a segment.
type names struct {
	shares  *shares // nil: the tape has no bound
	bound   int64
	segment int64
	begun   *atomic.Int64 // segments that the tape has begun, counted by whoever sees that
	cut     uint64        // socket names that were cut
}

// namesInTape is the part of a tape that names may take in a segment: about half of one, which is a twelfth of the tape.
const namesInTape = 24

func newNames(tape int64, begun *atomic.Int64) *names {
	return &names{bound: tape / namesInTape, begun: begun}
}

// find returns the share of a process in the segment that is written, nil when there is no bound.
func (n *names) find(o owner) *share {
	if n.bound == 0 {
		return nil
	}
	if now := n.begun.Load(); n.shares == nil || now != n.segment {
		n.shares, n.segment = newShares(n.bound), now
	}
	return n.shares.find(o)
}

// take charges somebody for a name. False: there is no room for it.
func (n *names) take(o owner, bytes int64) bool {
	who := n.find(o)
	if who == nil {
		return true
	}
	if who.room() < bytes {
		return false
	}
	who.charge(bytes)
	return true
}

// noticeSegments returns a listener to what happens to a tape that counts its segments.
func noticeSegments(begun *atomic.Int64, next func(store.Event)) func(store.Event) {
	return func(e store.Event) {
		if _, ok := e.(store.SegmentStarted); ok {
			begun.Add(1)
		}
		next(e)
	}
}

// shortName is the length up to which a socket's name is never cut, and what is kept of one that is, in bytes.
const shortName = 16

// isLong tells addresses that can be cut: the names of UNIX sockets.
func isLong(e *store.Endpoint) bool { return e.Family == unix.AF_UNIX && len(e.Raw) > 2+shortName }

// cutName is what is stored of a long name: its beginning, and 64 bits of the SHA-256 of the address. That it has no raw
// bytes tells it from a name that looks like it.
func cutName(e *store.Endpoint) *store.Endpoint {
	sum := sha256.Sum256(e.Raw)
	head := unixText(e.Raw[2 : 2+shortName])
	return &store.Endpoint{Family: e.Family, Port: e.Port, Address: head + "…#" + hex.EncodeToString(sum[:8])}
}
