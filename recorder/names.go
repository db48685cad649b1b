package recorder

import (
	"crypto/sha256"
	"encoding/hex"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/store"
)

// names bound what the names of one process, and of its kin, take in a segment: addresses, threads and arguments are as many
// and as long as their maker likes, and each that is new is a row, or part of one. Who is at the end of his share has
// arguments cut as fit does, of a long socket's name a prefix and a hash stored, and of what he does under other new names
// one row a batch and process. A share lasts as long as a segment, and a tenth of it comes back each minute: nobody else
// may be there to fill the segment.
type names struct {
	shares  *shares // nil: the tape has no bound
	bound   int64
	segment int64
	begun   *atomic.Int64 // segments that the tape has begun, counted by whoever sees that
	faded   uint64        // when a part of the shares last came back, ns CLOCK_BOOTTIME

	cut     uint64 // socket names that were cut
	refused uint64 // attempts counted in lump's row because their address or thread found no room
}

// namesInTape is the part of a tape that names may take in a segment: three quarters of one, which is a 48th.
const namesInTape = 64

// threadName is what the row of a thread takes in a segment, in bytes.
const threadName = 64

func newNames(tape int64, begun *atomic.Int64) *names {
	return &names{bound: tape / namesInTape, begun: begun}
}

// endpointName is what the row of an address takes in a segment, with its index, in bytes.
func endpointName(e *store.Endpoint) int64 {
	return 32 + 2*int64(len(e.Raw)+len(e.Address)+len(e.Names))
}

// find returns the share of a process in the segment that is written, nil when there is no bound.
func (n *names) find(o owner) *share {
	if n.bound == 0 {
		return nil
	}
	if now := n.begun.Load(); n.shares == nil || now != n.segment {
		n.shares, n.segment = newLongShares(n.bound, n.bound), now
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

// fade gives a tenth of all shares back, once a minute.
func (n *names) fade(now uint64) {
	if n.shares == nil || now < n.faded+uint64(time.Minute) {
		return
	}
	n.faded = now
	n.shares.all.used -= n.shares.all.used / 10
	for _, s := range n.shares.of {
		s.used -= (s.used + 9) / 10
	}
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
