package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/conntape/conntape/store/trusted"
)

func outputFlag() cli.Flag {
	return &cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "`FILE` write the answer to this file, not to stdout; it appears once it is whole, readable by you alone"}
}

// formatOf returns the format for a file's name, "" if it has no known extension.
func formatOf(name string) string {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".csv":
		return "csv"
	case ".tsv", ".tab":
		return "tsv"
	case ".json":
		return "json"
	case ".jsonl", ".ndjson":
		return "jsonl"
	case ".md", ".markdown":
		return "markdown"
	case ".html", ".htm":
		return "html"
	case ".parquet":
		return "parquet"
	case ".txt":
		return "table"
	}
	return ""
}

// checkOutput refuses a name that is not a regular file, or is in the tape.
func checkOutput(name, tape string) error {
	if name == "" {
		return usagef("name a file, such as answer.csv", "--output is empty")
	}
	info, err := os.Lstat(name)
	if err == nil && info.Mode()&fs.ModeSymlink != 0 {
		return usagef("name the file that it leads to, or remove the link", "--output %s is a link, and a file is not written through one", name)
	}
	if err == nil && !info.Mode().IsRegular() {
		return usagef("name a file; to write to stdout leave --output out", "--output %s is no regular file", name)
	}
	folder, err := os.Stat(filepath.Dir(name))
	if err != nil {
		return usagef("make the directory first", "--output %s: there is no directory %s", name, filepath.Dir(name))
	}
	if info, err := os.Stat(tape); err == nil && !info.IsDir() {
		tape = filepath.Dir(tape)
	}
	if info, err := os.Stat(tape); err == nil && os.SameFile(info, folder) {
		return usagef("name a file elsewhere", "--output %s would be among the files of the tape", name)
	}
	return nil
}

// writeWhole creates a file from the output of write, readable only by its owner. The file has a temporary name until it
// is synced, so the final name is always a complete answer: the old or the new one.
func writeWhole(name string, write func(io.Writer) error) (err error) {
	// A link of another user on the way must not decide where the file goes, so the directory is opened once. A link
	// with the file's own name is replaced.
	folder, err := trusted.Open(filepath.Dir(name))
	if err != nil {
		return fmt.Errorf("write answer: %w", err)
	}
	defer folder.Close()
	path := fmt.Sprintf("/proc/self/fd/%d/%s", folder.Fd(), filepath.Base(name))
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // 0600
	if err != nil {
		return writeError(name, err)
	}
	defer func() {
		if err != nil {
			file.Close()
			os.Remove(file.Name())
		}
	}()
	if err := write(file); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return writeError(name, err)
	}
	if err := file.Close(); err != nil {
		return writeError(name, err)
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return writeError(name, err)
	}
	return nil
}

// writeError is a write error with the file's name as given.
func writeError(name string, err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		err = errno
	}
	return fmt.Errorf("write answer: %s: %w", name, err)
}

// readOutput reads --output and the format of a file: --format, else by the file's name, else csv.
func (h *host) readOutput(c *cli.Context, q *question) error {
	if !c.IsSet("output") {
		return nil
	}
	q.output = c.String("output")
	if err := checkOutput(q.output, q.dir); err != nil {
		return err
	}
	q.width, q.paint = 0, false
	if !c.IsSet("format") && !c.Bool("table") {
		if q.format = formatOf(q.output); q.format == "" {
			q.format = "csv"
		}
	}
	return nil
}
