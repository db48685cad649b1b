package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"github.com/conntape/conntape/recorder"
	"github.com/conntape/conntape/store"
	"github.com/urfave/cli/v2"
)

func (h *host) rotateCommand() *cli.Command {
	return &cli.Command{
		Name:  "rotate",
		Usage: "close the segment that is recorded and begin the next",
		Description: `The closed segment is sealed in the background and can then be copied away: it is never written
again. Its file name is printed. A segment without connections is not closed: that is said, and nothing is
printed. Without a recorder, what was recorded last is closed and sealed at
once. Needs to be root, or who records.

Example:
  sudo conntape rotate`,
		Flags:  []cli.Flag{dirFlag("directory of the tape")},
		Action: h.rotate,
	}
}

func (h *host) rotate(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	a, err := h.ask(c, store.Request{Do: store.DoRotate})
	if err != nil {
		return err
	}
	if a.File == "" {
		_, err = fmt.Fprintln(h.stderr, "conntape: nothing to close: no connection was recorded since this segment began")
		return err
	}
	_, err = fmt.Fprintln(h.stdout, a.File)
	return err
}

// ask sends a request to the tape of --dir.
func (h *host) ask(c *cli.Context, r store.Request) (store.Answer, error) {
	dir, err := h.readDir(c)
	if err != nil {
		return store.Answer{}, err
	}
	log := slog.New(slog.NewTextHandler(h.stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	a, err := recorder.Maintain(c.Context, dir, r, readBuild().Version, log)
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
		return a, &hintedError{err, "whoever may read a tape can list its holds, but only its owner can change it; put sudo in front of " + c.Command.HelpName}
	}
	return a, err
}
