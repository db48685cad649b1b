package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/store/proof"
	"github.com/conntape/conntape/store/trusted"
)

func (h *host) checkpointCommand() *cli.Command {
	return &cli.Command{
		Name:  "checkpoint",
		Usage: "print the signed head of the tape's log, to be kept elsewhere",
		Description: `What is kept on another host proves later, with "conntape verify --head FILE", that nothing recorded
until then was removed, rolled back or rewritten. "conntape record --syslog" sends each one, every
10 seconds, to the system's log. --push does so once, for a timer or cron, to the system's log or to
the end of a file, such as one on a medium that can only be appended to; or has a witness of
transparency logs (C2SP tlog-witness) cosign it, whose cosignature is kept beside the log for
"conntape verify --witness". Several witnesses are asked at once, and cosign the same checkpoint. It exits
with 3 when a witness has seen more of this log than there is.

Examples:
  conntape checkpoint > head
  conntape checkpoint --line | ssh other-host 'cat >> web1.heads'
  conntape checkpoint --push syslog
  conntape checkpoint --push /mnt/worm/web1.heads
  conntape checkpoint --verifier-key
  conntape checkpoint --push https://witness.example --witness witness.example+4f7c1a2b+BO…
  conntape checkpoint --push https://w1.example --witness w1.example+4f7c1a2b+BO… \
    --push https://w2.example --witness w2.example+90ab12cd+BP…`,
		Flags: []cli.Flag{
			dirFlag("directory of the tape"),
			&cli.BoolFlag{Name: "line", Usage: "write the checkpoint as one line"},
			&cli.StringSliceFlag{Name: "push", Usage: "`WHERE` append the checkpoint as one line to this file, send it to the system's log (syslog), or have the witness at this https:// address cosign it; may be repeated"},
			&cli.StringSliceFlag{Name: "witness", Usage: "`KEY` verifier key of the witness to push to, as it publishes it: NAME+HASH+KEY; one for each witness, in the order of --push"},
			&cli.BoolFlag{Name: "verifier-key", Usage: "print the stable key of the log, for witnesses and for those who verify a proof"},
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
	addresses, places := splitPushes(c.StringSlice("push"))
	if err := checkWitnesses(addresses, c.StringSlice("witness")); err != nil {
		return err
	}
	switch {
	case c.Bool("verifier-key") && (c.IsSet("push") || c.Bool("line")):
		return usagef("", "--verifier-key prints a key, and goes with neither --push nor --line")
	case c.Bool("verifier-key"):
		key, err := proof.StableKey(dir)
		if err == nil {
			_, err = fmt.Fprintln(h.stdout, key)
		}
		return err
	}
	if len(places) == 0 && len(addresses) > 0 {
		return h.pushToWitnesses(c.Context, dir, addresses, c.StringSlice("witness"))
	}
	head, err := proof.ReadCheckpoint(dir)
	if err != nil {
		return err
	}
	if len(places) > 0 {
		for _, where := range places {
			err = errors.Join(err, push(head, where))
		}
		if len(addresses) == 0 {
			return err
		}
		cosigned := h.pushToWitnesses(c.Context, dir, addresses, c.StringSlice("witness"))
		if err != nil && errors.Is(cosigned, errFound) { // which alone would be silent
			h.report(err)
		}
		return errors.Join(err, cosigned)
	}
	if c.Bool("line") {
		head = []byte(proof.CheckpointLine(head) + "\n")
	}
	_, err = h.stdout.Write(head)
	return err
}

// splitPushes tells addresses of witnesses from other places.
func splitPushes(all []string) (addresses, places []string) {
	for _, where := range all {
		if strings.Contains(where, "://") {
			addresses = append(addresses, where)
		} else {
			places = append(places, where)
		}
	}
	return addresses, places
}

// push sends a signed checkpoint to a file or the system log.
func push(head []byte, where string) error {
	switch where {
	case "":
		return usagef("name a file, syslog, or the https:// address of a witness", "--push is empty")
	case "syslog":
		system, err := openSyslog()
		if err != nil {
			return &hintedError{err, "is there a system log? --push FILE appends to a file"}
		}
		defer system.Close()
		return system.out.Notice("checkpoint " + proof.CheckpointLine(head))
	}
	return appendLine(where, "checkpoint "+proof.CheckpointLine(head))
}

// appendLine appends a line to a file durably. It creates a missing file and follows no link.
func appendLine(name, line string) (err error) {
	folder, err := trusted.Open(filepath.Dir(name))
	if err != nil {
		return writeError(name, err)
	}
	defer folder.Close()
	fd, err := unix.Openat(int(folder.Fd()), filepath.Base(name), unix.O_WRONLY|unix.O_APPEND|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o600)
	if errors.Is(err, unix.ELOOP) {
		return usagef("name the file that it leads to, or remove the link", "--push %s is a link, and a file is not written through one", name)
	}
	if err != nil {
		return writeError(name, err)
	}
	file := os.NewFile(uintptr(fd), name)
	defer func() {
		if cerr := file.Close(); err == nil && cerr != nil {
			err = writeError(name, cerr)
		}
	}()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return usagef("name a file, or syslog", "--push %s is no regular file", name)
	}
	if _, err := file.WriteString(line + "\n"); err != nil {
		return writeError(name, err)
	}
	if err := file.Sync(); err != nil {
		return writeError(name, err)
	}
	return nil
}
