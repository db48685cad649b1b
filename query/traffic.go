package query

import (
	"context"
	"errors"
	"slices"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store"
)

// traffic is the known bytes and durations of a flow's connections.
type traffic struct {
	sent, received nullable // sums
	duration       nullable // of the longest
}

func (t *traffic) add(o *store.StoredOutcome) {
	addUp := func(to *nullable, n int64) {
		if n != store.Unmeasured {
			to.known, to.number = true, to.number+n
		}
	}
	addUp(&t.sent, o.Sent)
	addUp(&t.received, o.Received)
	if o.Duration != store.Unmeasured {
		t.duration = nullable{max(t.duration.number, o.Duration), true}
	}
}

// merge adds that of another contact.
func (t *traffic) merge(other *traffic) {
	t.add(&store.StoredOutcome{Outcome: store.Outcome{
		Sent: orUnmeasured(other.sent), Received: orUnmeasured(other.received), Duration: orUnmeasured(other.duration),
	}})
}

func orUnmeasured(n nullable) int64 {
	if !n.known {
		return store.Unmeasured
	}
	return n.number
}

// mostFound limits the outcomes looked up by id; for more, the whole segment is read.
const mostFound = 20_000

// trafficOf reads the outcomes of a segment's connections by id, and calls fn for each that has one.
func trafficOf(ctx context.Context, s *segmentSource, ids []int64, fn func(id int64, o *store.StoredOutcome)) error {
	if len(ids) == 0 {
		return nil
	}
	slices.Sort(ids)
	sql := `SELECT id, ` + outcomeSQL + ` FROM connection WHERE id BETWEEN ? AND ?`
	return s.use(func(conn *sqlite.Conn) error {
		stmt, _, err := conn.PrepareTransient(sql)
		if err != nil {
			return err
		}
		defer stmt.Finalize()
		var f fate
		read := func(first, last int64) error {
			stmt.BindInt64(1, first)
			stmt.BindInt64(2, last)
			for {
				more, err := stmt.Step()
				if err != nil || !more {
					return errors.Join(err, stmt.Reset())
				}
				if !f.read(stmt, 1) || !f.known {
					continue
				}
				if _, asked := slices.BinarySearch(ids, stmt.ColumnInt64(0)); asked {
					fn(stmt.ColumnInt64(0), &f.StoredOutcome)
				}
			}
		}
		if len(ids) > mostFound {
			return read(ids[0], ids[len(ids)-1])
		}
		for i, id := range ids {
			if i%256 == 0 && ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := read(id, id); err != nil {
				return err
			}
		}
		return nil
	})
}
