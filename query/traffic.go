package query

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"zombiezen.com/go/sqlite"
)

// What programs connected to, how often and when first, over millions of
// connections: a sealed segment has it in its summaries, any other is counted by
// ids. Names come last, for what is left.

// actor is who connected: a program, as a user, in a container.
type actor struct {
	exe             string // or [comm] where it is unknown
	user, container Value  // user: its name, or else the uid
}

// place is where to.
type place struct {
	family  int64
	address string
	port    int64 // -1 none
}

// label returns it as canned queries show it.
func (p place) label() string {
	switch {
	case p.port < 0:
		return p.address
	case p.family == familyIPv6:
		return "[" + p.address + "]:" + strconv.FormatInt(p.port, 10)
	}
	return p.address + ":" + strconv.FormatInt(p.port, 10)
}

// plain returns it with IPv4 in one form, as the view's remote_ip.
func (p place) plain() place {
	v4, mapped := strings.CutPrefix(p.address, "::ffff:")
	if p.family == familyIPv6 && p.port >= 0 && mapped && strings.Contains(v4, ".") {
		p.family, p.address = familyIPv4, v4
	}
	return p
}

// Families and types that the plans tell apart, as the kernel numbers them.
const (
	familyUnspec = 0
	familyIPv4   = 2
	familyIPv6   = 10
	typeDgram    = 2
)

// pairTotal is what one actor did at one place.
type pairTotal struct {
	actor, place    int32 // indexes of the traffic, or ids of one segment
	n, failed       int64
	first, last     int64 // ns on the clocks of the segments that have them
	firstIn, lastIn int32 // numbers of those
}

// never is the first of a pair of which only failures are told.
const never = 1<<63 - 1

// pairList has one total for each pair.
type pairList struct {
	index map[uint64]int32
	list  []pairTotal
}

func newPairList() *pairList { return &pairList{index: make(map[uint64]int32)} }

// grow makes room for n pairs.
func (p *pairList) grow(n int) {
	p.index = make(map[uint64]int32, n)
	p.list = make([]pairTotal, 0, n)
}

// at returns the total of a pair, and whether it is new.
func (p *pairList) at(key uint64) (total *pairTotal, isNew bool) {
	i, ok := p.index[key]
	if !ok {
		i = int32(len(p.list))
		p.index[key] = i
		p.list = append(p.list, pairTotal{})
	}
	return &p.list[i], !ok
}

// traffic is what all segments have together.
type traffic struct {
	actors []actor
	places []place
	pairs  *pairList
	read   map[int32]*segmentSource // by number

	mu         sync.Mutex
	actorIndex map[string]int32
	placeIndex map[place]int32
}

// readTraffic counts the connections of a window by actor and place.
func readTraffic(ctx context.Context, sources []Source, w Window, all bool) (*traffic, error) {
	t := &traffic{pairs: newPairList(), read: make(map[int32]*segmentSource), actorIndex: make(map[string]int32), placeIndex: make(map[place]int32)}
	err := inParallel(ctx, sources, func(ctx context.Context, s *segmentSource) error { return t.count(ctx, s, w, all) })
	return t, err
}

// count counts those of one segment and adds them.
func (t *traffic) count(ctx context.Context, s *segmentSource, w Window, all bool) error {
	from, to := w.bounds()
	if s.sealed && (s.last < from || s.first >= to) {
		return nil
	}
	d, err := readDimensions(ctx, s)
	if err != nil {
		return err
	}
	var counted *pairList
	if s.sealed && s.first >= from && s.last < to && !d.anonymous {
		counted, err = d.fromSummary(ctx, s, all)
	} else {
		counted, err = d.fromRows(ctx, s, from, to, all)
	}
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.merge(s, d, counted)
	return nil
}

// bounds returns the window as ids of connections: from and, not included, to.
func (w Window) bounds() (from, to int64) {
	from, to = -1<<63, 1<<63-1
	if !w.Since.IsZero() {
		from = w.Since.UnixNano()
	}
	if !w.Until.IsZero() {
		to = w.Until.UnixNano()
	}
	return from, to
}

