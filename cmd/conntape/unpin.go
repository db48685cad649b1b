package main

import (
	"errors"

	"github.com/urfave/cli/v2"

	"github.com/conntape/conntape/recorder"
)

// pinDirFlag is for commands that make or remove pins.
func pinDirFlag() cli.Flag {
	return &cli.StringFlag{Name: "pin-dir", Usage: "`PATH` directory in a BPF file system that keeps programs for the next recorder (record --pin)", Value: recorder.DefaultPin}
}

func (h *host) unpinCommand() *cli.Command {
	return &cli.Command{
		Name:  "unpin",
		Usage: "end what record --pin has left in the kernel",
		Description: `A recorder with --pin leaves its programs in the kernel when it ends, so that the next one goes on
where it was. unpin is for when there is to be none: it detaches them. What they have seen since the
recorder ended is gone then. Needs root. It is no error if there is nothing.

Example:
  sudo systemctl disable --now conntape && sudo conntape unpin`,
		Flags:  []cli.Flag{dirFlag("directory of the tape"), pinDirFlag()},
		Action: h.unpin,
	}
}

func (h *host) unpin(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	dir, err := h.readDir(c)
	if err != nil {
		return err
	}
	if !mayRecord() {
		return &hintedError{errors.New("unpin needs root"), "type: sudo conntape unpin"}
	}
	err = recorder.Unpin(c.String("pin-dir"), dir)
	if errors.Is(err, recorder.ErrPinned) {
		return &hintedError{err, "stop it first: systemctl stop conntape"}
	}
	return err
}
