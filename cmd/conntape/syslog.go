package main

import (
	"fmt"
	"log/syslog"

	"github.com/conntape/conntape/store/proof"
)

// tellKey prints the first verifier key of a new log, even with --quiet. It is printed only once: later it is no better
// than the log.
func (h *host) tellKey(key string) {
	fmt.Fprintf(h.stderr, "conntape: key of this tape's log, to be kept on another host: %s\n", key)
}

// checkpoints sends signed checkpoints to the system log: syslog or journald, which many hosts forward.
type checkpoints struct{ out *syslog.Writer }

func openSyslog() (*checkpoints, error) {
	out, err := syslog.New(syslog.LOG_NOTICE|syslog.LOG_DAEMON, "conntape")
	if err != nil {
		return nil, fmt.Errorf("open system log: %w", err)
	}
	return &checkpoints{out}, nil
}

// send sends a checkpoint. It ignores errors: the next checkpoint, ten seconds later, covers this one.
func (c *checkpoints) send(head []byte) {
	_ = c.out.Notice("checkpoint " + proof.CheckpointLine(head))
}

// Close closes the connection.
func (c *checkpoints) Close() error { return c.out.Close() }
