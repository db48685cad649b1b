package generate

import (
	"errors"

	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/store/segment"
)

// batchRows is the number of connections in a transaction.
const batchRows = 100_000

// WriteTape writes a stream to a new tape of this many segments. All but the last are sealed, as on a host that is
// recording. The stream's boot times are mapped to this host's wall clock, so connections may lie in the future.
func WriteTape(dir string, s *Stream, segments int) error {
	now, err := store.ReadAnchor("start")
	if err != nil {
		return err
	}
	begin := store.Anchor{Boot: s.o.Begin, Real: now.Real - int64(now.Boot) + int64(s.o.Begin), Kind: "start"}
	w, err := store.OpenWriter(dir, store.WriterOptions{
		Version: "bench", Backend: "fexit", Kernel: "6.12.0", Host: "web1",
		BootID: "00000000-0000-4000-8000-000000000001", Now: begin,
	})
	if err != nil {
		return err
	}
	written, part := 0, (s.o.Connections+segments-1)/segments
	counters := segment.Counters{}
	var rows, late []store.Connection
	for {
		rows = append(rows[:0], late...)
		rows = s.Batch(rows, min(batchRows, part-written%part))
		if len(rows) == len(late) {
			break
		}
		written += len(rows) - len(late)
		isFull := written%part == 0 && written < s.o.Connections
		now := rows[len(rows)-1].BootTime
		if late = nil; isFull {
			rows, late = inFlight(rows, s.o.InFlight)
		}
		stored := uint64(written - len(late))
		counters = segment.Counters{"seen": stored, "stored": stored}
		err := w.Append(store.Batch{Connections: rows, Counters: counters, Now: now})
		if err == nil && isFull {
			err = w.RotateAndSeal()
		}
		if err != nil {
			return errors.Join(err, w.Close(store.Gap{From: s.end()}, counters))
		}
	}
	return w.Close(store.Gap{From: s.end()}, counters)
}

// inFlight holds back a third of a segment's last rows, whose connects end after the rotation. Half of these get the
// time of the row before them.
func inFlight(rows []store.Connection, last int) (written, late []store.Connection) {
	first := max(0, len(rows)-last)
	written = rows[:first]
	for i, row := range rows[first:] {
		switch {
		case i%3 != 1:
			written = append(written, row)
		case i%2 == 0:
			row.BootTime = written[len(written)-1].BootTime
			fallthrough
		default:
			late = append(late, row)
		}
	}
	return written, late
}
