package main

import (
	"github.com/conntape/conntape/store"
	"github.com/urfave/cli/v2"
)

func (h *host) checkpointCommand() *cli.Command {
	return &cli.Command{
		Name:  "checkpoint",
		Usage: "print the signed head of the tape's log, to be kept elsewhere",
		Description: `What is kept on another host proves later, with "conntape verify --head FILE", that nothing recorded
until then was removed, rolled back or rewritten. "conntape record --syslog" sends each one, every
10 seconds, to the system's log.

Examples:
  conntape checkpoint > head
  conntape checkpoint --line | ssh other-host 'cat >> web1.heads'`,
		Flags: []cli.Flag{
			dirFlag("directory of the tape"),
			&cli.BoolFlag{Name: "line", Usage: "write the checkpoint as one line"},
		},
		Action: h.checkpoint,
	}
}

func (h *host) checkpoint(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	dir, err := h.readDir(c)
	if err != nil {
		return err
	}
	head, err := store.ReadCheckpoint(dir)
	if err != nil {
		return err
	}
	if c.Bool("line") {
		head = []byte(store.CheckpointLine(head) + "\n")
	}
	_, err = h.stdout.Write(head)
	return err
}
