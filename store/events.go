package store

import (
	"github.com/conntape/conntape/store/segment"
)

// Event is something that happened to a tape and is on the disk: one of the
// types of this file. It is what a log of the tape is made of.
//
// The writer calls WriterOptions.Events for each, one at a time and in order,
// never from two goroutines at once. [BatchCommitted] and what leads to a batch
// come from within Append; what is done in the background comes from there. The
// tape waits for the call, so it should take no longer than an fsync.
//
// A segment may be announced that is not made after all, on a full disk: the next
// one has its number. Two events may come again after a crash, with the same content: a
// [SegmentSealed] whose receipt was not certain, and a [SegmentExpired], which is
// told before the file goes, so that no file is ever gone without a word.
type Event interface{ isEvent() }

// RunStarted says that a recorder has the tape. It is the first event of each, but
// for that of the segment that it begins. On a full disk it comes twice: before what
// has to be removed first, with the newest segment, and when recording begins.
type RunStarted struct {
	TapeID  string
	Segment int // the active one
	BootID  string
	At      Anchor // from when on events are seen
}

// SegmentStarted says that a new segment takes the batches from here on.
type SegmentStarted struct {
	TapeID   string
	Segment  int
	File     string // name in the tape
	Previous int    // segment before it, 0 none
	Reason   string // one of the Reason constants
	BootID   string
	At       Anchor
}

// Why a segment was begun.
const (
	ReasonFirst   = "first"   // the tape is new
	ReasonSize    = "size"    // the one before was full
	ReasonAge     = "age"     // the one before was old
	ReasonSchema  = "schema"  // the one before has another schema, or was closed already
	ReasonHost    = "host"    // the one before was recorded on another host
	ReasonRequest = "request" // somebody asked for it
	ReasonFault   = "fault"   // the one before had to be set aside
)

// BatchCommitted says that a batch is on the disk in the active segment.
type BatchCommitted struct {
	Segment int
	Number  int64    // of the commit in the segment, from 1 on
	Batch   *Batch   // what was written; not to be changed or kept
	Gaps    []Gap    // of the batch, as the segment has them: its own part of each
	Chain   [32]byte // of the segment up to this batch, see [SegmentSealed]
	Now     uint64   // heartbeat of the segment, ns of CLOCK_BOOTTIME
}

// SegmentSetAside says that a segment gave an error and is not touched again.
type SegmentSetAside struct {
	Segment int
	File    string
	Batches int64 // commits that count, -1 all: it gave the error when it was sealed
	Cause   string
}

// SegmentSealed says that a segment is whole, indexed, and read-only for good.
type SegmentSealed struct {
	TapeID      string
	Segment     int
	File        string
	SHA256      [32]byte // of the file
	PageSums    [32]byte // SHA-256 of the sums of its pages
	Bytes       int64
	First, Last int64 // segment clock of the first and last connection, ns; 0 none
	From, To    int64 // wall clock that it covers, ns since the Unix epoch
	Rows        int64
	Connects    int64 // that the rows stand for
	Batches     int64
	Chain       [32]byte         // of the last batch
	Counters    segment.Counters // what was counted while it was active
	BootID      string
	Host        string
}

// SegmentExpired says that retention removes a segment.
type SegmentExpired struct {
	Segment  int
	File     string
	Bytes    int64
	SHA256   [32]byte // zero when it had not been sealed
	From, To int64    // wall clock that it covers, ns since the Unix epoch; 0 unknown
	Why      string   // one of the Expired constants
	Limit    int64    // bytes that the tape may take now, which it was about to pass; 0 any number
	Rows     int64    // that it held, -1 unknown
	Connects int64    // that they stand for, -1 unknown
}

// SegmentHeld says that a segment was set aside for a legal hold.
type SegmentHeld struct {
	Hold    string // id
	Segment int
	File    string
	SHA256  [32]byte
	Reason  string
}

// HoldReleased says that a hold has ended.
type HoldReleased struct {
	Hold   string
	Reason string
}

// RunStopped says that the recorder let go of the tape.
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
