package store

import (
	"cmp"
	"fmt"
	"slices"

	"zombiezen.com/go/sqlite"
)

// Summaries of a segment, made in one pass over its connections when it is
// sealed: who connected where, how it went and how often by the hour, and when
// each thread state was active. They are counts of what is in the rows, so that
// verify can make them again and compare.

// hourNS is the length of what is counted together, ns.
const hourNS = 3600 * 1_000_000_000

// sealFormat is the version of what sealing adds.
const sealFormat = 1

// mostSummaries bounds the memory of the pass: when so many are open, they are
// added to the tables.
const mostSummaries = 200_000

// span counts rows.
type span struct{ rows, connects, first, last int64 }

func (s *span) add(id, connects int64) {
	if s.rows == 0 {
		s.first = id
	}
	s.rows++
	s.connects += connects
	s.last = id
}

type trafficKey struct{ remote, image, hour, shape int64 }

type activityKey struct{ task, hour int64 }

// summarizer makes the summaries of one segment.
type summarizer struct {
	conn     *sqlite.Conn
	images   map[int64]int64 // of tasks
	total    span
	hour     int64
	traffic  map[trafficKey]*span
	activity map[activityKey]*span
}

// summarize fills the summary tables of db, which are empty.
func summarize(conn *sqlite.Conn) error {
	s := &summarizer{conn: conn, images: map[int64]int64{}, traffic: map[trafficKey]*span{}, activity: map[activityKey]*span{}}
	if err := s.findImages(); err != nil {
		return fmt.Errorf("summarize images: %w", err)
	}
	if err := s.pass(); err != nil {
		return fmt.Errorf("summarize connections: %w", err)
	}
	var first, last any
	if s.total.rows > 0 {
		first, last = s.total.first, s.total.last
	}
	return execOn(conn, nil, `INSERT INTO seal (id, format, rows, connects, first_ns, last_ns) VALUES (1, ?, ?, ?, ?, ?)`,
		sealFormat, s.total.rows, s.total.connects, first, last)
}

// image is what tells one image from another. Texts are as they are stored, with
// a mark for NULL.
type image struct {
	exe, script, user, container string
	uid                          int64
}

// nullText stands for NULL: no stored text holds a NUL.
const nullText = "\x00"

// findImages numbers the images in the order of the first task of each.
func (s *summarizer) findImages() error {
	numbers := map[image]int64{}
	var order []image
	text := func(q *sqlite.Stmt, column int) string {
		if q.ColumnIsNull(column) {
			return nullText
		}
		return q.ColumnText(column)
	}
	err := execOn(s.conn, func(q *sqlite.Stmt) error {
		i := image{exe: text(q, 1), script: text(q, 2), user: text(q, 3), container: text(q, 4), uid: q.ColumnInt64(5)}
		n, ok := numbers[i]
		if !ok {
			order = append(order, i)
			n = int64(len(order))
			numbers[i] = n
		}
		s.images[q.ColumnInt64(0)] = n
		return nil
	}, `SELECT t.id, p.exe, p.script, nullif(coalesce(t.user, p.user), ''), nullif(coalesce(t.container, p.container), ''), t.uid
		FROM task t JOIN process p ON p.id = t.process ORDER BY t.id`)
	if err != nil {
		return err
	}
	bind := func(text string) any {
		if text == nullText {
			return nil
		}
		return text
	}
	for n, i := range order {
		err := execOn(s.conn, nil, `INSERT INTO image (id, exe, script, uid, user, container) VALUES (?, ?, ?, ?, ?, ?)`,
			n+1, bind(i.exe), bind(i.script), i.uid, bind(i.user), bind(i.container))
		if err != nil {
			return err
		}
	}
	return nil
}

// pass reads the connections in order of time.
func (s *summarizer) pass() error {
	err := execOn(s.conn, func(q *sqlite.Stmt) error {
		id := q.ColumnInt64(0)
		if hour := id / hourNS; hour != s.hour || len(s.traffic) >= mostSummaries {
			if err := s.flush(); err != nil {
				return err
			}
			s.hour = hour
		}
		s.count(id, q.ColumnInt64(1), q.ColumnInt64(2), q.ColumnInt64(3), q.ColumnInt64(4))
		return nil
	}, `SELECT c.id, c.task, c.remote, c.shape, coalesce(r.count, 1) FROM connection c LEFT JOIN repeat r ON r.id = c.id ORDER BY c.id`)
	if err != nil {
		return err
	}
	return s.flush()
}

func (s *summarizer) count(id, task, remote, shape, connects int64) {
	s.total.add(id, connects)
	t := trafficKey{remote, s.images[task], s.hour, shape}
	if s.traffic[t] == nil {
		s.traffic[t] = &span{}
	}
	s.traffic[t].add(id, connects)
	a := activityKey{task, s.hour}
	if s.activity[a] == nil {
		s.activity[a] = &span{}
	}
	s.activity[a].add(id, connects)
}

// flush adds what was counted to the tables, in the order of their keys.
func (s *summarizer) flush() error {
	traffic := make([]trafficKey, 0, len(s.traffic))
	for k := range s.traffic {
		traffic = append(traffic, k)
	}
	slices.SortFunc(traffic, func(a, b trafficKey) int {
		return cmp.Or(cmp.Compare(a.remote, b.remote), cmp.Compare(a.image, b.image), cmp.Compare(a.shape, b.shape))
	})
	for _, k := range traffic {
		n := s.traffic[k]
		err := execOn(s.conn, nil, `INSERT INTO traffic (remote, image, hour, shape, rows, connects, first_ns, last_ns)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (remote, image, hour, shape) DO UPDATE SET
			rows = rows + excluded.rows, connects = connects + excluded.connects, last_ns = excluded.last_ns`,
			k.remote, k.image, k.hour, k.shape, n.rows, n.connects, n.first, n.last)
		if err != nil {
			return err
		}
	}
	activity := make([]activityKey, 0, len(s.activity))
	for k := range s.activity {
		activity = append(activity, k)
	}
	slices.SortFunc(activity, func(a, b activityKey) int { return cmp.Compare(a.task, b.task) })
	for _, k := range activity {
		n := s.activity[k]
		err := execOn(s.conn, nil, `INSERT INTO activity (task, hour, image, rows, connects, first_ns, last_ns)
			VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (task, hour) DO UPDATE SET
			rows = rows + excluded.rows, connects = connects + excluded.connects, last_ns = excluded.last_ns`,
			k.task, k.hour, s.images[k.task], n.rows, n.connects, n.first, n.last)
		if err != nil {
			return err
		}
	}
	clear(s.traffic)
	clear(s.activity)
	return nil
}
