package store

import (
	"errors"
	"log/slog"
)

// WriterOptions describe the recorder to the tape.
type WriterOptions struct {
	Version    string   // of the program
	Backend    string   // fexit, kprobe, cgroup
	BlindSpots []string // what the backend cannot see

	BootID    string // /proc/sys/kernel/random/boot_id
	Kernel    string // uname -r
	Host      string
	MachineID string

	// Now is the clock at the moment from which events are seen (hooks
	// attached). Zero: the store reads the clocks itself.
	Now Anchor

	Logger *slog.Logger // nil: discard
}

// Writer appends to a tape. It is not safe for concurrent use.
type Writer struct{}

// OpenWriter takes the tape lock, continues or creates the active segment, and
// closes the gap that the previous run left.
func OpenWriter(dir string, o WriterOptions) (*Writer, error) { return nil, errors.ErrUnsupported }

// Append writes one batch.
func (w *Writer) Append(batch Batch) error { return errors.ErrUnsupported }

// Close writes the stop gap.
func (w *Writer) Close(stop Gap, c Counters) error { return errors.ErrUnsupported }
