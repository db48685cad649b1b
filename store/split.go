package store

// PartlyWritten is the error of a batch of which only the first connections are on
// the disk. Whoever tries again must leave them out.
type PartlyWritten struct {
	Connections int // that are on the disk
	Err         error
}

// Error says what kept the rest from being written.
func (e *PartlyWritten) Error() string { return e.Err.Error() }

// Unwrap returns that error.
func (e *PartlyWritten) Unwrap() error { return e.Err }

// split cuts off a batch what one transaction may hold of it: what adds no more than
// the WAL of the tape is to have. Counters, gaps and clocks are part of the last
// transaction, so that what is counted as stored is never more than what is. It
// returns what the part adds, in bytes.
func (w *Writer) split(b *Batch) (part, rest Batch, g growth) {
	n, g := w.estimator.fit(w.seg, b, walBytes(w.room()))
	if n == len(b.Connections) {
		return *b, Batch{}, g
	}
	part = Batch{Connections: b.Connections[:n]}
	for i := range part.Connections {
		part.Now = max(part.Now, part.Connections[i].BootTime)
	}
	part.Now = min(part.Now, b.Now)
	rest = *b
	rest.Connections = b.Connections[n:]
	return part, rest, g
}
