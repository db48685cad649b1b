package segment

import (
	"fmt"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/failure"
)

// Info describes one segment of a tape.
type Info struct {
	Number   int
	Path     string // the file in the tape, not the private copy
	Bytes    int64  // size with WAL when it was opened
	State    string // active, stopped, closed
	Snapshot bool   // read through a private copy

	TapeID, Host, MachineID, BootID, Kernel string
	Version, Backend                        string
	BlindSpots                              []string
	SchemaVersion                           int

	First, Last int64 // lowest and highest time_ns; First > Last: no connections

	RunStart  time.Time // start of its newest recorder, maybe before the segment's
	From, To  time.Time // first covered moment, last heartbeat
	Counters  Counters  // counted while this segment was active; [Coverage] has a run's account
	LastBatch time.Time // wall clock of the last commit
}

// Counters are absolute values since the recorder's start. seen, stored, coalesced and lost are columns of view
// segments. Names that begin with "store_" are the store's own.
type Counters map[string]uint64

// Boot is one boot of the host within a segment.
type Boot struct {
	ID     int64  // row id in table boot
	BootID string // as stored, escaped
	kernel string
	Offset int64 // segment clock minus CLOCK_BOOTTIME, ns
	First  int64 // begin of recording in it, segment clock
	Last   int64 // last sign of recording in it; of the newest boot, the segment's heartbeat
}

// At converts a time on CLOCK_BOOTTIME in this boot to the segment clock.
func (b *Boot) At(boot int64) int64 { return boot + b.Offset }

// ReadBoots returns the boots of a segment in order. A segment without boots is damaged.
func ReadBoots(conn *sqlite.Conn) ([]Boot, error) {
	var boots []Boot
	err := Exec(conn, func(q *sqlite.Stmt) error {
		boots = append(boots, Boot{q.ColumnInt64(0), q.ColumnText(1), q.ColumnText(2), q.ColumnInt64(3), q.ColumnInt64(4), q.ColumnInt64(5)})
		return nil
	}, `SELECT id, boot_id, kernel, offset_ns, first_ns, coalesce(last_ns, (SELECT heartbeat_ns FROM segment)) FROM boot ORDER BY id`)
	if err != nil {
		return nil, fmt.Errorf("read boots: %w", err)
	}
	if len(boots) == 0 {
		return nil, fmt.Errorf("%w: it does not say in which boot it was recorded", failure.ErrDamaged)
	}
	return boots, nil
}

// BootNamed returns the boot with this id; nil: none.
func (seg *Segment) BootNamed(id string) *Boot {
	for i := range seg.Boots {
		if seg.Boots[i].BootID == id {
			return &seg.Boots[i]
		}
	}
	return nil
}
