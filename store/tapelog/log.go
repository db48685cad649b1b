package tapelog

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"

	"github.com/conntape/conntape/store/tapelog/vault"
)

// Options of a log.
type Options struct {
	// Give makes a new file or directory readable for the tape's readers; nil: only the mode is set.
	Give func(path string, mode fs.FileMode) error
	// PartLeaves is the number of leaves in a part; 0: a week of checkpoints.
	PartLeaves int64
	Logger     *slog.Logger // nil: discard
}

// Log is a log being written. Only one process at a time may open it; the tape's lock ensures that. It is safe for
// concurrent use.
type Log struct {
	files   files
	logger  *slog.Logger
	perPart int64 // leaves in a part

	mu      sync.Mutex
	vault   *vault.Vault // keys of state and pending
	keys    *keyFile
	state   *state
	pending *pending // a signed leaf that could not be written
	part    file     // last part; nil: it could not be written
	number  int      // number of the last part
	first   int64    // its first leaf
	begun   int64    // time of its first leaf, ns since the Unix epoch; 0: none
	end     int64    // offset of the next line
	spare   int64    // end of the allocated disk space
	head    []byte   // signed checkpoint of the last appended leaf
	created bool
	closed  bool
}

// pending is a leaf being written. It is signed once, and rewritten byte for byte if that fails, so that no key ever
// signs two leaves.
type pending struct {
	line []byte
	head []byte
	next *state // state after the leaf
	real int64  // its time, ns since the Unix epoch
}

// ErrClosed is returned by the methods of a closed log.
var ErrClosed = errors.New("the log is closed")

// Open opens the log in dir, or begins one, and repairs the result of a crash: it removes an unfinished line, which was
// never acknowledged. If the key is missing or does not fit the log, it begins a new log in the next part, with a new
// key (Created then returns true); the old parts stay unchanged, and [Verify] reports this.
func Open(dir string, o Options) (*Log, error) {
	return open(&directory{path: dir, give: o.Give}, o)
}

func open(fsys files, o Options) (*Log, error) {
	l := &Log{files: fsys, logger: o.Logger, perPart: partLeaves}
	if o.PartLeaves > 0 {
		l.perPart = o.PartLeaves
	}
	if l.logger == nil {
		l.logger = slog.New(slog.DiscardHandler)
	}
	if err := fsys.makeDir(); err != nil {
		return nil, fmt.Errorf("make log directory: %w", err)
	}
	var err error
	if l.vault, err = vault.New(); err != nil {
		return nil, err
	}
	if l.vault.Protection() == vault.Plain {
		l.logger.Warn("keys of the log are in memory that may be swapped out: the limit on locked memory is too low")
	}
	if err := l.load(); err != nil {
		l.shut()
		return nil, err
	}
	l.keepStable()
	return l, nil
}

// startPart begins a new part at the next leaf.
func (l *Log) startPart() error {
	l.number++
	name := partName(l.number)
	h := &partHeader{origin: l.state.origin, tree: l.state.tree, key: l.state.public}
	h.sign(l.state)
	header := h.String()
	f, err := l.files.create(name)
	if err != nil {
		return fmt.Errorf("create part: %w", err)
	}
	if _, err = f.WriteAt([]byte(header), 0); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = l.files.syncDir()
	}
	if err != nil {
		f.Close()
		l.files.remove(name) // else the next Open does
		return fmt.Errorf("write part: %w", err)
	}
	l.part, l.first, l.end, l.begun, l.spare = f, l.state.tree.size, int64(len(header)), 0, 0
	return nil
}

// Created reports whether Open began this log, or found one without a leaf.
func (l *Log) Created() bool { return l.created }

// Origin returns the first line of the log's checkpoints.
func (l *Log) Origin() string { return l.state.origin }

// FirstKey returns the verifier key of the first leaf, to be kept elsewhere. It is "" unless Open has just begun the
// log: later the key is no better than the log itself.
func (l *Log) FirstKey() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.created || l.state.tree.size > 0 {
		return ""
	}
	return verifierKey(l.state.origin, l.state.public)
}

// Append writes a leaf and returns its signed checkpoint, a note to be kept elsewhere. When it returns nil, leaf and
// signature are synced and the key is erased. On an error it keeps the leaf, and writes it before the next one or in
// Flush.
func (l *Log) Append(leaf Leaf) (head []byte, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.flush(); err != nil {
		return nil, err
	}
	if l.pending, err = l.sign(leaf); err != nil {
		return nil, err
	}
	if err := l.flush(); err != nil {
		return nil, err
	}
	return l.head, nil
}

// Pending reports whether a leaf could not be written yet.
func (l *Log) Pending() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pending != nil
}

