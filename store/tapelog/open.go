package tapelog

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
)

// load finds the end of the log and the key that continues it.
func (l *Log) load() error {
	last, err := l.openLastPart()
	if err != nil {
		return err
	}
	var keys []*state
	if l.keys, keys, err = openKeys(l.files, l.vault); err != nil {
		return err
	}
	if last == nil {
		why := ""
		if l.number > 0 {
			why = "no part of it can be read"
		}
		return l.begin(why)
	}
	s, why := fitting(keys, last)
	if s == nil {
		return l.begin(why)
	}
	if s, err = l.goOn(s, keys, last); err != nil {
		return err
	}
	for _, other := range keys {
		if other != s {
			other.erase()
			if err := l.keys.erase(other.tree.size, s); err != nil {
				return err
			}
		}
	}
	return nil
}

// lastPart is the newest part and its end.
type lastPart struct {
	header *partHeader
	tail   tail
	size   int64
	unborn bool // it has no header and never had a line
}

// reaches returns the number of leaves up to the part's end.
func (p *lastPart) reaches() int64 {
	if p.tail.last == nil {
		return p.header.tree.size
	}
	return p.tail.last.leaf.Seq + 1
}

// openLastPart opens the newest part. It removes a part without a header, which a crash left and which never had a line.
func (l *Log) openLastPart() (*lastPart, error) {
	names, err := l.files.list()
	if err != nil {
		return nil, fmt.Errorf("list log: %w", err)
	}
	numbers := partNumbers(names)
	for i := len(numbers) - 1; i >= 0; i-- {
		f, err := l.files.open(partName(numbers[i]))
		if err != nil {
			return nil, fmt.Errorf("open log: %w", err)
		}
		p, err := examine(f)
		if err == nil {
			l.number = max(l.number, numbers[i])
			l.part = f
			return p, nil
		}
		f.Close()
		if !errors.Is(err, errPart) {
			return nil, err
		}
		if !p.unborn {
			l.logger.Error("damaged part of the log left as it is", "part", partName(numbers[i]))
			l.number = max(l.number, numbers[i])
			continue
		}
		l.logger.Warn("unfinished part of the log removed", "part", partName(numbers[i]))
		if err := l.files.remove(partName(numbers[i])); err != nil {
			return nil, fmt.Errorf("remove part: %w", err)
		}
	}
	return nil, nil
}

// examine reads a part to its end. With the error errPart, the result tells whether the part was more than a beginning.
func examine(f file) (*lastPart, error) {
	p, r, err := examineStart(f)
	if err != nil {
		return p, err
	}
	if p.tail, err = r.readTail(); err != nil {
		return nil, err
	}
	return p, nil
}

// examineHeader is examine without the lines.
func examineHeader(f file) (*lastPart, error) {
	p, _, err := examineStart(f)
	return p, err
}

func examineStart(f file) (*lastPart, *partReader, error) {
	size, err := f.size()
	if err != nil {
		return nil, nil, fmt.Errorf("read log: %w", err)
	}
	p := &lastPart{size: size}
	r, err := readPart(&sequential{f: f})
	if errors.Is(err, errPart) {
		start := make([]byte, min(size, maxLine))
		if _, err := f.ReadAt(start, 0); err != nil && !errors.Is(err, io.EOF) {
			return nil, nil, fmt.Errorf("read log: %w", err)
		}
		p.unborn = size < maxLine && !bytes.Contains(start, []byte(signatureWord))
		return p, nil, errPart
	}
	if err != nil {
		return nil, nil, err
	}
	p.header = r.header
	return p, r, nil
}

// sequential reads a file from its start.
type sequential struct {
	f  file
	at int64
}

// Read reads on.
func (s *sequential) Read(b []byte) (int, error) {
	n, err := s.f.ReadAt(b, s.at)
	s.at += int64(n)
	return n, err
}

// fitting returns the key that continues the log, or the reason for having none. Two keys mean that the recorder was
// killed between storing the next and erasing the last; which of them fits depends on whether the leaf between them was
// written.
func fitting(keys []*state, p *lastPart) (s *state, why string) {
	switch {
	case len(keys) == 0:
		return nil, "there is no key"
	case keys[0].origin != p.header.origin:
		return nil, "the key is of another log"
	case len(keys) == 2 && (keys[1].origin != p.header.origin || keys[1].tree.size != keys[0].tree.size+1):
		return nil, "the key file is damaged"
	}
	s = keys[0]
	if len(keys) == 2 && p.reaches() == keys[1].tree.size && p.tail.last != nil && keys[0].signed(p.tail.last, keys[1].tree) {
		s = keys[1]
	}
	if p.reaches() > s.tree.size || p.header.tree.size > s.tree.size {
		return nil, "the key is older than the log"
	}
	if p.reaches() == s.tree.size {
		want := p.header.key
		if p.tail.last != nil {
			want = p.tail.last.leaf.Next
		}
		if want != s.public {
			return nil, "the key is not the one that the log names"
		}
	}
	return s, ""
}

// signed reports whether e is the leaf of key s; after is the tree with it.
func (s *state) signed(e *entry, after *tree) bool {
	root, err := after.root()
	return err == nil && ed25519.Verify(s.public[:], []byte(Checkpoint{s.origin, after.size, root}.String()), e.signature)
}

// goOn continues the last part with key s. If the part is damaged or lacks leaves, it is evidence, and goOn begins a new
// one. It returns the key in use.
func (l *Log) goOn(s *state, keys []*state, p *lastPart) (*state, error) {
	l.state, l.first, l.end = s, p.header.tree.size, p.tail.end
	if p.tail.first != nil {
		l.begun = p.tail.first.leaf.Real
	}
	l.created = s.tree.size == 0 // a crash came before anybody was told the first key
	aside := func(reason any) {
		l.logger.Error("the log goes on in a new part", "after", partName(l.number), "reason", reason)
		l.part.Close()
		l.part = nil
	}
	if p.tail.damaged || p.reaches() < s.tree.size {
		aside(fmt.Sprintf("it is damaged: it reaches to leaf %d of %d", p.reaches(), s.tree.size))
		return s, nil
	}
	if p.size > p.tail.end {
		l.logger.Warn("unfinished line of the log removed", "part", partName(l.number), "bytes", p.size-p.tail.end)
		if err := l.part.Truncate(p.tail.end); err != nil {
			aside(err)
			return s, nil
		}
	}
	// The last leaf may not be synced, and must be before its key is erased. If that fails, the leaf counts as not
	// written, since nobody was told of it.
	if err := l.part.Sync(); err != nil {
		aside(err)
		l.state = keys[0]
	}
	return l.state, nil
}

// begin begins a new log with a new key.
func (l *Log) begin(why string) error {
	if l.part != nil {
		l.part.Close()
		l.part = nil
	}
	if why != "" {
		l.logger.Error("the log is begun anew", "reason", why)
	}
	l.vault.Erase(0)
	l.vault.Erase(1)
	var id [16]byte
	rand.Read(id[:]) // never fails
	var err error
	if l.state, err = newState(l.vault, originPrefix+hex.EncodeToString(id[:]), &tree{}); err != nil {
		return err
	}
	if _, err := l.state.newPart(); err != nil {
		return err
	}
	if err := l.keys.replace(l.state); err != nil {
		return err
	}
	if err := l.startPart(); err != nil {
		return err
	}
	l.created = true
	return nil
}
