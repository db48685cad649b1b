package store

import (
	"github.com/conntape/conntape/store/escape"
)

// growth is what writing a batch may add to the files of a segment, in bytes: to
// the database once it is checkpointed, and to the WAL before. Changed is what it
// writes to the WAL, also where that is long enough already: SQLite has it in memory
// until the commit.
type growth struct{ db, wal, changed int64 }

func (g growth) sum() int64 { return g.db + g.wal }

// Bytes of a row without its text, with what SQLite puts around it, index
// included. All are upper bounds.
const (
	connectionRowBytes = 48
	outcomeBytes       = 48  // of those that there can be; a counter of 2^56 bytes is none
	endingRowBytes     = 160 // with the row of changed
	eventRowBytes      = 144
	repeatRowBytes     = 32
	taskRowBytes       = 160
	processRowBytes    = 512
	endpointRowBytes   = 96
	fileRowBytes       = 192
	otherRowBytes      = 256
	walFrameBytes      = pageSize + 24
	mostAddressBytes   = 96 // of an IPv6 address, as text and as a sockaddr
)

// batchPages is what a transaction may add beside its rows, in pages.
const batchPages = 8

// estimator adds up what a batch will take. It is the writer's, and used again.
type estimator struct {
	seen    map[any]struct{} // new tasks, processes and endpoints of this batch
	bytes   int64
	touched int64 // pages in the middle of tables and indexes
	run     run   // of endings
}

// fit returns how much of a batch, at least one row if there is any, adds no more than so many bytes to the files, with
// all else that is in the batch, and what that adds at the most.
func (e *estimator) fit(s *activeSegment, b *Batch, most growth) (n Part, g growth) {
	if e.seen == nil {
		e.seen = map[any]struct{}{}
	}
	clear(e.seen)
	e.bytes, e.touched, e.run = 0, 24, run{}
	for _, g := range b.Gaps {
		e.bytes += otherRowBytes + int64(len(g.Cause)+len(g.Detail))*4
	}
	e.bytes += int64(len(b.Anchors)+len(b.Counters)+8) * otherRowBytes
	e.bytes += int64(len(b.Files)+len(b.Scripts)) * fileRowBytes
	e.touched += int64(len(b.Files) + 2*len(b.Scripts))
	rows := 0
	for _, kind := range []struct {
		n   *int
		of  int
		add func(i int)
	}{
		{&n.Connections, len(b.Connections), func(i int) { e.connection(s, &b.Connections[i]) }},
		{&n.Endings, len(b.Endings), func(i int) { e.ending(s, &b.Endings[i]) }},
		{&n.Namings, len(b.Namings), func(i int) { e.naming(s, &b.Namings[i]) }},
		{&n.Sockets, len(b.Sockets), func(i int) { e.socket(s, &b.Sockets[i]) }},
	} {
		for ; *kind.n < kind.of; *kind.n++ {
			before := *e
			kind.add(*kind.n)
			if g := e.growth(s, n.Connections+1); rows > 0 && (g.wal > most.wal || g.db > most.db || g.changed > most.changed) {
				*e = before
				return n, e.growth(s, n.Connections)
			}
			rows++
		}
	}
	return n, e.growth(s, n.Connections)
}

// growth is what was added up for so many connections.
func (e *estimator) growth(s *activeSegment, connections int) growth {
	bytes := e.bytes + s.blocks.most(connections)
	db := bytes + bytes/4 // pages that split are not full
	pages := db/pageSize + batchPages
	wal := (pages + min(e.touched, s.pages)) * walFrameBytes
	return growth{db: pages * pageSize, wal: max(0, s.walUsed()+wal-s.walSize), changed: wal}
}

func (e *estimator) connection(s *activeSegment, c *Connection) {
	if c.Update {
		e.touched++
	} else {
		e.bytes += connectionRowBytes
		if c.Outcome != nil {
			e.bytes += outcomeBytes
			e.endpoint(s, c.Outcome.Local)
		}
		if c.Count > 1 {
			e.bytes += repeatRowBytes
		}
		if s.at(c.BootTime) < s.rows.maxID {
			e.touched++
		}
	}
	if c.Task != nil {
		if _, ok := c.Task.mark.get(s.intern.epoch); !ok {
			e.task(s, c.Task)
		}
	}
	e.endpoint(s, c.Remote)
	e.endpoint(s, c.Local)
}

// ending adds an ending. Endings come in the order of their connections: those of one batch share pages.
func (e *estimator) ending(s *activeSegment, o *Ending) {
	e.touched += e.run.add(s.ruler, s.at(o.Connect))
	e.bytes += endingRowBytes
	e.endpoint(s, o.Outcome.Local)
}

// naming adds a name. It changes pages like an ending, and may write an endpoint, for which that of the connection is copied.
func (e *estimator) naming(s *activeSegment, n *Naming) {
	e.touched += e.run.add(s.ruler, s.at(n.Connect)) + 2
	e.bytes += endingRowBytes + endpointRowBytes + 2*int64(len(n.Name)+len(n.Source)+mostAddressBytes)
}

func (e *estimator) socket(s *activeSegment, v *SocketEvent) {
	e.touched++
	e.bytes += eventRowBytes
	if l := v.Lookup; l != nil {
		e.bytes += int64(len(l.Name) + len(l.Answers))
	}
	if v.Task != nil {
		if _, ok := v.Task.mark.get(s.intern.epoch); !ok {
			e.task(s, v.Task)
		}
	}
	e.endpoint(s, v.Local)
	e.endpoint(s, v.Remote)
}

func (e *estimator) endpoint(s *activeSegment, p *Endpoint) {
	if p == nil {
		return
	}
	if _, ok := p.mark.get(s.intern.epoch); !ok && e.isNew(p) {
		e.touched += 2
		e.bytes += endpointRowBytes + 2*int64(len(p.Address)+len(p.Raw)+len(p.Names)+len(p.NameSource))
		e.endpoint(s, p.Requested)
		e.process(s, p.Peer)
	}
}

func (e *estimator) task(s *activeSegment, t *Task) {
	if !e.isNew(t) {
		return
	}
	e.bytes += taskRowBytes + escapedBytes(t.Comm, t.User, t.Cgroup, t.Container)
	e.process(s, t.Process)
}

// process adds a process and its ancestors.
func (e *estimator) process(s *activeSegment, p *Process) {
	for ; p != nil && e.isNew(p); p = p.Parent {
		if _, ok := p.mark.get(s.intern.epoch); ok {
			return
		}
		e.touched += 3
		e.bytes += processRowBytes + 2*fileRowBytes + escapedBytes(p.Argv...) +
			escapedBytes(p.Comm, p.Exe, p.Script, p.Cwd, p.User, p.Cgroup, p.Container, p.Unit) + maxAncestors*24
	}
}

// isNew reports whether v is met for the first time in this batch.
func (e *estimator) isNew(v any) bool {
	if _, ok := e.seen[v]; ok {
		return false
	}
	e.seen[v] = struct{}{}
	return true
}

// escapedBytes is the size of texts as they are stored.
func escapedBytes(texts ...string) (n int64) {
	for _, t := range texts {
		n += int64(len(escape.String(t, nil))) + 4
	}
	return n
}
