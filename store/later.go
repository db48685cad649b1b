package store

import (
	"errors"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/segment"
)

// A connection can outlive the segment with its row; then its outcome is an ending in a later segment. Endings finds
// these.

// Later is the outcome of a connection from a later segment.
type Later struct {
	StoredOutcome        // LocalID is an id in that segment
	Final         Final  // never FinalUnknown
	LocalAddress  string // "" unknown
	Place         int    // index of that segment in Segments
	At            int64  // time of the connect on its clock
}

// laterEnding is a row of ending for a connection in another segment.
type laterEnding struct {
	boot   int64 // CLOCK_BOOTTIME of the connect
	cookie int64
	Later
}

// Endings returns the outcomes in later segments of a segment's connections, by connection id. place is the segment's
// index in Segments. It is nil if there are none; removed and damaged segments have none.
func (t *Tape) Endings(place int) (map[int64]Later, error) {
	seg := t.segs[place]
	var found map[int64]Later
	for other := range t.segs {
		from := t.segs[other]
		if other == place || from.Info.Number < seg.Info.Number || from.Endings.First > from.Endings.Last {
			continue
		}
		for _, boot := range seg.Boots {
			there := from.BootNamed(boot.BootID)
			low, high := seg.Info.First-boot.Offset, seg.Info.Last-boot.Offset
			if there == nil || there.At(high) < from.Endings.First || there.At(low) > from.Endings.Last {
				continue
			}
			endings, err := t.laterEndings(other, there, low-updateWindow, high)
			if errors.Is(err, segment.ErrGone) {
				continue
			}
			if err != nil {
				return nil, err
			}
			if found, err = t.joinEndings(place, &boot, endings, found); err != nil {
				return nil, err
			}
		}
	}
	return found, nil
}

// laterEndings reads endings of connects between two times on CLOCK_BOOTTIME, in writing order.
func (t *Tape) laterEndings(place int, boot *segment.Boot, low, high int64) (all []laterEnding, err error) {
	err = t.Use(place, func(conn *sqlite.Conn) error {
		err := segment.Exec(conn, func(q *sqlite.Stmt) error {
			b := make([]byte, q.ColumnLen(3))
			q.ColumnBytes(3, b)
			o, err := ParseOutcome(b)
			if err != nil {
				return err
			}
			all = append(all, laterEnding{q.ColumnInt64(0) - boot.Offset, q.ColumnInt64(1), Later{StoredOutcome: o, Final: finalOf(q, 2), Place: place, At: q.ColumnInt64(0)}})
			return nil
		}, `SELECT id, cookie, final, outcome FROM ending WHERE cookie <> 0 AND id BETWEEN ? AND ? ORDER BY batch`, boot.At(low), boot.At(high))
		if err != nil {
			return err
		}
		for i := range all {
			err := segment.Exec(conn, func(q *sqlite.Stmt) error { all[i].LocalAddress = q.ColumnText(0); return nil },
				`SELECT address FROM endpoint WHERE id = ?`, all[i].LocalID)
			if err != nil {
				return err
			}
		}
		return nil
	})
	return all, err
}

// joinEndings finds the connections of endings. The last ending of a connection counts.
func (t *Tape) joinEndings(place int, boot *segment.Boot, endings []laterEnding, found map[int64]Later) (map[int64]Later, error) {
	err := t.Use(place, func(conn *sqlite.Conn) error {
		for _, e := range endings {
			var cookie any
			if e.cookie != noCookie {
				cookie = e.cookie
			}
			err := segment.Exec(conn, func(q *sqlite.Stmt) error {
				if found == nil {
					found = make(map[int64]Later)
				}
				found[q.ColumnInt64(0)] = e.Later
				return nil
			}, `SELECT id FROM connection WHERE id >= ?1 AND id < ?1 + ?2 AND +cookie IS ?3 ORDER BY id LIMIT 1`, boot.At(e.boot), updateWindow, cookie)
			if err != nil {
				return err
			}
		}
		return nil
	})
	return found, err
}