// merge adds what was counted in one segment, by its own ids.
func (t *traffic) merge(s *segmentSource, d *dimensions, counted *pairList) {
	t.read[int32(s.Number)] = s
	actors := make([]int32, len(d.actors))
	for i, a := range d.actors {
		key := a.key()
		n, ok := t.actorIndex[key]
		if !ok {
			n = int32(len(t.actors))
			t.actorIndex[key] = n
			t.actors = append(t.actors, a)
		}
		actors[i] = n
	}
	places := make(map[int32]int32)
	dense := make([]int32, min(d.lastPlace+1, 4*int64(len(d.places))+1000)) // index + 1, 0: not met yet
	if len(t.pairs.list) == 0 {
		t.pairs.grow(2 * len(counted.list))
	}
	for i := range counted.list {
		one := counted.list[i]
		if where := one.place; where >= 0 && int(where) < len(dense) {
			if dense[where] == 0 {
				dense[where] = t.place(d.places[int64(where)]) + 1
			}
			one.place = dense[where] - 1
		} else { // the ids of an honest segment have no such holes
			n, ok := places[where]
			if !ok {
				n = t.place(d.places[int64(where)])
				places[where] = n
			}
			one.place = n
		}
		one.actor = actors[one.actor]
		one.firstIn, one.lastIn = int32(s.Number), int32(s.Number)
		known, isNew := t.pairs.at(pairIndex(one.actor, int64(one.place)))
		if isNew {
			*known = one
			continue
		}
		known.n += one.n
		known.failed += one.failed
		if one.first < known.first {
			known.first, known.firstIn = one.first, one.firstIn
		}
		if one.last > known.last {
			known.last, known.lastIn = one.last, one.lastIn
		}
	}
}

// place returns the index of a place.
func (t *traffic) place(p place) int32 {
	n, ok := t.placeIndex[p]
	if !ok {
		n = int32(len(t.places))
		t.placeIndex[p] = n
		t.places = append(t.places, p)
	}
	return n
}

// firstWall returns the time of the first of a pair on the wall clock.
func (t *traffic) firstWall(p *pairTotal) int64 { return t.read[p.firstIn].wall(p.first) }

// lastWall returns that of the last.
func (t *traffic) lastWall(p *pairTotal) int64 { return t.read[p.lastIn].wall(p.last) }

// key tells actors apart.
func (a actor) key() string {
	return a.exe + "\x00" + string(a.user.appendPlain(nil, false)) + "\x00" + string(a.container.appendPlain(nil, false))
}

// dimensions are what the ids of one segment mean.
type dimensions struct {
	actors    []actor
	byImage   map[int64]int32 // of a sealed segment
	byTask    map[int64]int32
	places    map[int64]place
	lastPlace int64          // the highest of their ids
	failed    map[int64]bool // shapes that failed, denied ones too
	denied    map[int64]bool // shapes that a security module denied
	dgram     map[int64]bool // shapes of datagram sockets
	probes    bool           // there is an address without a family, or with port 0
	anonymous bool           // an image without a path, which summaries do not tell apart
}

