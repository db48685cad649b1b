// Package metrics gives what "conntape status" says to Prometheus: over HTTP on the loopback or a UNIX socket, or as a file for
// the textfile collector of node_exporter.
//
// It knows the names of the metrics and how to serve them. It knows nothing of tapes: conntape reads those, as a process of
// its own, so that nothing that speaks HTTP opens one.
package metrics

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// readWithin is how long conntape may take to say how things stand.
const readWithin = 30 * time.Second

// codeDamaged is the exit code of conntape when a part of the tape is damaged: its answer is good for the rest.
const codeDamaged = 5

// status is what the metrics need of "conntape status --format json".
type status struct {
	Recording   bool              `json:"recording"`
	Since       *time.Time        `json:"since"`
	From        *time.Time        `json:"from"`
	Committed   *time.Time        `json:"committed"`
	TapeID      string            `json:"tape_id"`
	Kernel      string            `json:"kernel"`
	Version     string            `json:"version"`
	Backends    []string          `json:"backends"`
	Segments    int               `json:"segments"`
	Sealed      int               `json:"segments_sealed"`
	Bytes       int64             `json:"bytes"`
	Room        *int64            `json:"room_bytes"`
	Reserved    *int64            `json:"reserved_bytes"`
	Well        bool              `json:"well"`
	Unaccounted int64             `json:"unaccounted"`
	Counters    map[string]uint64 `json:"run_counters"`
	Gaps        []gap             `json:"gaps"`
	Removed     []removed         `json:"removed"`
	LeftOut     []string          `json:"left_out"`
}

type gap struct {
	Cause string `json:"cause"`
}

type removed struct {
	Cause       string `json:"cause"`
	Connections *int64 `json:"connections"` // nil: unknown
}

// A source asks conntape about a tape.
type source struct {
	program string // path of conntape
	dir     string // of the tape, "" the default
}

// findConntape looks beside this program, then in PATH.
func findConntape() (string, error) {
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), "conntape")
		if info, err := os.Stat(beside); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return beside, nil
		}
	}
	found, err := exec.LookPath("conntape")
	if err != nil {
		return "", errors.New("conntape is neither beside conntape-metrics nor in PATH: it reads the tape")
	}
	return found, nil
}

// read returns how things stand with the tape. The error is what conntape says, in one line.
func (s source) read(ctx context.Context) (*status, error) {
	ctx, cancel := context.WithTimeout(ctx, readWithin)
	defer cancel()
	args := []string{"status", "--format", "json"}
	if s.dir != "" {
		args = append(args, "--dir", s.dir)
	}
	cmd := exec.CommandContext(ctx, s.program, args...)
	cmd.WaitDelay = time.Second
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !(errors.As(err, &exit) && exit.ExitCode() == codeDamaged) {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("read status: %w", context.Cause(ctx))
		}
		line, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(said.String()), "conntape: error: "), "\n")
		if line != "" {
			return nil, fmt.Errorf("read status: %s", line)
		}
		return nil, fmt.Errorf("read status: %w", err)
	}
	var st status
	if err := json.Unmarshal(out.Bytes(), &st); err != nil {
		return nil, fmt.Errorf("read status: %s answers otherwise than it should (%w): is it of this version?", s.program, err)
	}
	return &st, nil
}
