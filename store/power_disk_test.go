package store

import (
	"bytes"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// lossyDisk is a file system of which a power loss leaves what was synced, and of the
// rest any part in any order: a content without the sync of its file, a name
// without the sync of its directory. Only what POSIX promises is relied upon.
type lossyDisk struct {
	names   map[string]*node // by path, as programs see them
	durable map[string]*node // as of the last sync of each directory
	pending []nameChange
}

// node is a file or a directory.
type node struct {
	dir     bool
	now     []byte // as programs see it
	synced  []byte
	mode    fs.FileMode
	kept    fs.FileMode // mode that was synced
	pending []dataChange
}

// nameChange makes, renames or removes a name. An empty from or to is none.
type nameChange struct {
	at       int // operation that made it
	from, to string
	node     *node
	other    *node // gets the name from; nil: nothing does
}

// dataChange writes data at an offset in bytes; nil cuts the file there.
type dataChange struct {
	at     int
	offset int64
	data   []byte
}

func newDisk(root string) *lossyDisk {
	d := &lossyDisk{names: map[string]*node{}, durable: map[string]*node{}}
	d.names[root] = &node{dir: true, mode: 0o755, kept: 0o755}
	d.durable[root] = d.names[root]
	return d
}

// rename is also how a name is made and removed.
func (d *lossyDisk) rename(at int, from, to string, n *node) {
	delete(d.names, from)
	if to != "" {
		d.names[to] = n
	}
	d.pending = append(d.pending, nameChange{at: at, from: from, to: to, node: n})
}

// exchange gives two files the name of the other.
func (d *lossyDisk) exchange(at int, a, b string) {
	c := nameChange{at: at, from: a, to: b, node: d.names[a], other: d.names[b]}
	c.apply(d.names)
	d.pending = append(d.pending, c)
}

func (n *node) change(c dataChange) {
	n.now = c.apply(n.now)
	n.pending = append(n.pending, c)
}

func (c dataChange) apply(data []byte) []byte {
	if c.data == nil {
		return sized(data, c.offset)
	}
	if end := c.offset + int64(len(c.data)); end > int64(len(data)) {
		data = sized(data, end)
	}
	copy(data[c.offset:], c.data)
	return data
}

func sized(data []byte, size int64) []byte {
	if size <= int64(len(data)) {
		return data[:size:size]
	}
	return append(data, make([]byte, size-int64(len(data)))...)
}

// sync makes durable what was done to n before operation began.
func (d *lossyDisk) sync(n *node, began int) {
	if n.dir {
		in := func(name string) bool { return name != "" && d.names[path.Dir(name)] == n }
		d.pending = slices.DeleteFunc(d.pending, func(c nameChange) bool {
			if c.at >= began || !in(c.from) && !in(c.to) {
				return false
			}
			c.apply(d.durable)
			return true
		})
		return
	}
	n.pending = slices.DeleteFunc(n.pending, func(c dataChange) bool {
		if c.at >= began {
			return false
		}
		n.synced = c.apply(n.synced)
		return true
	})
	n.kept = n.mode
}

func (c nameChange) apply(names map[string]*node) {
	delete(names, c.from)
	if c.to != "" {
		names[c.to] = c.node
	}
	if c.other != nil {
		names[c.from] = c.other
	}
}

// crash writes what is there when the power comes back to a directory: without r
// only what was synced, else a random part of the rest too.
func (d *lossyDisk) crash(t testing.TB, r *rand.Rand, root, to string) {
	t.Helper()
	names := maps.Clone(d.durable)
	for _, c := range d.pending {
		if r != nil && r.IntN(2) == 0 {
			c.apply(names)
		}
	}
	written, made := map[*node]string{}, map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(names)) { // directories before what is in them
		n := names[name]
		if name != root && !made[path.Dir(name)] {
			continue // its directory is not there
		}
		made[name] = n.dir
		target := filepath.Join(to, strings.TrimPrefix(name, root))
		mode := n.kept
		if r != nil && r.IntN(2) == 0 {
			mode = n.mode
		}
		var err error
		switch first, again := written[n]; {
		case n.dir:
			err = os.MkdirAll(target, 0o700)
		case again:
			err = os.Link(first, target)
		default:
			err = os.WriteFile(target, n.crash(r), 0o600)
			written[n] = target
		}
		if err == nil {
			err = os.Chmod(target, mode)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// crash returns a content after a crash: writes that were not synced are there, or
// not, or in part, or as zeros.
func (n *node) crash(r *rand.Rand) []byte {
	data := bytes.Clone(n.synced)
	if r == nil {
		return data
	}
	for _, i := range r.Perm(len(n.pending)) {
		c := n.pending[i]
		switch r.IntN(4) {
		case 0:
			continue
		case 1:
			if len(c.data) > 0 {
				c.data = c.data[:r.IntN(len(c.data))+1]
			}
		case 2:
			if c.data != nil {
				c.data = make([]byte, len(c.data))
			}
		}
		data = c.apply(data)
	}
	return data
}

// compare makes sure that what was played is what there is.
func (d *lossyDisk) compare(t testing.TB) {
	t.Helper()
	for name, n := range d.names {
		if n.dir {
			continue
		}
		data, err := os.ReadFile(name)
		if err != nil || !bytes.Equal(data, n.now) {
			t.Fatalf("%s has %d bytes, %d were played: %v", name, len(data), len(n.now), err)
		}
		info, err := os.Stat(name)
		if err != nil || info.Mode().Perm() != n.mode {
			t.Fatalf("%s: mode %v, %v was played: %v", name, info.Mode(), n.mode, err)
		}
	}
}
