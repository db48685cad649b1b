// Command conntape records every connect on a host with the process that made it, and answers questions about them.
//
// This package parses flags, connects the other packages and sets exit codes. It has no logic of recording, storing or
// querying. There is one file for each command.
package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"
	_ "time/tzdata" // for --tz on hosts without a time zone database

	"github.com/urfave/cli/v2"
	"golang.org/x/term"
)

// Exit codes. If two apply, the higher one is used: an answer with damage or a cut is incomplete, even if it found
// something.
const (
	exitDone    = 0
	exitFailed  = 1
	exitUsage   = 2
	exitFound   = 3 // a command that looks for something found it
	exitCut     = 4 // --timeout cut the answer
	exitDamaged = 5 // part of the tape is damaged, or was removed during reading: the answer lacks it
)

// sameSignal is the time within which a repeated signal counts as the first one.
const sameSignal = time.Second

func main() { os.Exit(runMain()) }

// runMain runs the program with this process's arguments, streams and signals.
func runMain() int {
	// When the reader of stdout goes away, a write fails and the command cleans up, instead of dying at once.
	signal.Ignore(syscall.SIGPIPE)
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	h := &host{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, now: time.Now, getenv: os.Getenv, environ: os.Environ(), config: defaultConfig, width: stdoutWidth, watched: stderrWatched}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		s := <-signals
		for s == syscall.SIGINT && h.interrupted() {
			s = <-signals
		}
		cancel(&signalError{s.(syscall.Signal)})
		// timeout(1), and a terminal with sudo, send a signal twice. A later one ends the process at once.
		time.Sleep(sameSignal)
		signal.Stop(signals)
	}()
	err := h.run(ctx, os.Args[1:])
	code := h.report(err)
	var stopped *signalError
	if errors.As(err, &stopped) {
		dieBy(stopped.signal)
	}
	return code
}

// host is a command's environment.
type host struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	now            func() time.Time
	getenv         func(string) string
	environ        []string                            // every NAME=value
	config         string                              // default configuration file; "": none
	width          func() (columns int, terminal bool) // of stdout
	watched        func() bool                         // stderr is a terminal; nil: it is not

	told      map[string]bool        // notes on the tape that a shell has shown already; nil: no shell
	typed     string                 // command line being run
	argv      []string               // its words
	settings  *settings              // what environment and configuration file say
	interrupt atomic.Pointer[func()] // called on Ctrl-C instead of ending the program
}

// onInterrupt makes Ctrl-C only call stop, until undo is called.
func (h *host) onInterrupt(stop func()) (undo func()) {
	h.interrupt.Store(&stop)
	return func() { h.interrupt.Store(nil) }
}

// interrupted calls the function set by onInterrupt and reports whether there is one.
func (h *host) interrupted() bool {
	stop := h.interrupt.Load()
	if stop == nil {
		return false
	}
	(*stop)()
	return true
}

// run parses the arguments and runs the command.
func (h *host) run(ctx context.Context, args []string) error {
	h.typed, h.argv = commandLine(args), args
	app, err := h.newApp()
	if err != nil {
		return err
	}
	return h.runApp(ctx, app, args)
}

// runApp is run for existing commands.
func (h *host) runApp(ctx context.Context, app *cli.App, args []string) error {
	call, err := parseArgs(app.Commands, args)
	if err != nil {
		return err
	}
	switch {
	case call.help:
		return printHelp(h.stdout, app, call.path)
	case call.bare():
		if err := printHelp(h.stderr, app, nil); err != nil {
			return err
		}
		return errBare
	}
	if err := h.settle(call); err != nil {
		return err
	}
	return h.settings.blame(app.RunContext(ctx, append([]string{app.Name}, call.ordered()...)))
}

// stdoutWidth returns the width of stdout's terminal.
func stdoutWidth() (int, bool) {
	fd := int(os.Stdout.Fd())
	if !term.IsTerminal(fd) {
		return 0, false
	}
	width, _, err := term.GetSize(fd)
	if err != nil || width < 1 {
		return 80, true
	}
	return width, true
}

// stderrWatched reports whether stderr is a terminal.
func stderrWatched() bool { return term.IsTerminal(int(os.Stderr.Fd())) }

// signalError ends a command that a signal stopped.
type signalError struct{ signal syscall.Signal }

func (e *signalError) Error() string { return "stopped by a signal (" + e.signal.String() + ")" }

// dieBy ends the process as the signal would, so that a loop or script of a shell stops too. It returns if that fails.
func dieBy(s syscall.Signal) {
	signal.Reset(s)
	if err := syscall.Kill(os.Getpid(), s); err == nil {
		time.Sleep(time.Second)
	}
}
