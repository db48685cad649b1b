package store

import (
	"github.com/conntape/conntape/store/segment"
)

// Event is something that happened to a tape and is on the disk: one of the types in this file. The log of the tape is
// made from events.
//
// The writer calls WriterOptions.Events for each, in order, from one goroutine at a time: from Append for a batch, from
// the background for other work. The tape waits for the call, which should take no longer than an fsync.
//
// On a full disk a segment may be announced but not made: the next one has its number. Two events may be repeated after
// a crash, with the same content: [SegmentSealed], if its receipt was uncertain, and [SegmentExpired], which comes
// before the removal, so that no file is removed unannounced.
type Event interface{ isEvent() }

// RunStarted means that a recorder has the tape. It is the first event of a run, except for the begin of its segment. On
// a full disk it comes twice: before the removals, with the newest segment, and when recording begins.
type RunStarted struct {
	TapeID  string
	Segment int // the active one
	BootID  string
	At      Anchor // events are seen from then on
}

// SegmentStarted means that a new segment gets the next batches.
type SegmentStarted struct {
	TapeID   string
	Segment  int
	File     string // name in the tape
	Previous int    // segment before it, 0 none
	Reason   string // one of the Reason constants
	BootID   string
	At       Anchor
}

// Reasons for a new segment.
const (
	ReasonFirst   = "first"   // the tape is new
	ReasonSize    = "size"    // the previous one was full
	ReasonAge     = "age"     // the previous one was old
	ReasonSchema  = "schema"  // the previous one has another schema, or is closed
	ReasonHost    = "host"    // the previous one is of another host
	ReasonRequest = "request" // somebody asked for it
	ReasonFault   = "fault"   // the previous one was quarantined
)

// BatchCommitted means that a batch is on the disk in the active segment.
type BatchCommitted struct {
	Segment int
	Number  int64    // of the commit in the segment, from 1 on
	Batch   *Batch   // do not change or keep it
	Gaps    []Gap    // the batch's gaps in this segment: its own part of each
	Chain   [32]byte // chain of the segment including this batch, see [SegmentSealed]
	Now     uint64   // heartbeat of the segment, ns of CLOCK_BOOTTIME
}

// SegmentSetAside means that a segment gave an error and is quarantined.
type SegmentSetAside struct {
	Segment int
	File    string
	Batches int64 // commits that count; -1: all, the error was in sealing
	Cause   string
}

// SegmentSealed means that a segment is complete, indexed, and read-only for good.
type SegmentSealed struct {
	TapeID      string
	Segment     int
	File        string
	SHA256      [32]byte // of the file
	PageSums    [32]byte // SHA-256 of the page sums
	Bytes       int64
	First, Last int64 // segment clock of the first and last connection, ns; 0 none
	From, To    int64 // wall clock that it covers, ns since the Unix epoch
	Rows        int64
	Connects    int64 // connects of these rows
	Batches     int64
	Chain       [32]byte         // of the last batch
	Counters    segment.Counters // counted while it was active
	BootID      string
	Host        string
}

// SegmentExpired means that retention will remove a segment.
type SegmentExpired struct {
	Segment  int
	File     string
	Bytes    int64
	SHA256   [32]byte // zero: not sealed
	From, To int64    // wall clock that it covers, ns since the Unix epoch; 0 unknown
	Why      string   // one of the Expired constants
	Limit    int64    // limit of the tape's size that was about to be exceeded, bytes; 0: none
	Rows     int64    // rows in it; -1: unknown
	Connects int64    // connects of these rows; -1: unknown
}

// SegmentHeld means that a segment was put under a legal hold.
type SegmentHeld struct {
	Hold    string // id
	Segment int
	File    string
	SHA256  [32]byte
	Reason  string
}

// HoldReleased means that a hold was released.
type HoldReleased struct {
	Hold   string
	Reason string
}

// RunStopped means that the recorder released the tape.
type RunStopped struct {
	Segment  int
	Now      uint64 // ns of CLOCK_BOOTTIME
	Why      string // for people
	Counters segment.Counters
}

func (RunStarted) isEvent()      {}
func (SegmentStarted) isEvent()  {}
func (BatchCommitted) isEvent()  {}
func (SegmentSetAside) isEvent() {}
func (SegmentSealed) isEvent()   {}
func (SegmentExpired) isEvent()  {}
func (SegmentHeld) isEvent()     {}
func (HoldReleased) isEvent()    {}
func (RunStopped) isEvent()      {}
