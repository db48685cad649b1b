package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/store/escape"
	"github.com/conntape/conntape/store/proof"
)

func (h *host) proveCommand() *cli.Command {
	return &cli.Command{
		Name:      "prove",
		Usage:     "write a proof that one sealed segment is what was recorded, for somebody who has nothing else of the tape",
		ArgsUsage: "SEGMENT",
		Description: `SEGMENT is a number or a file name. The proof (C2SP tlog-proof) is text, and says that the log of the
tape has the hash of that segment; "conntape verify --proof" verifies it with the stable key of the
log or with the key of a witness. It takes the newest checkpoint that a witness cosigned since the
segment was sealed; when there is none, one that the stable key signs, which needs root.

Examples:
  conntape prove 7 > 00000007.tlog-proof
  conntape verify --proof 00000007.tlog-proof --key conntape/3f0c…+91ab20d7+AWx… 00000007.db`,
		Flags:  []cli.Flag{dirFlag("directory of the tape"), outputFlag()},
		Action: h.prove,
	}
}

func (h *host) prove(c *cli.Context) error {
	if c.NArg() != 1 {
		return usagef("try: conntape prove 7 > 00000007.tlog-proof", "prove takes one segment, and was given %d words", c.NArg())
	}
	dir, err := h.readDir(c)
	if err != nil {
		return err
	}
	digits := strings.TrimSuffix(filepath.Base(c.Args().First()), ".db")
	number, err := strconv.Atoi(digits)
	if err != nil || number < 1 || number > 99_999_999 {
		return usagef("name a segment by its number or its file: 7, 00000007.db", "%q is no segment", c.Args().First())
	}
	if c.IsSet("output") {
		if err := checkOutput(c.String("output"), dir); err != nil {
			return err
		}
	}
	text, err := proof.ProveSegment(c.Context, dir, number)
	if err != nil {
		return err
	}
	write := func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	}
	if c.IsSet("output") {
		return writeWhole(c.String("output"), write)
	}
	return write(h.stdout)
}

// verifyProof is verify --proof.
func (h *host) verifyProof(c *cli.Context, asJSON bool) error {
	switch {
	case c.NArg() != 1:
		return usagef("try: conntape verify --proof 00000007.tlog-proof --key KEY 00000007.db", "verify --proof takes the file of one segment, and was given %d words", c.NArg())
	case c.IsSet("head"), c.IsSet("dir"):
		return usagef("", "--proof needs nothing of the tape: leave out --dir and --head")
	case !c.IsSet("key") && !c.IsSet("witness"):
		return usagef("add --key with what conntape checkpoint --verifier-key printed, or --witness", "--proof is verified with a key, and none was given")
	}
	key, err := readKey(c)
	if err != nil {
		return err
	}
	text, err := proof.ReadProof(c.String("proof"))
	if err != nil {
		return err
	}
	p, err := proof.VerifyProof(c.Context, text, c.Args().First(), proof.ProofOptions{Key: key, Witnesses: c.StringSlice("witness")})
	unproven := errors.Is(err, proof.ErrUnproven)
	if err != nil && !unproven {
		return err
	}
	if asJSON {
		problem := ""
		if unproven {
			problem = err.Error()
		}
		text, err := json.MarshalIndent(struct {
			*proof.ProvenSegment
			Problem string `json:"problem,omitempty"`
		}{p, problem}, "", "  ")
		if err != nil {
			return fmt.Errorf("encode answer: %w", err)
		}
		if _, err := h.stdout.Write(append(format.SafeJSON(text), '\n')); err != nil {
			return err
		}
	} else if err := writeProven(h.stdout, p, err); err != nil {
		return err
	}
	if unproven {
		return errFound
	}
	return nil
}

// writeProven writes the statement of a proof as text, or the reason why it proves nothing.
func writeProven(w io.Writer, p *proof.ProvenSegment, unproven error) error {
	b := &strings.Builder{}
	line := func(name, form string, args ...any) {
		fmt.Fprintf(b, "%-12s %s\n", name, escape.Safe(fmt.Sprintf(form, args...)))
	}
	if unproven != nil {
		line("PROBLEM", "%v", unproven)
	} else {
		line("segment", "%s is segment %d, %d connections, %s to %s, sealed %s", p.File, p.Segment, p.Rows, moment(p.From), moment(p.To), moment(p.SealedAt))
		line("sha256", "%s", p.SHA256)
		line("log", "leaf %d of the first %d of %s", p.Leaf, p.Leaves, p.Log)
		if p.Signed {
			line("signed", "by the stable key of the log, that was given")
		}
		for _, c := range p.Cosigned {
			line("cosigned", "by %s, %s", c.Witness, moment(c.At))
		}
		line("verdict", "nothing is wrong")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
