package tapelog

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sys/unix"
)

// Head returns the last leaf of a log and its signed checkpoint. Both are synced first, so that they survive a power
// loss. It only reads the last part and verifies nothing; [Verify] does. The error is ErrNoLog if there is no leaf.
func Head(dir string) ([]byte, Leaf, error) { return head(&directory{path: dir}) }

func head(fsys files) ([]byte, Leaf, error) {
	defer fsys.close()
	return lastHead(fsys)
}

// lastHead is head for a directory that stays open.
func lastHead(fsys files) ([]byte, Leaf, error) {
	names, err := fsys.list()
	if err != nil {
		return nil, Leaf{}, fmt.Errorf("list log: %w", err)
	}
	numbers := partNumbers(names)
	slices.Reverse(numbers)
	for _, n := range numbers {
		f, err := fsys.read(partName(n))
		if err != nil {
			return nil, Leaf{}, fmt.Errorf("open log: %w", err)
		}
		text, leaf, err := headOf(f)
		f.Close()
		if err == nil || !errors.Is(err, errPart) {
			return text, leaf, err
		}
	}
	return nil, Leaf{}, ErrNoLog
}

// headOf returns the head of a part, errPart if the part has no leaf.
func headOf(f file) ([]byte, Leaf, error) {
	p, err := readPart(&sequential{f: f})
	if err != nil {
		return nil, Leaf{}, err
	}
	t, key := p.header.tree, p.header.key
	var text []byte
	var last Leaf
	for {
		e, err := p.next()
		if errors.Is(err, io.EOF) || errors.Is(err, errLine) || errors.Is(err, errJunk) || err == nil && e.leaf.Seq != t.size {
			break // the end, or an unfinished line
		}
		if err != nil {
			return nil, Leaf{}, err
		}
		if t, err = t.appended(e.text); err != nil {
			return nil, Leaf{}, err
		}
		root, err := t.root()
		if err != nil {
			return nil, Leaf{}, err
		}
		if text, err = formatHead(Checkpoint{p.header.origin, t.size, root}, key, e.signature); err != nil {
			return nil, Leaf{}, err
		}
		key, last = e.leaf.Next, e.leaf
	}
	if text == nil {
		return nil, Leaf{}, errPart
	}
	// The recorder may not have synced the leaf yet.
	if err := f.Sync(); err != nil && !errors.Is(err, unix.EROFS) && !errors.Is(err, unix.EINVAL) {
		return nil, Leaf{}, fmt.Errorf("sync log: %w", err)
	}
	return text, last, nil
}

// Tail returns the leaves in the last size bytes of a log's last part, in order; none if there is no log. It verifies
// nothing.
func Tail(dir string, size int64) ([]Leaf, error) { return lastLeaves(&directory{path: dir}, size) }

func lastLeaves(fsys files, most int64) ([]Leaf, error) {
	defer fsys.close()
	names, err := fsys.list()
	numbers := partNumbers(names)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(numbers) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list log: %w", err)
	}
	f, err := fsys.read(partName(numbers[len(numbers)-1]))
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	defer f.Close()
	size, err := f.size()
	if err != nil {
		return nil, fmt.Errorf("read log: %w", err)
	}
	text := make([]byte, min(size, most))
	if _, err := f.ReadAt(text, size-int64(len(text))); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read log: %w", err)
	}
	var leaves []Leaf
	for line := range bytes.Lines(text) {
		if e, err := parseEntry(bytes.TrimSuffix(line, []byte{'\n'})); err == nil { // the first line may be cut
			leaves = append(leaves, e.leaf)
		}
	}
	return leaves, nil
}

// HeadLine formats a signed checkpoint as one line, for a system log.
func HeadLine(head []byte) string {
	return strings.Join(strings.Fields(string(head)), " ")
}

// FindHead reads a kept signed checkpoint: the note itself, or a file with HeadLine's lines after any prefix; the
// largest checkpoint counts.
func FindHead(r io.Reader) ([]byte, error) {
	in := bufio.NewReaderSize(r, maxLine)
	start, err := in.Peek(maxLine)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read checkpoint: %w", err)
	}
	if _, _, err := ParseHead(start); err == nil {
		return slices.Clone(start), nil
	}
	var best []byte
	most := int64(-1)
	for {
		line, err := in.ReadSlice('\n')
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull) {
			return nil, fmt.Errorf("read checkpoint: %w", err)
		}
		if note := noteOf(string(line)); note != nil {
			if c, _, perr := ParseHead(note); perr == nil && c.Size > most {
				best, most = note, c.Size
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
	}
	if best == nil {
		return nil, errCheckpoint
	}
	return best, nil
}

// noteOf returns the note in a line, nil if there is none.
func noteOf(line string) []byte {
	at := strings.Index(line, originPrefix)
	if at < 0 {
		return nil
	}
	words := strings.Fields(line[at:])
	if len(words) < 6 {
		return nil
	}
	if _, err := tlog.ParseHash(words[2]); err != nil {
		return nil
	}
	return fmt.Appendf(nil, "%s\n%s\n%s\n\n%s %s %s\n", words[0], words[1], words[2], words[3], words[4], words[5])
}
