package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/conntape/conntape/recorder"
	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
)

// The recorder under a service manager: what it tells systemd, and what it does on SIGHUP.
// Started by hand it does the same, and there is nobody to tell.

// notify tells the service manager. Whoever set NOTIFY_SOCKET and does not listen is no
// reason not to record.
func notify(states ...string) { _, _ = daemon.SdNotify(false, strings.Join(states, "\n")) }

// supervised returns what ties a recorder to the service manager.
func supervised() recorder.Service {
	s := recorder.Service{
		Ready: func(backend string) {
			notify(daemon.SdNotifyReady, "STATUS=recording with the "+backend+" backend")
		},
		Progress: func(line string) { notify("STATUS=" + line) },
	}
	if period, err := daemon.SdWatchdogEnabled(false); err == nil && period > 0 {
		s.Alive = func() { notify(daemon.SdNotifyWatchdog) }
		s.ProbeEvery = min(time.Minute, max(time.Second, period/3))
	}
	return s
}

// tunable are the settings that a running recorder takes over on SIGHUP. The others decide
// what is loaded into the kernel, what the tape is, or what the start of this run says in
// its log: they wait for the next start.
func tunable() []string {
	return []string{"batch-age", "batch-rows", "keep-free", "max-held", "verbose"}
}

// configuration is what record was told: its options, and its settings as texts.
type configuration struct {
	options recorder.Options
	values  map[string]string
	verbose bool
}

// readConfiguration reads the flags of record.
func (h *host) readConfiguration(c *cli.Context) (*configuration, error) {
	options, err := h.readRecordOptions(c)
	if err != nil {
		return nil, err
	}
	values := make(map[string]string)
	for _, flag := range c.Command.Flags {
		name := flag.Names()[0]
		values[name] = fmt.Sprint(c.Value(name))
	}
	return &configuration{options, values, c.Bool("verbose")}, nil
}

// reread reads the command line again, with the environment and the file as they are now.
func (h *host) reread(ctx context.Context) (*configuration, error) { return h.rereadAs(ctx, h.argv) }

// rereadAs reads another command line of record instead.
func (h *host) rereadAs(ctx context.Context, argv []string) (*configuration, error) {
	again := &host{stdin: h.stdin, stdout: io.Discard, stderr: io.Discard, now: h.now, getenv: h.getenv, config: h.config, width: h.width}
	app, err := again.newApp()
	if err != nil {
		return nil, err
	}
	var read *configuration
	findCommand(app.Commands, "record").Action = func(c *cli.Context) (err error) {
		read, err = again.readConfiguration(c)
		return err
	}
	if err := again.runApp(ctx, app, argv); err != nil {
		return nil, err
	}
	if read == nil {
		return nil, errors.New("the command line is not that of record")
	}
	return read, nil
}

// reloader takes over what SIGHUP finds changed.
type reloader struct {
	h     *host
	was   *configuration
	level *slog.LevelVar
	log   *slog.Logger
	tune  chan recorder.Tuning
}

// run waits for SIGHUP until ctx ends.
func (r *reloader) run(ctx context.Context) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
		}
		var now unix.Timespec
		_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
		notify(daemon.SdNotifyReloading, fmt.Sprintf("MONOTONIC_USEC=%d", now.Nano()/1000))
		r.reload(ctx)
		notify(daemon.SdNotifyReady)
	}
}

// reload reads the configuration again. One that is wrong changes nothing.
func (r *reloader) reload(ctx context.Context) {
	read, err := r.h.reread(ctx)
	if err != nil {
		r.log.Error("configuration not taken over", "error", oneLine(err.Error()), "hint", oneLine(hintOf(err)))
		return
	}
	var changed, waiting []string
	for name, value := range read.values {
		switch {
		case value == r.was.values[name]:
		case slices.Contains(tunable(), name):
			changed = append(changed, name)
			r.was.values[name] = value
		default:
			waiting = append(waiting, name)
		}
	}
	slices.Sort(changed)
	slices.Sort(waiting)
	setLevel(r.level, read.verbose)
	o := read.options
	select {
	case r.tune <- recorder.Tuning{BatchAge: o.BatchAge, BatchRows: o.BatchRows,
		KeepFree: o.Limits.KeepFree, KeepFreePercent: o.Limits.KeepFreePercent, MaxHeldBytes: o.Limits.MaxHeldBytes}:
	case <-ctx.Done():
		return
	}
	r.log.Warn("configuration read again", "changed", strings.Join(changed, " "))
	if len(waiting) > 0 {
		r.log.Warn("these settings change at the next start", "settings", strings.Join(waiting, " "))
	}
}

// setLevel sets how much is logged.
func setLevel(level *slog.LevelVar, verbose bool) {
	level.Set(slog.LevelWarn)
	if verbose {
		level.Set(slog.LevelDebug)
	}
}

func findCommand(commands []*cli.Command, name string) *cli.Command {
	i := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.HasName(name) })
	return commands[i]
}
