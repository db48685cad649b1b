package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/segment"
)

// Unmeasured is the value of a field of an [Outcome] that is NULL in the views.
const Unmeasured int64 = -1

// Final is what a connection came to in the end: a positive errno, or one of the constants. It is stored as that errno,
// and as 0 for FinalEstablished.
type Final int32

// The values of Final that are no error of the network's.
const (
	FinalUnknown     Final = 0
	FinalEstablished Final = -1  // and it did not end with an error, if it ended
	FinalAborted     Final = 125 // ECANCELED: the caller gave it up before there was an answer
)

// stored returns it as the tables have it.
func (f Final) stored() any {
	switch f {
	case FinalUnknown:
		return nil
	case FinalEstablished:
		return int64(0)
	}
	return int64(f)
}

// SQL returns what a column final holds for it, as SQL.
func (f Final) SQL() string {
	if stored := f.stored(); stored != nil {
		return fmt.Sprint(stored)
	}
	return "NULL"
}

// finalOf returns what a column was made of.
func finalOf(q *sqlite.Stmt, column int) Final {
	switch n := q.ColumnInt32(column); {
	case q.ColumnIsNull(column):
		return FinalUnknown
	case n == 0:
		return FinalEstablished
	default:
		return Final(n)
	}
}

// ClosedBy tells who sent the first FIN of a connection.
type ClosedBy uint8

// The values of ClosedBy, as they are stored.
const (
	ClosedByNobody ClosedBy = iota // it is open, ended without a FIN, or nobody knows
	ClosedByLocal
	ClosedByRemote
)

// Outcome is what is known of a connection beyond how it went: see [Shape.Final] for that. Counters and times that are not
// known are [Unmeasured].
type Outcome struct {
	Local       *Endpoint // local address, with port 0; nil unknown
	LocalPort   uint16    // 0 unknown
	Established int64     // ns from the connect to the end of the handshake
	Duration    int64     // ns from the connect to the end; stored in us
	Sent        int64     // bytes that the peer acknowledged
	Received    int64     // bytes
	Retransmits int64     // segments that were sent again
	RTT         int64     // us, smoothed, of the handshake
	ClosedBy    ClosedBy
	SeenOpen    int64 // ns from the connect to the look that found it open and told the rest; stored in us. 0: none did
}

// Ending is what became of a connection after it was written, in whatever segment that was: the row of the connect made
// at Connect on the socket with that Cookie.
type Ending struct {
	Connect uint64 // Connection.BootTime, ns of CLOCK_BOOTTIME
	Cookie  uint64 // 0 unknown
	Final   Final  // never FinalUnknown
	Outcome *Outcome
}

// mostOutcomeBytes bounds an outcome as it is stored.
const mostOutcomeBytes = segment.OutcomeNumbers * binary.MaxVarintLen64

// appendOutcome appends an outcome as it is stored: unsigned varints, of which those at the end that are 0 are left out. The
// first holds the row of the local address, the port and who closed; the last is what it says, the others are one more. 0 is unknown.
func appendOutcome(b []byte, o *Outcome, local int64) []byte {
	numbers := [segment.OutcomeNumbers]uint64{
		(uint64(local)<<16|uint64(o.LocalPort))<<2 | uint64(o.ClosedBy),
		uint64(o.Established + 1), 0, uint64(o.Sent + 1), uint64(o.Received + 1), uint64(o.Retransmits + 1), uint64(o.RTT + 1),
		uint64(o.SeenOpen) / 1000,
	}
	if o.Duration >= 0 {
		numbers[2] = uint64(o.Duration)/1000 + 1
	}
	return segment.AppendNumbers(b, numbers[:])
}

var errOutcome = errors.New("an outcome is not as it is ever written")

// StoredOutcome is an outcome as it is read: the local address is a row of endpoint.
type StoredOutcome struct {
	Outcome
	LocalID int64 // 0 unknown
}

// ParseOutcome reads an outcome as it is stored, in the row of its connection or in one of ending. The error means that the tape was altered.
func ParseOutcome(b []byte) (StoredOutcome, error) {
	numbers, ok := segment.OutcomeOf(b)
	duration := Unmeasured
	if numbers[2] > 0 {
		duration = int64(numbers[2]-1) * 1000
	}
	if !ok || max(numbers[2], numbers[7]) > math.MaxInt64/1000 {
		return StoredOutcome{}, errOutcome
	}
	return StoredOutcome{
		Outcome: Outcome{
			LocalPort: uint16(numbers[0] >> 2), ClosedBy: ClosedBy(numbers[0] & 3),
			Established: int64(numbers[1]) - 1, Duration: duration, Sent: int64(numbers[3]) - 1, Received: int64(numbers[4]) - 1,
			Retransmits: int64(numbers[5]) - 1, RTT: int64(numbers[6]) - 1, SeenOpen: int64(numbers[7]) * 1000,
		},
		LocalID: int64(numbers[0] >> 18),
	}, nil
}
