package segment

// States of a segment.
const (
	StateActive  = "active"  // a recorder has it, or crashed while it had it
	StateStopped = "stopped" // closed cleanly; may be continued
	StateClosed  = "closed"  // never written again
)
