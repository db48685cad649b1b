package tapelog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// Read calls fn for each leaf of a log, in order, until ctx is done. It verifies nothing, not even that no leaf is missing:
// the caller must not rely on the log. A missing log has no leaves.
func Read(ctx context.Context, dir string, fn func(*Leaf)) error {
	d := &directory{path: dir}
	defer d.close()
	names, err := d.list()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list log: %w", err)
	}
	for _, n := range partNumbers(names) {
		if err := readLeaves(ctx, d, partName(n), fn); err != nil {
			return err
		}
	}
	return nil
}

// readLeaves reads one part.
func readLeaves(ctx context.Context, d *directory, name string, fn func(*Leaf)) error {
	f, err := d.read(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // pruned meanwhile
	}
	if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	defer f.Close()
	size, err := f.size()
	if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	part, err := readPart(io.NewSectionReader(f, 0, size))
	if errors.Is(err, errPart) {
		return nil
	}
	if err != nil {
		return err
	}
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		e, err := part.next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, errLine):
		case err != nil:
			return err
		default:
			fn(&e.leaf)
		}
	}
}
