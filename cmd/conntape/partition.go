package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/report"
	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/store/segment"
)

// exportPartitioned writes the sealed segments of a tape as Parquet, each once: host=…/date=…/part-TAPE-NUMBER.parquet below a
// directory. A file below _conntape/ says that a segment is there whole. It is written last, so that a segment whose export was
// interrupted is written again, over what there is of it.
func (h *host) exportPartitioned(c *cli.Context) (err error) {
	dir, err := h.readDir(c)
	if err != nil {
		return err
	}
	to := c.String("partition")
	switch {
	case to == "":
		return usagef("name a directory, such as /srv/fleet", "--partition is empty")
	case c.NArg() > 1, c.NArg() == 1 && c.Args().First() != "connections":
		return usagef("leave out the view", "only connections are written by --partition")
	case c.IsSet("output"), c.IsSet("format") && c.String("format") != "parquet", c.IsSet("since"), c.IsSet("until"), c.IsSet("limit"):
		return usagef("leave the other flags out, or export a window with --output window.parquet", "--partition writes whole segments as Parquet, below a directory")
	}
	filter, err := readFilter(c, report.Connections)
	if err == nil && !filter.IsEmpty() {
		err = usagef("export a part with --output window.parquet", "--partition writes whole segments, and takes no filter")
	}
	if err != nil {
		return err
	}
	tape, err := store.OpenTapeContext(c.Context, dir)
	if err != nil {
		return err
	}
	defer tape.Close()
	places, err := report.SealedSegments(c.Context, tape)
	if err != nil {
		return findDamage(tape, err)
	}
	p := &partition{root: to, options: format.Options{Identity: report.IdentityOf(tape), Identified: true}}
	written, skipped := 0, 0
	for _, place := range places {
		fresh, err := p.export(c.Context, tape, place)
		if err != nil {
			return noDamage(tape, err)
		}
		if fresh {
			written++
		} else {
			skipped++
		}
	}
	if !c.Bool("quiet") {
		note(h.stderr, fmt.Sprintf("%s: segments written: %d, there already: %d, not sealed yet: %d", to, written, skipped, len(tape.Segments())-len(places)))
	}
	return nil
}

// partition is a directory of parts.
type partition struct {
	root    string
	options format.Options
}

// export writes a segment, unless it is there, and reports whether it was not.
func (p *partition) export(ctx context.Context, tape *store.Tape, place int) (fresh bool, err error) {
	info := tape.Segments()[place]
	done := filepath.Join(p.root, "_conntape", info.TapeID, fmt.Sprintf("%08d", info.Number))
	if _, err := os.Lstat(done); !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	var files []*partFile
	defer func() {
		for _, f := range files {
			f.abandon()
		}
	}()
	out := format.ByDate(p.options, func(date string) (io.WriteCloser, error) {
		f, err := p.begin(&info, date)
		if err == nil {
			files = append(files, f)
		}
		return f, err
	})
	result, err := report.ExportSegment(ctx, tape, place, out)
	if err != nil {
		return false, err
	}
	for _, f := range files {
		if err := f.publish(); err != nil {
			return false, err
		}
	}
	if err := os.MkdirAll(filepath.Dir(done), 0o700); err != nil {
		return false, err
	}
	return true, writeWhole(done, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "rows: %d\n", result.Rows)
		return err
	})
}

// begin begins the file of a segment's rows of one date.
func (p *partition) begin(info *segment.Info, date string) (*partFile, error) {
	folder := filepath.Join(p.root, "host="+url.PathEscape(p.options.Identity.Host), "date="+date)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(folder, fmt.Sprintf("part-%.8s-%08d.parquet", info.TapeID, info.Number))
	file, err := os.CreateTemp(folder, "."+filepath.Base(path)+".*") // 0600
	return &partFile{File: file, path: path}, err
}

// partFile is a file that has another name until it is whole.
type partFile struct {
	*os.File
	path string
}

// Close has the file written to the disk.
func (f *partFile) Close() error { return errors.Join(f.Sync(), f.File.Close()) }

// publish gives the file its name.
func (f *partFile) publish() error {
	if err := os.Rename(f.Name(), f.path); err != nil {
		return err
	}
	f.path = ""
	return nil
}

// abandon removes a file that was not published.
func (f *partFile) abandon() {
	if f.path != "" {
		f.File.Close()
		os.Remove(f.Name())
	}
}
