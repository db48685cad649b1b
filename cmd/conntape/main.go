// Command conntape records every connect on a host, with the process that made
// it, and answers questions about them.
//
// This package knows flags, files to wire together and exit codes, and holds no
// logic of recording, storing or querying. There is one file for each command.
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
	_ "time/tzdata" // hosts without a time zone database understand --tz too

	"github.com/urfave/cli/v2"
	"golang.org/x/term"
)

// Exit codes. Where two apply, the higher one is used: an answer with damage or a
// cut is not the whole answer, whatever it found.
const (
	exitDone    = 0
	exitFailed  = 1
	exitUsage   = 2
	exitFound   = 3 // a command whose job is to look for something found it
	exitCut     = 4 // --timeout ended the answer before its end
	exitDamaged = 5 // part of the tape is damaged, or was removed while it was read: the answer lacks what was there
)

// sameSignal is the time in which a second signal is taken for the first.
const sameSignal = time.Second

func main() { os.Exit(runMain()) }

// runMain runs the program as the process that it is: with its arguments, its
// streams and its signals.
func runMain() int {
	// A reader that goes away makes a write fail, so that what was opened is
	// closed and removed, instead of ending the process on the spot.
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
		// timeout(1), and a terminal with sudo, deliver one signal twice. After
		// this, the next one ends the process at once.
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

// host is what a command has of the world.
type host struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	now            func() time.Time
	getenv         func(string) string
	environ        []string                            // every NAME=value
	config         string                              // the configuration file when nothing names another; "" none
	width          func() (columns int, terminal bool) // of stdout
	watched        func() bool                         // whether stderr is a terminal; nil: it is none

	told      map[string]bool        // what a shell has said of its tape; nil: no shell
	typed     string                 // the command line that is run
	argv      []string               // its words
	settings  *settings              // what environment and configuration file say
	interrupt atomic.Pointer[func()] // what Ctrl-C does instead of ending the program
}

// onInterrupt makes Ctrl-C call stop, and nothing else, until undo is called.
func (h *host) onInterrupt(stop func()) (undo func()) {
	h.interrupt.Store(&stop)
	return func() { h.interrupt.Store(nil) }
}

// interrupted calls what onInterrupt was given, and reports whether there is such.
func (h *host) interrupted() bool {
	stop := h.interrupt.Load()
	if stop == nil {
		return false
	}
	(*stop)()
	return true
}

// run parses the arguments and runs the command that they name.
func (h *host) run(ctx context.Context, args []string) error {
	h.typed, h.argv = commandLine(args), args
	app, err := h.newApp()
	if err != nil {
		return err
	}
	return h.runApp(ctx, app, args)
}

// runApp does the same with commands that are made already.
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

// stdoutWidth returns the width of the terminal that stdout is.
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

// signalError is the error of a command that a signal stopped.
type signalError struct{ signal syscall.Signal }

func (e *signalError) Error() string { return "stopped by a signal (" + e.signal.String() + ")" }

// dieBy ends the process as the signal would have, so that a shell that runs it
// in a loop or a script stops too. It returns when that did not work.
func dieBy(s syscall.Signal) {
	signal.Reset(s)
	if err := syscall.Kill(os.Getpid(), s); err == nil {
		time.Sleep(time.Second)
	}
}
