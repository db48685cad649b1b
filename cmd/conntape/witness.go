package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/conntape/conntape/store/escape"
	"github.com/conntape/conntape/store/proof"
)

// witnessProgram speaks to witnesses: HTTP and TLS are not in this program.
const witnessProgram = "conntape-witness"

// Limits of the program's answer.
const (
	witnessTime   = time.Minute
	witnessAnswer = 128 << 10 // bytes
)

// pushToWitnesses asks witnesses, each with its key, to cosign the head of a tape.
func (h *host) pushToWitnesses(ctx context.Context, dir string, addresses, keys []string) error {
	program, err := findCompanion(witnessProgram)
	if err != nil {
		return err
	}
	var asked []proof.WitnessRequest
	for i, address := range addresses {
		asked = append(asked, proof.WitnessRequest{Key: keys[i], Post: func(request []byte) (proof.WitnessAnswer, error) {
			return runWitnessProgram(ctx, program, address, request)
		}})
	}
	_, err = proof.CosignTape(dir, asked)
	return h.foundByWitnesses(err)
}

// foundByWitnesses shows where witnesses have seen more of the log than there is, or something else. It returns errFound then,
// after it showed what else went wrong, and err otherwise.
func (h *host) foundByWitnesses(err error) error {
	var refused proof.NotCosigned
	if !errors.As(err, &refused) {
		return err
	}
	var others proof.NotCosigned
	for _, one := range refused {
		var behind *proof.BehindError
		if !errors.As(one, &behind) {
			others = append(others, one)
		} else if _, err := fmt.Fprintf(h.stdout, "PROBLEM      log: %s\n", escape.Safe(behind.Error())); err != nil {
			return err
		}
	}
	if len(others) == len(refused) {
		return err
	}
	if len(others) > 0 {
		h.report(others)
	}
	return errFound
}

// checkWitnesses checks that each witness named by --push has a key, and each key a witness.
func checkWitnesses(addresses, keys []string) error {
	for i, address := range addresses {
		switch scheme, _, _ := strings.Cut(address, "://"); {
		case scheme != "https" && scheme != "http":
			return usagef("name a file, syslog, or the https:// address of a witness", "--push %s: a witness is asked by https or http", address)
		case i >= len(keys) || keys[i] == "":
			return usagef("add --witness NAME+HASH+KEY, as the witness publishes it, one for each in their order", "--push %s: without the key of the witness nobody can tell its cosignature from another", address)
		case slices.Contains(keys[:i], keys[i]):
			return usagef("name it once", "the witness of --push %s is named twice", address)
		}
	}
	switch {
	case len(addresses) > proof.MostWitnesses:
		return usagef("", "%d witnesses are too many: a log has at most %d", len(addresses), proof.MostWitnesses)
	case len(keys) > len(addresses) && len(addresses) == 0:
		return usagef("add --push https://…, the address of the witness", "--witness is the key of a witness, and --push names none")
	case len(keys) > len(addresses):
		return usagef("add --push https://… for each key, in the same order", "%d keys of witnesses are given, and --push names %d witnesses", len(keys), len(addresses))
	}
	return nil
}

// runWitnessProgram sends one request.
func runWitnessProgram(ctx context.Context, program, address string, request []byte) (proof.WitnessAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, witnessTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, address)
	cmd.WaitDelay = time.Second
	cmd.Stdin = bytes.NewReader(request)
	out, complaint := &boundedBuffer{most: witnessAnswer}, &boundedBuffer{most: 4 << 10}
	cmd.Stdout, cmd.Stderr = out, complaint
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return proof.WitnessAnswer{}, fmt.Errorf("ask %s: %w", address, context.Cause(ctx))
		}
		if said := strings.TrimPrefix(strings.TrimSpace(complaint.String()), witnessProgram+": error: "); said != "" {
			err = errors.New(said)
		}
		return proof.WitnessAnswer{}, fmt.Errorf("ask %s: %w", address, err)
	}
	line, body, _ := bytes.Cut(out.Bytes(), []byte("\n"))
	status, err := strconv.Atoi(string(line))
	if err != nil {
		return proof.WitnessAnswer{}, fmt.Errorf("ask %s: %s answers otherwise than it should: is it of this version?", address, program)
	}
	return proof.WitnessAnswer{Status: status, Body: body}, nil
}

// boundedBuffer keeps up to a number of bytes; more is an error for the writer.
type boundedBuffer struct {
	bytes.Buffer
	most int
}

// Write keeps b.
func (b *boundedBuffer) Write(p []byte) (int, error) {
	if b.Len()+len(p) > b.most {
		return 0, errors.New("too long")
	}
	return b.Buffer.Write(p)
}