// sign makes and signs the next leaf.
func (l *Log) sign(leaf Leaf) (*pending, error) {
	if !leaf.Kind.known() {
		return nil, fmt.Errorf("append leaf: unknown kind %q", leaf.Kind)
	}
	leaf.Seq = l.state.tree.size
	next, err := l.nextState(&leaf)
	if err != nil {
		return nil, err
	}
	text := leaf.String()
	if next.tree, err = l.state.tree.appended(text); err != nil {
		return nil, err
	}
	root, err := next.tree.root()
	if err != nil {
		return nil, err
	}
	c := Checkpoint{l.state.origin, next.tree.size, root}
	signature := l.state.sign(c)
	p := &pending{line: formatEntry(text, signature), next: next, real: leaf.Real}
	if len(p.line) > maxLine {
		return nil, fmt.Errorf("append leaf: %d bytes are too long", len(p.line))
	}
	if p.head, err = formatHead(c, l.state.public, signature); err != nil {
		return nil, err
	}
	return p, nil
}

// nextState makes the next keys and writes them into the leaf.
func (l *Log) nextState(leaf *Leaf) (*state, error) {
	// The leaf has the key, and the tree's hashes depend on the leaf: they come later.
	next, err := newState(l.vault, l.state.origin, &tree{size: leaf.Seq + 1})
	if err != nil {
		return nil, err
	}
	leaf.Part, leaf.Next = Hash{}, next.public
	if leaf.Seq > 0 && !l.partIsFull(leaf.Real) {
		l.vault.CopyPart(next.slot(), l.state.slot())
		return next, nil
	}
	leaf.Part, err = next.newPart()
	return next, err
}

// partIsFull reports whether the next leaf, at this time, begins a new part.
func (l *Log) partIsFull(real int64) bool {
	return l.part != nil && (l.state.tree.size-l.first >= l.perPart || l.begun != 0 && real-l.begun >= int64(partAge))
}

// flush writes the pending leaf.
func (l *Log) flush() error {
	if l.closed {
		return ErrClosed
	}
	if l.pending == nil {
		return nil
	}
	p := l.pending
	if l.partIsFull(p.real) {
		l.part.release(l.end)
		if err := l.part.Close(); err != nil {
			l.logger.Warn("part not closed", "error", err)
		}
		l.part = nil
	}
	if err := l.keys.put(p.next, l.state); err != nil {
		return err
	}
	if err := l.write(p.line); err != nil {
		return err
	}
	old := l.state
	l.state, l.head, l.pending = p.next, p.head, nil
	if l.begun == 0 {
		l.begun = p.real
	}
	defer old.erase()
	if err := l.keys.erase(old.tree.size, l.state); err != nil {
		// The leaf is safe. The next one overwrites the slot anyway.
		l.logger.Error("old key of the log not erased", "leaf", old.tree.size, "error", err)
	}
	return nil
}

// write appends a line and syncs. It does not touch a failed part again: the line goes to a new one.
func (l *Log) write(line []byte) error {
	if l.part != nil {
		err := l.writePart(line)
		if err == nil {
			return nil
		}
		l.logger.Error("part of the log set aside", "part", partName(l.number), "error", err)
		l.part.Close()
		l.part = nil
	}
	if err := l.startPart(); err != nil {
		return err
	}
	err := l.writePart(line)
	if err != nil {
		// Nobody was told of a line in it, so it is removed: else every try on a full disk would leave a part.
		l.part.Close()
		l.part = nil
		l.files.remove(partName(l.number))
	}
	return err
}

// spareBytes is the disk space allocated for the next lines of a part. When a full disk makes the recorder remove a
// segment, the removal must get into the log before the recorder can be killed, while the disk is still full.
const spareBytes = 64 << 10

// setAside allocates disk space for the next lines.
func (l *Log) setAside() {
	if l.spare-l.end < spareBytes/2 && l.part.reserve(l.end, spareBytes) {
		l.spare = l.end + spareBytes
	}
}

func (l *Log) writePart(line []byte) error {
	l.setAside()
	if _, err := l.part.WriteAt(line, l.end); err != nil {
		return fmt.Errorf("write log: %w", err)
	}
	if err := l.part.Sync(); err != nil {
		return fmt.Errorf("sync log: %w", err)
	}
	l.end += int64(len(line))
	return nil
}

// Close tries again to write the pending leaf, and closes the files.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ErrClosed
	}
	err := l.flush()
	l.closed = true
	return errors.Join(err, l.shut())
}

func (l *Log) shut() (err error) {
	if l.part != nil {
		l.part.release(l.end)
		err = l.part.Close()
		l.part = nil
	}
	if l.keys != nil {
		err = errors.Join(err, l.keys.close())
	}
	if l.vault != nil {
		l.vault.Close()
	}
	l.files.close()
	return err
}
