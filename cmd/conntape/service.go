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

// The recorder under systemd: its notifications, and SIGHUP. Without systemd it does the same, and the notifications go
// nowhere.

// notify notifies the service manager. It ignores errors: recording goes on if nobody listens on NOTIFY_SOCKET.
func notify(states ...string) { _, _ = daemon.SdNotify(false, strings.Join(states, "\n")) }

// supervised connects the recorder to the service manager.
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

// tunable are the settings that a running recorder changes on SIGHUP. The others affect the programs in the kernel, the
// tape itself, or the start entry in the log: they need a restart.
func tunable() []string {
	return []string{"batch-age", "batch-rows", "keep-free", "max-held", "verbose"}
}

// configuration is record's options, with its settings as texts.
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

// reread reads the configuration again: the same command line with the current environment and file.
func (h *host) reread(ctx context.Context) (*configuration, error) { return h.rereadAs(ctx, h.argv) }

// rereadAs is reread for another command line of record.
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

// reloader applies changed settings on SIGHUP.
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

// reload reads the configuration again. An invalid one changes nothing.
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

// setLevel sets the log level.
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
