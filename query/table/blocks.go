package table

import (
	"context"
	"fmt"

	"github.com/conntape/conntape/store/posting"
	"zombiezen.com/go/sqlite"
)

// IDSpan is the ids from (included) to to (excluded).
type IDSpan struct{ From, To int64 }

// spans returns the ids of an open segment that may have rows of a selection: its table block has the endpoints and
// tasks of every so many connections, except those written late or given a name later.
func (s *SegmentSource) spans(ctx context.Context, sel *Selection, from, to int64) ([]IDSpan, error) {
	if sel.Remotes == nil && sel.tasks == nil {
		return []IDSpan{{from, to}}, nil
	}
	late, err := s.list(ctx, `SELECT id FROM late UNION SELECT connection FROM renamed ORDER BY id`)
	if err != nil {
		return nil, err
	}
	var spans []IDSpan
	add := func(begin, end int64) {
		begin, end = max(begin, from), min(end, to)
		if begin >= end {
			return
		}
		if n := len(spans); n > 0 && spans[n-1].To == begin {
			spans[n-1].To = end
			return
		}
		spans = append(spans, IDSpan{begin, end})
	}
	begin := from
	var failed error
	may := func(row *sqlite.Stmt, column int, asked []int64, n *numbering) bool {
		if asked == nil || row.ColumnType(column) == sqlite.TypeNull {
			return true
		}
		list := make([]byte, row.ColumnLen(column))
		row.ColumnBytes(column, list)
		for id, err := range posting.IDs(list) {
			if err != nil {
				failed = fmt.Errorf("read blocks of segment %d: %w", s.Number, err)
				return true
			}
			if n.of(id) >= 0 {
				return true
			}
		}
		return false
	}
	err = s.scan(ctx, `SELECT id, remotes, tasks FROM block ORDER BY id`, func(row *sqlite.Stmt) {
		end := row.ColumnInt64(0)
		if end < begin {
			return
		}
		if may(row, 1, sel.Remotes, &s.remotes) && may(row, 2, sel.tasks, &s.tasks) {
			add(begin, end+1)
		} else {
			for len(late) > 0 && late[0] <= end {
				if late[0] >= begin {
					add(late[0], late[0]+1)
				}
				late = late[1:]
			}
		}
		begin = end + 1
	})
	if err == nil {
		err = failed
	}
	add(begin, to)
	return spans, err
}
