package generate

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/store/segment"
)

// batchRows is the number of connections in a transaction.
const batchRows = 100_000

// WriteDemo writes the demonstration tape: a day until end, with a loss in its middle. dir has to be empty or missing
// ([ErrNotEmpty]). The same seed and end give the same tape, except its id.
func WriteDemo(dir string, seed uint64, end time.Time) (connections int, err error) {
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return 0, fmt.Errorf("write demonstration tape: %w: %s", ErrNotEmpty, dir)
	}
	o := Demo(seed)
	begin := store.Anchor{Boot: o.Begin, Real: end.Add(-o.Span).UnixNano(), Kind: "start", Sync: "synchronized"}
	w, err := store.OpenWriter(dir, store.WriterOptions{
		Version: "demo", Backend: "fexit", Kernel: "6.12.0", Host: "web1",
		BootID: "00000000-0000-4000-8000-000000000001", MachineID: "00000000000000000000000000000001", Now: begin,
	})
	if err != nil {
		return 0, err
	}
	s := New(o)
	lossAt := s.at(0.45)
	const lost = 7
	loss := store.Gap{From: lossAt, To: lossAt + uint64(3*time.Second), Cause: "ring", Lost: lost, Detail: "ring buffer full"}
	counters := segment.Counters{}
	var rows []store.Connection
	for {
		rows = s.Batch(rows[:0], batchRows)
		if len(rows) == 0 {
			break
		}
		connections += len(rows)
		counters = segment.Counters{"seen": uint64(connections) + lost, "stored": uint64(connections), "lost": lost}
		batch := store.Batch{Connections: rows, Counters: counters, Now: rows[len(rows)-1].BootTime}
		if connections == len(rows) {
			batch.Gaps = []store.Gap{loss}
		}
		if err := w.Append(batch); err != nil {
			return 0, errors.Join(err, w.Close(store.Gap{From: batch.Now}, counters))
		}
	}
	return connections, w.Close(store.Gap{From: s.end()}, counters)
}

// ErrNotEmpty is returned for a directory that has files.
var ErrNotEmpty = errors.New("the directory is not empty")

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
