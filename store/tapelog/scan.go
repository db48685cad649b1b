package tapelog

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// Scan calls fn for each leaf of a kind, in writing order. It verifies nothing and parses no other lines, which makes it
// fast on a log of months. It skips damaged lines; a leaf that was written again after a disk error comes twice. The
// error is ErrNoLog if there is no log, of the operating system, or of fn.
func Scan(dir string, kind Kind, fn func(Leaf) error) error {
	return scan(&directory{path: dir}, kind, fn)
}

func scan(fsys files, kind Kind, fn func(Leaf) error) error {
	defer fsys.close()
	names, err := fsys.list()
	if err != nil {
		return fmt.Errorf("list log: %w", err)
	}
	numbers := partNumbers(names)
	if len(numbers) == 0 {
		return ErrNoLog
	}
	for _, n := range numbers {
		f, err := fsys.read(partName(n))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("open log: %w", err)
		}
		err = scanPart(f, kind, fn)
		f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// scanBuffer is the read size.
const scanBuffer = 1 << 20

// scanPart is Scan of one part.
func scanPart(f file, kind Kind, fn func(Leaf) error) error {
	word := []byte(" " + string(kind) + " ")
	in := bufio.NewReaderSize(&sequential{f: f}, scanBuffer)
	for range mostLeaves {
		line, err := in.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, bufio.ErrBufferFull): // unfinished, or not a recorder's line
			return nil
		case err != nil:
			return fmt.Errorf("read log: %w", err)
		case !bytes.Contains(line[:min(len(line), len("-9223372036854775808")+len(word))], word):
			continue
		}
		e, err := parseEntry(line[:len(line)-1])
		if err != nil || e.leaf.Kind != kind {
			continue
		}
		if err := fn(e.leaf); err != nil {
			return err
		}
	}
	return nil // more than a part can have
}
