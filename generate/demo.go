package generate

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/store/segment"
)

// Demo is a small tape with a staged intrusion.
func Demo(seed uint64) Options {
	return Options{
		Seed: seed, Connections: 30_000, Processes: 60, Images: 24, Endpoints: 400,
		Begin: uint64(36 * time.Hour), Span: 24 * time.Hour, Story: true,
	}
}

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
	d := newDay(s, begin)
	const lost = 7
	batch := store.Batch{Connections: s.Batch(nil, o.Connections)}
	connections = len(batch.Connections)
	for i := range batch.Connections {
		d.live(&batch.Connections[i])
	}
	d.listen()
	d.serve()
	batch.Sockets, batch.Files = d.sockets, d.files
	lossAt := s.at(0.45)
	batch.Gaps = []store.Gap{{From: lossAt, To: lossAt + uint64(3*time.Second), Cause: "ring full", Lost: lost}}
	batch.Counters = segment.Counters{
		"seen": uint64(connections) + lost, "stored": uint64(connections), "lost": lost,
		"outcome_seen": d.outcomes, "outcome_stored": d.outcomes, "event_seen": d.events, "event_stored": d.events,
		"lookup_seen": d.answers, "lookup_read": d.answers, "lookup_stored": d.answers,
	}
	batch.Now = batch.Connections[connections-1].BootTime
	if err := w.Append(batch); err != nil {
		return 0, errors.Join(err, w.Close(store.Gap{From: batch.Now}, batch.Counters))
	}
	return connections, w.Close(store.Gap{From: s.end()}, batch.Counters)
}

// ErrNotEmpty is returned for a directory that has files.
var ErrNotEmpty = errors.New("the directory is not empty")