func readDimensions(ctx context.Context, s *segmentSource) (*dimensions, error) {
	d := &dimensions{byImage: make(map[int64]int32), byTask: make(map[int64]int32), places: make(map[int64]place), failed: make(map[int64]bool), denied: make(map[int64]bool), dgram: make(map[int64]bool)}
	err := scan(ctx, s.Conn, `SELECT id, family, address, port FROM `+s.Schema+`.endpoint`, func(row *sqlite.Stmt) {
		p := place{row.ColumnInt64(1), row.ColumnText(2), row.ColumnInt64(3)}.plain()
		d.places[row.ColumnInt64(0)] = p
		d.lastPlace = max(d.lastPlace, row.ColumnInt64(0))
		d.probes = d.probes || p.family == familyUnspec || p.port == 0
	})
	if err != nil {
		return nil, err
	}
	err = each(ctx, s.Conn, `SELECT id, type, coalesce(hook_errno > 0 OR errno NOT IN (0, 11, 114, 115, 4, 512), 0), coalesce(hook_errno > 0, 0) FROM `+s.Schema+`.shape`, func(row []Value) {
		d.dgram[row[0].Int], d.failed[row[0].Int], d.denied[row[0].Int] = row[1].Int == typeDgram, row[2].Int != 0, row[3].Int != 0
	})
	if err != nil {
		return nil, err
	}
	index := make(map[string]int32)
	defer func() {
		if len(d.actors) == 0 { // whatever an altered tape refers to
			d.actors = append(d.actors, actor{})
		}
	}()
	add := func(a actor) int32 {
		key := a.key()
		n, ok := index[key]
		if !ok {
			n = int32(len(d.actors))
			index[key] = n
			d.actors = append(d.actors, a)
		}
		return n
	}
	if s.sealed {
		err = each(ctx, s.Conn, `SELECT id, exe, coalesce(user, uid), container FROM `+s.Schema+`.image`, func(row []Value) {
			d.anonymous = d.anonymous || row[1].Kind == Null
			d.byImage[row[0].Int] = add(actor{string(row[1].Bytes), keep(row[2]), keep(row[3])})
		})
		if err != nil || !d.anonymous {
			return d, err
		}
	}
	err = each(ctx, s.Conn, `SELECT t.id, coalesce(p.exe, '[' || t.comm || ']'), coalesce(nullif(coalesce(t.user, p.user), ''), t.uid), nullif(coalesce(t.container, p.container), '')
		FROM `+s.Schema+`.task t JOIN `+s.Schema+`.process p ON p.id = t.process`, func(row []Value) {
		d.byTask[row[0].Int] = add(actor{string(row[1].Bytes), keep(row[2]), keep(row[3])})
	})
	return d, err
}

// keep returns a value that outlives its row.
func keep(v Value) Value {
	v.Bytes = []byte(string(v.Bytes))
	return v
}

// fromSummary counts by the summaries of sealing.
func (d *dimensions) fromSummary(ctx context.Context, s *segmentSource, all bool) (*pairList, error) {
	where := ` WHERE 1`
	if d.probes && !all {
		where = ` WHERE remote NOT IN (SELECT id FROM ` + s.Schema + `.endpoint WHERE family = 0)
			AND NOT (shape IN (` + joinInts(trueKeys(d.dgram)) + `) AND remote IN (SELECT id FROM ` + s.Schema + `.endpoint WHERE port = 0))`
	}
	from := ` FROM ` + s.Schema + `.traffic` + where
	counted := newPairList()
	err := scan(ctx, s.Conn, `SELECT remote, image, sum(connects), min(first_ns), max(last_ns)`+from+` GROUP BY remote, image`, func(row *sqlite.Stmt) {
		counted.list = append(counted.list, pairTotal{actor: d.byImage[row.ColumnInt64(1)], place: int32(row.ColumnInt64(0)),
			n: row.ColumnInt64(2), first: row.ColumnInt64(3), last: row.ColumnInt64(4)})
	})
	if err != nil {
		return nil, err
	}
	err = scan(ctx, s.Conn, `SELECT remote, image, connects`+from+` AND shape IN (`+joinInts(trueKeys(d.failed))+`)`, func(row *sqlite.Stmt) {
		counted.list = append(counted.list, pairTotal{actor: d.byImage[row.ColumnInt64(1)], place: int32(row.ColumnInt64(0)), failed: row.ColumnInt64(2), first: never, last: -never})
	})
	if err != nil {
		return nil, err
	}
	// The end of a pair is the last of the connects that a row stands for.
	return counted, scan(ctx, s.Conn, `SELECT c.remote, a.image, max(r.last_ns) FROM `+s.Schema+`.repeat r CROSS JOIN `+s.Schema+`.connection c ON c.id = r.id
		JOIN (SELECT DISTINCT task, image FROM `+s.Schema+`.activity) a ON a.task = c.task GROUP BY 1, 2`, func(row *sqlite.Stmt) {
		counted.list = append(counted.list, pairTotal{actor: d.byImage[row.ColumnInt64(1)], place: int32(row.ColumnInt64(0)), first: never, last: row.ColumnInt64(2)})
	})
}

