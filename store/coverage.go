package store

import "time"

// SegmentInfo describes one attached segment.
type SegmentInfo struct {
	Number   int
	Path     string // the file in the tape, not the private copy
	Bytes    int64  // size with its WAL when it was opened
	State    string // active, stopped, closed
	Snapshot bool   // read through a private copy

	TapeID, Host, MachineID, BootID, Kernel string
	Version, Backend                        string
	BlindSpots                              []string
	SchemaVersion                           int

	From, To  time.Time // first moment covered, last heartbeat
	Counters  Counters  // what was counted while this segment was active
	LastBatch time.Time // wall clock of the last commit
}

// GapInfo is one row of the view gaps.
type GapInfo struct {
	From, To time.Time // zero: unknown, still open
	Cause    string
	Lost     uint64
	Detail   string
	Segment  int
}

// Coverage says what answers from this tape can and cannot know.
type Coverage struct {
	TapeID   string
	From, To time.Time // first moment covered, last heartbeat

	Gaps     []GapInfo // oldest first
	Counters Counters  // sums over the attached segments
	Lost     uint64    // sum over the gaps

	Backends   []string
	BlindSpots []string

	Recording bool      // a recorder holds the newest segment right now
	PID       int       // its pid, 0 unknown
	Since     time.Time // when it started
	LastBatch time.Time // wall clock of its last commit

	// Segments that were left out, with the reason (more than fit, damaged).
	LeftOut []LeftOut
}

// LeftOut is a segment that an answer does not cover.
type LeftOut struct {
	Path string
	Err  error
}
