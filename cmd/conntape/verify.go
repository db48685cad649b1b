package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/store/proof"
)

func (h *host) verifyCommand() *cli.Command {
	return &cli.Command{
		Name:      "verify",
		Usage:     "prove that a tape is what was recorded, or tell what is not, and since when",
		ArgsUsage: "[TAPE|SEGMENT]",
		Description: `Checks the log and each signature in it, the hash of each sealed segment, and that rows, indexes,
summaries, counters and gaps agree with each other and with the log. Exits with 3 when something is
wrong. A tape that is being recorded can be verified too.

Without --key a log that was made anew from its first line on cannot be told from the real one, and
without --head or --witness nobody can tell that the end is missing. docs/integrity.md says what is proven.

Examples:
  conntape verify ./tape
  conntape verify --key conntape/3f0c…+8d2e4c11+AbG… --head head ./tape
  conntape verify --head /var/log/remote/web1.log --json ./tape
  conntape verify --witness witness.example+4f7c1a2b+BO… ./tape
  conntape verify --proof 00000007.tlog-proof --witness witness.example+4f7c1a2b+BO… 00000007.db`,
		Flags: []cli.Flag{
			dirFlag("directory of the tape"),
			&cli.StringFlag{Name: "key", Usage: "`KEY` the key that record printed when it began the tape, or a file that holds it"},
			&cli.StringFlag{Name: "head", Usage: "`FILE` a signed checkpoint that you kept, or a system log with several; the newest counts"},
			&cli.StringSliceFlag{Name: "witness", Usage: "`KEY` verifier key of a witness that has cosigned the log; may be repeated, and each must have"},
			&cli.StringFlag{Name: "proof", Usage: "`FILE` verify this proof of one segment, whose file is the argument; --key is then the stable key of the log"},
			&cli.BoolFlag{Name: "json", Usage: "same as --format json"},
			formatFlag([]string{"text", "json"}, "text"), quietFlag(),
		},
		Action: h.verify,
	}
}

func (h *host) verify(c *cli.Context) error {
	form, err := readReportFormat(c)
	if err != nil {
		return err
	}
	if c.IsSet("proof") {
		return h.verifyProof(c, form == "json" || c.Bool("json"))
	}
	dir, err := h.readTapeArgument(c)
	if err != nil {
		return err
	}
	var o proof.Options
	if o.Key, err = readKey(c); err != nil {
		return err
	}
	if o.Head, err = readHead(c); err != nil {
		return err
	}
	o.Witnesses = c.StringSlice("witness")
	if !c.Bool("quiet") {
		o.Progress = h.progressBar()
	}
	v, err := proof.Verify(c.Context, dir, o)
	if o.Progress != nil {
		statusLine{h.stderr}.clear()
	}
	if err != nil {
		return err
	}
	if form == "json" || c.Bool("json") {
		text, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			return fmt.Errorf("encode answer: %w", err)
		}
		_, err = h.stdout.Write(append(format.SafeJSON(text), '\n'))
		if err != nil {
			return err
		}
	} else if err := writeVerification(h.stdout, v); err != nil {
		return err
	}
	if len(v.Problems) > 0 {
		return errFound
	}
	return nil
}

// readTapeArgument reads the tape from the argument or --dir, but not from both.
func (h *host) readTapeArgument(c *cli.Context) (string, error) {
	switch {
	case c.NArg() == 0:
		return h.readDir(c)
	case c.NArg() > 1:
		return "", usagef("", "%s takes one tape, and was given %d words", c.Command.HelpName, c.NArg())
	case c.IsSet("dir"):
		return "", usagef("", "the tape is given twice: %q and --dir %s", c.Args().First(), c.String("dir"))
	}
	return c.Args().First(), nil
}

// readKey reads --key: the key, or a file whose first word of this form is the key.
func readKey(c *cli.Context) (string, error) {
	key := c.String("key")
	if !c.IsSet("key") || strings.HasPrefix(key, "conntape/") && strings.Contains(key, "+") {
		return key, nil
	}
	file, err := os.Open(key)
	if err != nil {
		return "", usagef("give what record printed when it began the tape, conntape/…+…+…, or a file with it", "--key %q is neither a key nor a file that can be read", key)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, 64<<10))
	if err != nil {
		return "", fmt.Errorf("read key: %w", err)
	}
	for word := range strings.FieldsSeq(string(text)) {
		if strings.HasPrefix(word, "conntape/") && strings.Contains(word, "+") {
			return word, nil
		}
	}
	return "", usagef("give what record printed when it began the tape, conntape/…+…+…, or a file with it", "--key %q: there is no key in that file", key)
}

// readHead reads --head.
func readHead(c *cli.Context) ([]byte, error) {
	if !c.IsSet("head") {
		return nil, nil
	}
	const hint = "give a file with what conntape checkpoint printed, or a system log that record --syslog wrote to"
	file, err := os.Open(c.String("head"))
	if err != nil {
		return nil, usagef(hint, "--head: %v", err)
	}
	defer file.Close()
	head, err := proof.FindCheckpoint(file)
	if err != nil {
		return nil, usagef(hint, "--head %s: %v", c.String("head"), err)
	}
	return head, nil
}

// progressBar returns a function that shows the verified bytes on stderr, nil if stderr is no terminal.
func (h *host) progressBar() func(done, total int64) {
	file, ok := h.stderr.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return nil
	}
	var shown time.Time
	return func(done, total int64) {
		if time.Since(shown) < 100*time.Millisecond {
			return
		}
		shown = time.Now()
		statusLine{file}.show(fmt.Sprintf("conntape: verified %d of %d MiB", done>>20, total>>20))
	}
}
