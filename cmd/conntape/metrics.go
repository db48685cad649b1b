package main

import (
	"fmt"
	"syscall"

	"github.com/urfave/cli/v2"
)

// metricsProgram speaks to Prometheus: HTTP is not in this program.
const metricsProgram = "conntape-metrics"

func (h *host) metricsCommand() *cli.Command {
	return &cli.Command{
		Name:  "metrics",
		Usage: "give the state of a tape to Prometheus",
		Description: `Runs conntape-metrics, which answers /metrics on the loopback or on a UNIX socket, or writes one file
for the textfile collector of node_exporter: what was seen, stored, counted together, excluded and lost, the
fill of the ring, the time of batches, what the tape takes and may still take, its oldest event, the
last batch. It asks "conntape status", and so needs to read the tape and nothing else: the
group conntape will do. The recorder itself serves nothing.

Examples:
  conntape metrics --listen 127.0.0.1:9741
  conntape metrics --listen unix:/run/conntape-metrics/socket
  conntape metrics --textfile /var/lib/prometheus/node-exporter/conntape.prom`,
		Flags: []cli.Flag{
			dirFlag("directory of the tape"),
			&cli.StringFlag{Name: "listen", Usage: "`WHERE` serve /metrics until told to stop: an address of the loopback with its port, or unix:/PATH"},
			&cli.StringFlag{Name: "textfile", Usage: "`FILE` write once, for the textfile collector; its name must end in .prom to be read"},
		},
		Action: h.metrics,
	}
}

func (h *host) metrics(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	dir, err := h.readDir(c)
	if err != nil {
		return err
	}
	args := []string{"--dir", dir}
	switch {
	case c.IsSet("listen") == c.IsSet("textfile"):
		return usagef("try: conntape metrics --listen 127.0.0.1:9741", "metrics needs either --listen or --textfile")
	case c.IsSet("listen"):
		args = append(args, "--listen", c.String("listen"))
	default:
		args = append(args, "--textfile", c.String("textfile"))
	}
	program, err := findCompanion(metricsProgram)
	if err != nil {
		return err
	}
	if err := syscall.Exec(program, append([]string{program}, args...), h.environ); err != nil {
		return fmt.Errorf("run %s: %w", program, err)
	}
	return nil
}
