package main

import (
	"errors"
	"fmt"

	"github.com/conntape/conntape/generate"

	"github.com/conntape/conntape/query/input"
	"github.com/urfave/cli/v2"
)

// demoDir is the default directory of the demonstration tape.
const demoDir = "conntape-demo"

func (h *host) demoCommand() *cli.Command {
	return &cli.Command{
		Name:  "demo",
		Usage: "write a small tape with a staged intrusion, to try the queries on",
		Description: `Writes a made-up day of a web server: 30,000 connections, and among them an intrusion. It needs no root
and connects to nothing. docs/investigation.md walks through it.

Examples:
  conntape demo
  conntape query beacons --dir conntape-demo`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "dir", Usage: "`PATH` directory to make the tape in, new or empty; the environment variable " + dirVariable + " also sets it", Value: demoDir},
			&cli.StringFlag{Name: "end", Usage: "`TIME` end of the day on the tape", Value: "now"},
			&cli.Int64Flag{Name: "seed", Usage: "`N` seed of the random numbers; the same seed gives the same tape", Value: 1},
			quietFlag(),
		},
		Action: h.demo,
	}
}

func (h *host) demo(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	dir, err := h.readDir(c)
	if err != nil {
		return err
	}
	end, err := input.Clock{Now: h.now()}.ParseTime(c.String("end"), input.Until)
	if err != nil {
		return err
	}
	n, err := generate.WriteDemo(dir, uint64(c.Int64("seed")), end)
	if errors.Is(err, generate.ErrNotEmpty) {
		return usagef("name another directory with --dir, or remove what is there", "%v", err)
	}
	if err != nil {
		return err
	}
	if !c.Bool("quiet") {
		note(h.stderr, fmt.Sprintf("%s holds a day of %d connections, and an intrusion", dir, n))
		note(h.stderr, "try: conntape query beacons --dir "+dir)
		note(h.stderr, "try: conntape query shells --dir "+dir)
		note(h.stderr, "docs/investigation.md walks through it")
	}
	return nil
}
