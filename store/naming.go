package store

import (
	"fmt"
	"time"

	"zombiezen.com/go/sqlite"
)

// A client can name its server after the row of its connection was committed. Then the row is given another endpoint: the same
// address with that name. Table renamed keeps the endpoint that it had before, so that the chain can be recomputed. If the
// segment was closed in between, the row is in the previous segment; so sealing waits for a while.

// namesPatience is how long a closed segment waits for names of its connections: a handshake and the first bytes take seconds
// at the most, but for connections that are opened in advance.
const namesPatience = 10 * time.Second

// Naming is the name that a client gave the server of a connection after that was written: the row of the connect made at
// Connect by thread Tid.
type Naming struct {
	Connect uint64 // Connection.BootTime, ns of CLOCK_BOOTTIME
	Tid     uint32 // Task.Tid
	Port    int32  // Endpoint.Port of its remote
	Name    string // escaped
	Source  string // [NameSNI] or [NameHTTP]
}

// missedNamesCounter counts names whose connection has no row of its own, or in a segment that is sealed.
const missedNamesCounter = "store_names_missed"

// writeNamings gives connections their names. Those whose row is not in this segment stay in rows.unnamed.
func (s *activeSegment) writeNamings(namings []Naming) error {
	s.rows.unnamed = s.rows.unnamed[:0]
	for i := range namings {
		found, err := s.name(&namings[i])
		if err != nil {
			return fmt.Errorf("name connection: %w", err)
		}
		if !found {
			s.missedNames++
			s.rows.unnamed = append(s.rows.unnamed, namings[i])
		}
	}
	return nil
}

// name gives the row of one connection an endpoint with the name. A row that counts several connects keeps its endpoint.
func (s *activeSegment) name(n *Naming) (found bool, err error) {
	id, was, repeated := int64(0), int64(0), false
	err = s.query(func(q *sqlite.Stmt) error {
		id, was, repeated = q.ColumnInt64(0), q.ColumnInt64(1), q.ColumnBool(2)
		return nil
	}, `SELECT c.id, c.remote, EXISTS (SELECT 1 FROM repeat r WHERE r.id = c.id)
		FROM connection c JOIN task t ON t.id = c.task JOIN endpoint e ON e.id = c.remote
		WHERE c.id >= ?1 AND c.id < ?1 + ?2 AND +t.tid = ?3 AND +e.port = ?4 ORDER BY c.id LIMIT 1`,
		s.at(n.Connect), updateWindow, int64(n.Tid), int64(n.Port))
	if err != nil || id == 0 || repeated {
		return false, err
	}
	to, err := s.intern.withName(was, n)
	if err != nil || to == was {
		return err == nil, err
	}
	if _, again := s.chainer.renames[id]; !again { // its first endpoint in this batch is what it had before
		if err := s.exec(`INSERT INTO renamed (connection, batch, remote) VALUES (?, ?, ?)`, id, s.chainer.batch, was); err != nil {
			return false, err
		}
	}
	s.ruler.wrote(id)
	s.chainer.renames[id] = to
	return true, s.exec(`UPDATE connection SET remote = ? WHERE id = ?`, to, id)
}

// withName returns the endpoint that differs from another one in its name alone.
func (in *interner) withName(id int64, n *Naming) (with int64, err error) {
	const same = `FROM endpoint e WHERE e.id = ?1`
	err = in.segment.exec(`INSERT OR IGNORE INTO endpoint (family, address, port, raw, requested, peer, names, name_source)
		SELECT e.family, e.address, e.port, e.raw, e.requested, e.peer, ?2, ?3 `+same, id, n.Name, n.Source)
	if err != nil {
		return 0, err
	}
	err = in.segment.query(func(q *sqlite.Stmt) error { with = q.ColumnInt64(0); return nil },
		`SELECT w.id FROM endpoint e CROSS JOIN endpoint w ON w.address = e.address AND w.port = e.port AND w.family = e.family AND w.raw = e.raw
		AND w.requested = e.requested AND w.peer = e.peer AND w.names = ?2 AND w.name_source = ?3 WHERE e.id = ?1`, id, n.Name, n.Source)
	return with, err
}

// writeLateNames gives connections of a closed segment their names in one transaction, and returns the number of those found.
func (s *activeSegment) writeLateNames(namings []Naming) (found int, err error) {
	return correctEach(s, namings, s.name)
}
