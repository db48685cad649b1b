package capture

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"sort"
	"testing"
)

// A report is connects' account of one attempt.
type report struct {
	Case     string
	Step     string
	PID      int64
	TID      int64 // 0: some thread of the process
	PPID     int64
	FD       int64
	Family   int64
	Type     int64
	Protocol int64
	Cookie   uint64
	Addrlen  int64
	Addr     hexBytes
	Local    hexBytes
	Errno    int64
	Comm     hexBytes
	UID      int64
	GID      int64
	EUID     int64
	NetNS    int64
	Boot0    int64
	Real0    int64
	Real1    int64

	partial bool // only PID and times are known: a program other than connects made it
}

type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

// An outcome is the output of one run of connects.
type outcome struct {
	reports []report // in the order in which they were made
	info    map[string]any
	na      string // why this machine cannot do the case
	rest    []byte // lines that are not JSON
}

var errNotHere = errors.New("not on this machine")

// runConnects runs a command to its end and reads what it reported.
func runConnects(cmd *exec.Cmd) (outcome, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	o, parseErr := parseOutcome(&stdout)
	if parseErr != nil {
		return o, parseErr
	}
	if o.na != "" {
		return o, errNotHere
	}
	if err != nil {
		return o, fmt.Errorf("%w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	return o, nil
}

func parseOutcome(from io.Reader) (outcome, error) {
	o := outcome{info: map[string]any{}}
	in := bufio.NewReader(from)
	for {
		line, err := in.ReadBytes('\n')
		if len(line) > 0 {
			if err := o.add(line); err != nil {
				return o, fmt.Errorf("connects said %q: %w", line, err)
			}
		}
		if err != nil {
			break
		}
	}
	sort.SliceStable(o.reports, func(i, j int) bool { return o.reports[i].Boot0 < o.reports[j].Boot0 })
	return o, nil
}

func (o *outcome) add(line []byte) error {
	if line[0] != '{' {
		o.rest = append(o.rest, line...)
		return nil
	}
	var kind struct {
		Info map[string]any
		NA   string
	}
	if err := json.Unmarshal(line, &kind); err != nil {
		return err
	}
	switch {
	case kind.NA != "":
		o.na = kind.NA
	case kind.Info != nil:
		for k, v := range kind.Info {
			o.info[k] = v
		}
	default:
		var r report
		if err := json.Unmarshal(line, &r); err != nil {
			return err
		}
		o.reports = append(o.reports, r)
	}
	return nil
}

func (o outcome) number(name string) int64 {
	n, _ := o.info[name].(float64)
	return int64(n)
}

// mustRun is for the load tests: a case that the machine cannot do skips the test, one that goes wrong fails it.
func mustRun(t *testing.T, args ...string) outcome {
	t.Helper()
	cmd := exec.Command(env.connects, args...)
	cmd.Dir = tempDir(t)
	o, err := runConnects(cmd)
	if errors.Is(err, errNotHere) {
		t.Skip(o.na)
	}
	if err != nil {
		t.Fatalf("connects %v: %v", args, err)
	}
	return o
}
