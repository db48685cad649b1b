package store

import (
	"fmt"
	"path/filepath"
	"slices"
	"sync"

	"zombiezen.com/go/sqlite"
)

// A tape is opened from two ends at the same time: the newest segment, which is copied, and the others, which are
// described, attached and put under views meanwhile.

// attaching is a connection that segments are attached to, oldest first, and then views put over.
type attaching struct {
	conn  *sqlite.Conn
	segs  []*openSegment
	count int // of segments that there will be
	views []string
}

func newAttaching(count int) (*attaching, error) {
	conn, err := openReader()
	if err != nil {
		return nil, err
	}
	return &attaching{conn: conn, count: count}, nil
}

// add attaches the next segment.
func (a *attaching) add(seg *openSegment) (err error) {
	seg.schema = fmt.Sprintf("s%d", len(a.segs)+1)
	a.segs = append(a.segs, seg)
	if seg.tables, err = openTables(seg.file); err == nil {
		if err := seg.attach(a.conn); err != nil {
			return err
		}
		err = seg.tables.find(a.conn, seg.schema)
	}
	if err != nil {
		if !isThere(seg.file) {
			err = errVanished
		}
		return fmt.Errorf("open %s: %w", filepath.Base(seg.info.Path), err)
	}
	return nil
}

// view puts a view over all segments, of which those that are not attached yet are taken to have the schema of the last
// that is.
func (a *attaching) view(name string) error {
	if slices.Contains(a.views, name) {
		return nil
	}
	segs := slices.Clone(a.segs)
	for len(segs) < a.count {
		next := &openSegment{schema: fmt.Sprintf("s%d", len(segs)+1)}
		next.info.SchemaVersion = segs[len(segs)-1].info.SchemaVersion
		segs = append(segs, next)
	}
	var schemas []map[string]string
	for _, seg := range segs {
		schema, err := expectedSchema(seg.info.SchemaVersion)
		if err != nil {
			return err
		}
		schemas = append(schemas, schema)
	}
	text, err := tempView(name, schemas, segs, "")
	if err != nil {
		return err
	}
	if err := execOn(a.conn, nil, text); err != nil {
		return fmt.Errorf("make view %s: %w", name, err)
	}
	a.views = append(a.views, name)
	return nil
}

// fits reports whether these segments can be attached in the place of those that were expected.
func (a *attaching) fits(segs []*openSegment) bool {
	if a == nil || a.count != len(segs) || !slices.Equal(a.segs, segs[:len(a.segs)]) {
		return false
	}
	return !slices.ContainsFunc(segs[len(a.segs):], func(seg *openSegment) bool {
		return seg.info.SchemaVersion != a.segs[len(a.segs)-1].info.SchemaVersion
	})
}

// close gives up what was begun.
func (a *attaching) close() {
	if a == nil {
		return
	}
	a.conn.Close()
	for _, seg := range a.segs {
		if seg.tables != nil {
			seg.tables.file.Close()
			seg.tables = nil
		}
	}
}

// beginning is what is done with the segments that need no copy, whose commits all count, while the others are copied.
type beginning struct {
	ready map[string]func() (*openSegment, error) // by file name
	done  chan *attaching
}

// begin begins to open segments, oldest first.
func begin(names []string, copies string) *beginning {
	b := &beginning{ready: map[string]func() (*openSegment, error){}, done: make(chan *attaching, 1)}
	var order []func() (*openSegment, error)
	oldest := 0 // how many are attached ahead: up to the first that is copied
	for i, name := range names {
		if needsSnapshot(name) {
			continue
		}
		b.ready[name] = sync.OnceValues(func() (*openSegment, error) { return prepareSegment(name, copies, -1) })
		order = append(order, b.ready[name])
		if len(order) == i+1 {
			oldest = i + 1
		}
	}
	go func() {
		var segs []*openSegment
		failed := false
		for _, prepare := range order {
			seg, err := prepare() // whoever needs it gets the error too
			segs, failed = append(segs, seg), failed || err != nil
		}
		if failed || oldest == 0 {
			b.done <- nil
			return
		}
		b.done <- attachAhead(segs[:oldest], len(names))
	}()
	return b
}

// wait waits until nothing is done any more, and returns what was attached, nil: nothing.
func (b *beginning) wait() *attaching { return <-b.done }

// attachAhead attaches segments as they are ready, and makes all views but that of gaps, for which each segment must
// know the next; nil where that cannot be done, of which whoever does it in order learns why.
func attachAhead(segs []*openSegment, count int) *attaching {
	a, err := newAttaching(count)
	if err != nil {
		return nil
	}
	for _, seg := range segs {
		if err == nil {
			err = a.add(seg)
		}
	}
	for _, name := range publicViews {
		if err == nil && name != "gaps" {
			err = a.view(name)
		}
	}
	if err != nil {
		a.close()
		return nil
	}
	return a
}
