package segment

// States of a segment.
const (
	StateActive  = "active"  // a recorder writes it, or crashed while writing
	StateStopped = "stopped" // closed cleanly; may be continued
	StateClosed  = "closed"  // never written again
)
