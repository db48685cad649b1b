package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/conntape/conntape/migrations"
	"github.com/conntape/conntape/store/escape"
	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
)

// birth is the description of a new segment.
type birth struct {
	number          int
	tapeID          string
	now             Anchor
	offset          int64  // segment clock minus CLOCK_BOOTTIME, ns
	floor           int64  // least offset for a later segment of this boot
	previous        int    // number of the previous segment; 0: none
	previousBatches int64  // number of its commits that count; -1: all
	wallStep        int64  // wall clock minus segment clock, before the first anchor
	walBytes        int64  // size that its WAL may keep
	walLength       int64  // of its WAL, allocated in advance; 0: it grows
	spareWAL        string // where to put its WAL if the segment cannot be made
	placed          bool   // its files exist and are empty
}

// createSegment makes a new active segment, filled by fill in one transaction. Its mode is 0600 until it is locked.
// After an error only files that existed before are left.
func createSegment(path string, b birth, o *WriterOptions, fill func(*activeSegment) error) (_ *activeSegment, err error) {
	if !b.placed {
		err = createFile(path, nil)
	}
	if err != nil {
		return nil, &failure.Error{Op: "create segment", Path: path, Err: failure.Bare(err)}
	}
	var conn *sqlite.Conn
	defer func() {
		if err == nil {
			return
		}
		if b.placed {
			os.Link(path+"-wal", b.spareWAL) // closing removes the WAL
		}
		if conn != nil {
			segment.CloseConn(conn)
		}
		if !b.placed {
			removeSegment(path)
		}
		err = &failure.Error{Op: "create segment", Path: path, Err: err, Hint: storageHint(err)}
	}()
	if conn, err = openForWriting(path); err != nil {
		return nil, err
	}
	s := newSegment(path, b.number, conn)
	s.tapeID, s.bootID, s.schema = b.tapeID, o.BootID, migrations.Version
	s.host, s.machineID = escape.String(o.Host, nil), escape.String(o.MachineID, nil)
	s.previous, s.counts = b.previous, b.previousBatches
	s.offset, s.floor = b.offset, b.floor
	s.created = s.at(b.now.Boot)
	s.state, s.heartbeat = segment.StateActive, s.created
	err = s.inTransaction(func() error {
		if err := s.writeBirth(b, o); err != nil {
			return err
		}
		return fill(s)
	})
	if err != nil {
		return nil, err
	}
	if err = s.chainer.load(conn); err != nil {
		return nil, err
	}
	if err = s.boundWAL(b.walBytes, b.walLength); err != nil {
		return nil, err
	}
	for _, name := range []string{path, path + "-wal"} {
		if err = tapedir.GiveToGroup(name, tapedir.FileMode); err != nil {
			return nil, err
		}
	}
	if err = tapedir.SyncDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	return s, nil
}

// createFile makes a file with some content, durably if there is any. It leaves none if it fails.
func createFile(path string, content []byte) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, tapedir.BirthMode)
	if err != nil {
		return err
	}
	if len(content) > 0 {
		if _, err = file.Write(content); err == nil {
			err = file.Sync()
		}
	}
	if err = errors.Join(err, file.Close()); err != nil {
		os.Remove(path)
	}
	return err
}

// writeBirth fills an empty database.
func (s *activeSegment) writeBirth(b birth, o *WriterOptions) error {
	script, err := migrations.Script(migrations.Version)
	if err != nil {
		return err
	}
	script += fmt.Sprintf("\nPRAGMA application_id = %d;\nPRAGMA user_version = %d;\n", segment.ApplicationID, migrations.Version)
	if err := sqlitex.ExecuteScript(s.conn, script, nil); err != nil {
		return fmt.Errorf("make schema: %w", err)
	}
	var previous, previousBatches any
	if b.previous > 0 {
		previous = b.previous
		if b.previousBatches >= 0 {
			previousBatches = b.previousBatches
		}
	}
	err = s.exec(`INSERT INTO segment (id, number, tape_id, state, schema_version, compatible, incompatible,
		created_ns, heartbeat_ns, committed_ns, batches, host, machine_id,
		previous_number, previous_batches) VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?)`,
		b.number, b.tapeID, s.state, migrations.Version, segment.KnownCompatible, segment.KnownIncompatible,
		s.created, s.created, time.Now().UnixNano(), s.host, s.machineID, previous, previousBatches)
	if err != nil {
		return err
	}
	if err := s.putBoot(o.Kernel, s.created); err != nil {
		return err
	}
	// else a time before the first anchor would have no text
	return s.exec(`INSERT INTO clock (id, offset_ns, kind) VALUES (0, ?, 'start')`, b.wallStep)
}
