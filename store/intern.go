package store

import (
	"errors"
	"fmt"

	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/escape"
	"github.com/conntape/conntape/store/segment"
)

// interner assigns row ids to repeated values. Tasks, processes and endpoints remember their id (see mark), so that a
// known connection costs four comparisons and no map look-up.
type interner struct {
	segment *activeSegment
	epoch   *epoch

	shapes        map[Shape]int64  // all shapes of the segment
	shapePointers map[*Shape]int64 // saves hashing three strings
	shapeByID     map[int64]Shape  // filled on demand
}

// maxShapePointers limits the pointer cache, for a caller that makes a new Shape for each connection.
const maxShapePointers = 4096

// refs are the ids that a connection refers to.
type refs struct{ task, remote, local, shape, source int64 } // local 0: not bound; source: the local address of its outcome, 0 unknown

var errIncomplete = errors.New("connection without task, process, remote or shape")

// resolve returns the ids of c's values, and writes new ones.
func (in *interner) resolve(c *Connection) (r refs, err error) {
	if c.Task == nil || c.Task.Process == nil || c.Remote == nil || c.Shape == nil {
		return r, errIncomplete
	}
	var ok bool
	if r.task, ok = c.Task.mark.get(in.epoch); !ok {
		if r.task, err = in.addTask(c.Task); err != nil {
			return r, fmt.Errorf("insert task: %w", err)
		}
	}
	if r.remote, ok = c.Remote.mark.get(in.epoch); !ok {
		if r.remote, err = in.addEndpoint(c.Remote); err != nil {
			return r, fmt.Errorf("insert endpoint: %w", err)
		}
	}
	if c.Local != nil {
		if r.local, ok = c.Local.mark.get(in.epoch); !ok {
			if r.local, err = in.addEndpoint(c.Local); err != nil {
				return r, fmt.Errorf("insert endpoint: %w", err)
			}
		}
	}
	if c.Outcome != nil {
		if r.source, err = in.local(c.Outcome); err != nil {
			return r, fmt.Errorf("insert endpoint: %w", err)
		}
	}
	if r.shape, ok = in.shapePointers[c.Shape]; !ok {
		if r.shape, err = in.addShape(c.Shape); err != nil {
			return r, fmt.Errorf("insert shape: %w", err)
		}
	}
	return r, nil
}

// addTask writes a task, after its process.
func (in *interner) addTask(t *Task) (int64, error) {
	p := t.Process
	process, err := in.addProcess(p)
	if err != nil {
		return 0, err
	}
	s := in.segment
	err = s.exec(`INSERT INTO task (process, tid, comm, uid, gid, euid, user, loginuid, session_id,
		netns, cgroup_id, cgroup, container) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		process, t.Tid, escape.String(t.Comm, nil), t.UID, t.GID, t.EUID, ownText(t.User, p.User),
		segment.SetOrNull(t.LoginUID), segment.SetOrNull(t.SessionID), segment.NumberOrNull(t.NetNS), segment.NumberOrNull(t.CgroupID),
		ownText(t.Cgroup, p.Cgroup), ownText(t.Container, p.Container))
	if err != nil {
		return 0, err
	}
	id := s.conn.LastInsertRowID()
	t.mark.set(in.epoch, id)
	return id, nil
}

// ownText returns a task's text, NULL if it equals its process's.
func ownText(own, process string) any {
	if own == process {
		return nil
	}
	return escape.String(own, nil)
}

// endpoint returns the row of an endpoint.
func (in *interner) endpoint(e *Endpoint) (int64, error) {
	if id, ok := e.mark.get(in.epoch); ok {
		return id, nil
	}
	return in.addEndpoint(e)
}

// addEndpoint finds or writes an endpoint. It may exist already: from an earlier run, or by another pointer.
func (in *interner) addEndpoint(e *Endpoint) (id int64, err error) {
	s := in.segment
	raw := e.Raw
	if raw == nil {
		raw = []byte{}
	}
	requested := int64(0)
	if e.Requested != nil {
		if requested, err = in.endpoint(e.Requested); err != nil {
			return 0, err
		}
	}
	peer := int64(0)
	if e.Peer != nil {
		if peer, err = in.addProcess(e.Peer); err != nil {
			return 0, err
		}
	}
	err = s.exec(`INSERT OR IGNORE INTO endpoint (family, address, port, raw, requested, peer, names, name_source) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
		int(e.Family), e.Address, int(e.Port), raw, requested, peer, e.Names, e.NameSource)
	if err != nil {
		return 0, err
	}
	if s.conn.Changes() == 1 {
		id = s.conn.LastInsertRowID()
	} else {
		err = s.query(func(q *sqlite.Stmt) error { id = q.ColumnInt64(0); return nil },
			`SELECT id FROM endpoint WHERE address = ? AND port = ? AND family = ? AND raw = ? AND requested = ? AND peer = ? AND names = ? AND name_source = ?`,
			e.Address, int(e.Port), int(e.Family), raw, requested, peer, e.Names, e.NameSource)
		if err != nil {
			return 0, err
		}
	}
	e.mark.set(in.epoch, id)
	return id, nil
}

// addShape finds or writes a shape.
func (in *interner) addShape(shape *Shape) (int64, error) {
	id, ok := in.shapes[*shape]
	if !ok {
		s := in.segment
		err := s.exec(`INSERT INTO shape (socket_family, type, protocol, via, address_source, backend,
			hook_errno, errno, addrlen, final) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			int(shape.SocketFamily), int(shape.Type), int(shape.Protocol),
			escape.String(shape.Via, nil), escape.String(shape.AddressSource, nil), escape.String(shape.Backend, nil),
			segment.SetOrNull(shape.HookErrno), segment.SetOrNull(shape.Errno), int(shape.Addrlen), shape.Final.stored())
		if err != nil {
			return 0, err
		}
		id = s.conn.LastInsertRowID()
		in.shapes[*shape] = id
	}
	if len(in.shapePointers) >= maxShapePointers {
		clear(in.shapePointers)
	}
	in.shapePointers[shape] = id
	return id, nil
}

// loadShapes reads the segment's shapes: there are few.
func (in *interner) loadShapes() error {
	return in.segment.query(func(q *sqlite.Stmt) error {
		unknown := func(column int) int32 {
			if q.ColumnIsNull(column) {
				return Unknown
			}
			return q.ColumnInt32(column)
		}
		text := func(column int) string {
			raw, err := escape.Unescape(q.ColumnText(column))
			if err != nil {
				return q.ColumnText(column)
			}
			return string(raw)
		}
		in.shapes[Shape{
			SocketFamily: uint16(q.ColumnInt64(1)), Type: uint16(q.ColumnInt64(2)), Protocol: uint16(q.ColumnInt64(3)),
			Via: text(4), AddressSource: text(5), Backend: text(6),
			HookErrno: unknown(7), Errno: unknown(8), Addrlen: q.ColumnInt32(9), Final: finalOf(q, 10),
		}] = q.ColumnInt64(0)
		return nil
	}, `SELECT id, socket_family, type, protocol, via, address_source, backend, hook_errno, errno, addrlen, final FROM shape`)
}
