package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/conntape/conntape/query"
	"github.com/conntape/conntape/store/proof"
)

// witnessProgram speaks to witnesses: HTTP and TLS are not in this program.
const witnessProgram = "conntape-witness"

// Limits of the program's answer.
const (
	witnessTime   = time.Minute
	witnessAnswer = 128 << 10 // bytes
)

// pushToWitness asks a witness to cosign the head of a tape.
func (h *host) pushToWitness(ctx context.Context, dir, address, key string) error {
	if scheme, _, _ := strings.Cut(address, "://"); scheme != "https" && scheme != "http" {
		return usagef("name a file, syslog, or the https:// address of a witness", "--push %s: a witness is asked by https or http", address)
	}
	if key == "" {
		return usagef("add --witness NAME+HASH+KEY, as the witness publishes it", "--push %s: without the key of the witness nobody can tell its cosignature from another", address)
	}
	program, err := findCompanion(witnessProgram)
	if err != nil {
		return err
	}
	_, err = proof.CosignTape(dir, key, func(request []byte) (proof.WitnessAnswer, error) {
		return runWitnessProgram(ctx, program, address, request)
	})
	var behind *proof.BehindError
	if errors.As(err, &behind) {
		if _, err := fmt.Fprintf(h.stdout, "PROBLEM      log: %s\n", query.Safe(behind.Error())); err != nil {
			return err
		}
		return errFound
	}
	return err
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