// readTasks makes sure that byTask is filled.
func (d *dimensions) readTasks(ctx context.Context, s *segmentSource) error {
	if !s.sealed || len(d.byTask) > 0 {
		return nil
	}
	return each(ctx, s.Conn, `SELECT DISTINCT task, image FROM `+s.Schema+`.activity`, func(row []Value) { d.byTask[row[0].Int] = d.byImage[row[1].Int] })
}

// fromRows counts the connections themselves.
func (d *dimensions) fromRows(ctx context.Context, s *segmentSource, from, to int64, all bool) (*pairList, error) {
	if err := d.readTasks(ctx, s); err != nil {
		return nil, err
	}
	counted := newPairList()
	sql := fmt.Sprintf(`SELECT id, task, remote, shape FROM %s.connection WHERE id >= %d AND id < %d ORDER BY id`, s.Schema, from, to)
	err := scan(ctx, s.Conn, sql, func(row *sqlite.Stmt) {
		id, task, remote, shape := row.ColumnInt64(0), row.ColumnInt64(1), row.ColumnInt64(2), row.ColumnInt64(3)
		if d.probes && !all && d.isProbe(remote, shape) {
			return
		}
		failed := int64(0)
		if d.failed[shape] {
			failed = 1
		}
		counted.add(d.byTask[task], remote, 1, failed, id, id)
	})
	if err != nil {
		return nil, err
	}
	sql = fmt.Sprintf(`SELECT c.remote, c.task, c.shape, r.count - 1, r.last_ns FROM %[1]s.repeat r CROSS JOIN %[1]s.connection c ON c.id = r.id WHERE r.id >= %[2]d AND r.id < %[3]d`, s.Schema, from, to)
	return counted, each(ctx, s.Conn, sql, func(row []Value) {
		if d.probes && !all && d.isProbe(row[0].Int, row[2].Int) {
			return
		}
		one, _ := counted.at(pairIndex(d.byTask[row[1].Int], row[0].Int))
		one.n += row[3].Int
		if d.failed[row[2].Int] {
			one.failed += row[3].Int
		}
		one.last = max(one.last, row[4].Int)
	})
}

// isProbe reports whether a connect is one that findings leave out.
func (d *dimensions) isProbe(remote, shape int64) bool {
	p := d.places[remote]
	return p.family == familyUnspec || p.port == 0 && d.dgram[shape]
}

func pairIndex(who int32, remote int64) uint64 { return uint64(who)<<32 | uint64(uint32(remote)) }

// add counts for a pair.
func (p *pairList) add(who int32, remote, n, failed, first, last int64) {
	one, isNew := p.at(pairIndex(who, remote))
	if isNew {
		*one = pairTotal{actor: who, place: int32(remote), n: n, failed: failed, first: first, last: last}
		return
	}
	one.n += n
	one.failed += failed
	one.first, one.last = min(one.first, first), max(one.last, last)
}

func trueKeys(set map[int64]bool) []int64 {
	var keys []int64
	for k, ok := range set {
		if ok {
			keys = append(keys, k)
		}
	}
	return keys
}

// scan runs a question of our own without copying its rows.
func scan(ctx context.Context, conn *sqlite.Conn, sql string, row func(*sqlite.Stmt)) error {
	before := conn.SetInterrupt(ctx.Done())
	defer conn.SetInterrupt(before)
	stmt, _, err := conn.PrepareTransient(strings.TrimSpace(sql))
	if err != nil {
		return explain(err)
	}
	defer stmt.Finalize()
	for {
		more, err := stmt.Step()
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			return explain(err)
		}
		if !more {
			return nil
		}
		row(stmt)
	}
}
