package main

import (
	"fmt"
	"log/syslog"

	"github.com/conntape/conntape/store/proof"
)

// tellKey says the first verifier key of a new log. It is said once, whatever
// --quiet says: later it is only as good as the log.
func (h *host) tellKey(key string) {
	fmt.Fprintf(h.stderr, "conntape: key of this tape's log, to be kept on another host: %s\n", key)
}

// checkpoints sends signed checkpoints to the system's log: syslog, or journald,
// which many hosts ship elsewhere.
type checkpoints struct{ out *syslog.Writer }

func openSyslog() (*checkpoints, error) {
	out, err := syslog.New(syslog.LOG_NOTICE|syslog.LOG_DAEMON, "conntape")
	if err != nil {
		return nil, fmt.Errorf("open system log: %w", err)
	}
	return &checkpoints{out}, nil
}

// send sends one. That the system log is gone must not disturb the recording: the
// next one, ten seconds later, covers all that this one did.
func (c *checkpoints) send(head []byte) {
	_ = c.out.Notice("checkpoint " + proof.CheckpointLine(head))
}

// Close closes the connection.
func (c *checkpoints) Close() error { return c.out.Close() }
