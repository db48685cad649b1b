package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/conntape/conntape/store/escape"
	"github.com/conntape/conntape/store/proof"
)

func (h *host) salvageCommand() *cli.Command {
	return &cli.Command{
		Name:      "salvage",
		Usage:     "read what can be read of a damaged segment into a new one",
		ArgsUsage: "FILE",
		Description: `FILE is a segment that cannot be opened any more, with its WAL beside it if it has one. It is read page
by page and not touched; a damaged page costs the rows that it held. The new segment can be asked
like any other, and has a gap that says what is missing. It is written next to FILE unless --output
names another file.

Examples:
  conntape salvage /var/lib/conntape/00000007.db --output ./salvaged.db
  conntape query recent --dir ./salvaged.db`,
		Flags:  []cli.Flag{outputFlag(), quietFlag()},
		Action: h.salvage,
	}
}

func (h *host) salvage(c *cli.Context) error {
	if c.NArg() != 1 {
		return usagef("try: conntape salvage /var/lib/conntape/00000007.db --output ./salvaged.db", "salvage takes one file")
	}
	from, to := c.Args().First(), c.String("output")
	if c.IsSet("output") && to == "" {
		return usagef("give it a name", "--output is empty")
	}
	if to == "" {
		to = strings.TrimSuffix(from, filepath.Ext(from)) + ".salvaged.db"
	}
	result, err := proof.Salvage(c.Context, from, to)
	if err != nil {
		return err
	}
	if !c.Bool("quiet") {
		missing := fmt.Sprintf("%d are missing", result.Missing)
		if result.Missing < 0 {
			missing = "how many there were is not known"
		}
		fmt.Fprintf(h.stderr, "conntape: %d connections salvaged from %d pages; %s\n", result.Rows["connection"], result.Pages, missing)
		if result.Unknown > 0 {
			fmt.Fprintf(h.stderr, "conntape: of %d of them, process, address or result was lost\n", result.Unknown)
		}
		if n := result.Unread; n > 0 {
			fmt.Fprintf(h.stderr, "conntape: %d pages could not be read: the disk gave an error, or the file ends in the middle of one\n", n)
		}
		if n := result.Altered; n > 0 {
			fmt.Fprintf(h.stderr, "conntape: %d pages are not as they were sealed, and were left out\n", n)
		}
		if n := result.Frames; n > 0 {
			fmt.Fprintf(h.stderr, "conntape: %d frames of its WAL are damaged, and were left out\n", n)
		}
		if n := result.Broken; n > 0 {
			fmt.Fprintf(h.stderr, "conntape: %d rows could not be read\n", n)
		}
	}
	_, err = fmt.Fprintln(h.stdout, escape.Safe(to))
	return err
}
