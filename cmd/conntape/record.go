package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/conntape/conntape/query/input"
	"github.com/conntape/conntape/recorder"
	"github.com/conntape/conntape/store/retain"
)

// Limits of the kernel's ring: a power of two, up to the kernel's maximum.
const (
	leastRing = 64 << 10
	mostRing  = 1 << 30
)

// backendNames returns the values of --backend.
func backendNames() []string { return []string{"auto", "fexit", "kprobe", "cgroup"} }

func (h *host) recordCommand() *cli.Command {
	return &cli.Command{
		Name:  "record",
		Usage: "record every connect on this host until a signal ends it",
		Description: `Needs root. Writes to the tape in --dir, which is created when it is not there; one recorder may
write to a tape at a time. SIGINT or SIGTERM writes what is in memory to the disk and ends it;
SIGHUP reads the configuration again.
What the backend cannot see is said at the start, kept in the tape and shown by status.

Examples:
  sudo conntape record
  sudo conntape record --dir ./tape --backend cgroup`,
		Flags: []cli.Flag{
			dirFlag("directory of the tape"),
			&cli.StringFlag{Name: "backend", Usage: "`NAME` kernel hooks to use: " + strings.Join(backendNames(), ", ") + "; auto takes the first that attaches", Value: "auto"},
			&cli.StringFlag{Name: "events", Usage: "`LIST` events to record beside connects: " + strings.Join(eventNames(), ", ") + "; accept folds those of a listener and peer in ten minutes, accept=all does not; sendto is what is sent without a connect; socket and setsockopt are sockets and devices that can sniff or forge, and options that have them do so", Value: "accept,sendto,socket,setsockopt"},
			&cli.StringFlag{Name: "exclude", Usage: "`RULES` connects to count and not to keep: conditions such as port=53 to=10.0.0.0/8, all of which a connect meets; several rules with ; between. Names: " + strings.Join(recorder.ExclusionConditions(), ", ")},
			&cli.BoolFlag{Name: "no-hashes", Usage: "do not read the programs and scripts that connect for their SHA-256, SHA-1 and MD5"},
			&cli.StringFlag{Name: "names", Usage: "`LIST` sources of names: dns, answers that come to this host; sni, TLS clients that say it; http, the Host of a first request; or none", Value: "dns"},
			&cli.BoolFlag{Name: "no-payload", Usage: "look at no bytes that are sent: no names, whatever --names says"},
			&cli.StringFlag{Name: "batch-age", Usage: "`TIME` longest time until a connection is safely on the disk", Value: recorder.DefaultBatchAge.String()},
			&cli.Int64Flag{Name: "batch-rows", Usage: "`N` write a batch early when it holds this many connections", Value: recorder.DefaultBatchRows},
			&cli.StringFlag{Name: "buffer", Usage: "`SIZE` memory for connections waiting for a slow disk; a process that takes more than its share is counted together", Value: "64MiB"},
			&cli.StringFlag{Name: "ring", Usage: "`SIZE` size of the kernel's ring buffer, a power of two", Value: "8MiB"},
			&cli.StringFlag{Name: "max-size", Usage: "`SIZE` most disk space for the tape, everything included; the oldest segments are removed first", Value: "2GiB"},
			&cli.StringFlag{Name: "max-age", Usage: "`TIME` remove a segment when its newest event is older than this", Value: "90d"},
			&cli.StringFlag{Name: "keep-free", Usage: "`SIZE` free space to leave to others, in bytes or percent of the file system", Value: "5%"},
			&cli.StringFlag{Name: "reserve", Usage: "`NAME` auto sets the space of the tape aside on the disk, where the file system can; none does not", Value: "auto"},
			&cli.StringFlag{Name: "max-held", Usage: "`SIZE` most disk space for segments kept by conntape hold", Value: "2GiB"},
			&cli.BoolFlag{Name: "pin", Usage: "have the kernel keep what happens until the next recorder, so that a restart loses nothing; conntape unpin ends that"},
			pinDirFlag(),
			&cli.BoolFlag{Name: "immutable", Usage: "make sealed segments immutable (chattr +i)"},
			&cli.BoolFlag{Name: "syslog", Usage: "send each signed checkpoint of the tape's log to the system log"},
			&cli.BoolFlag{Name: "verbose", Usage: "log details to stderr"},
			quietFlag(),
		},
		Action: h.record,
	}
}

func (h *host) record(c *cli.Context) error {
	read, err := h.readConfiguration(c)
	if err != nil {
		return err
	}
	options := read.options
	if !mayRecord() {
		return &hintedError{errors.New("recording needs root"), "type: sudo conntape record --dir " + options.Dir}
	}
	if err := keepOutOfCores(); err != nil {
		return fmt.Errorf("keep memory out of core dumps: %w", err)
	}
	var level slog.LevelVar
	setLevel(&level, read.verbose)
	options.Version = readBuild().Version
	options.Logger = slog.New(logHandler(h.stderr, &level, h.getenv("JOURNAL_STREAM") != ""))
	tune := make(chan recorder.Tuning, 1)
	options.Service = supervised()
	options.Service.Tune = tune
	reload := &reloader{h: h, was: read, level: &level, log: options.Logger, tune: tune}
	go reload.run(c.Context)
	if !c.Bool("quiet") {
		options.Status = h.stderr
		if file, ok := h.stderr.(*os.File); ok {
			options.Terminal = term.IsTerminal(int(file.Fd()))
		}
	}
	options.LogBegun = h.tellKey
	if c.Bool("syslog") {
		ship, err := openSyslog()
		if err != nil {
			return &hintedError{err, "is there a system log? leave --syslog out to record without"}
		}
		defer ship.Close()
		options.Checkpoint = ship.send
	}
	err = recorder.Run(c.Context, options)
	switch {
	case err == nil, errors.Is(err, context.Canceled):
		return nil
	case errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0:
		return &hintedError{err, "recording needs root, or CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN and CAP_DAC_READ_SEARCH"}
	}
	return err
}

// readRecordOptions reads and checks the flags of record.
func (h *host) readRecordOptions(c *cli.Context) (recorder.Options, error) {
	var o recorder.Options
	var err error
	if err = noArguments(c); err != nil {
		return o, err
	}
	if o.Dir, err = h.readDir(c); err != nil {
		return o, err
	}
	switch name := c.String("backend"); name {
	case "auto":
	case "fexit":
		o.Backend = "fexit"
	case "kprobe":
		o.Backend = "kprobe"
	case "cgroup":
		o.Backend = "cgroup"
	default:
		hint := "backends are " + strings.Join(backendNames(), ", ")
		if near := input.Nearest(name, backendNames()); near != "" {
			hint = "did you mean " + near + "?"
		}
		return o, usagef(hint, "unknown backend %q", name)
	}
	if o.Events, err = readEvents(c.String("events")); err != nil {
		return o, err
	}
	o.NoHashes = c.Bool("no-hashes")
	if err = readNames(c.String("names"), &o.Events); err != nil {
		return o, err
	}
	if c.Bool("no-payload") {
		o.Events.Names, o.Events.TLS, o.Events.HTTP = false, false, false
	}
	if o.Exclude, err = recorder.ParseExclusions(c.String("exclude")); err != nil {
		return o, usagef("such as --exclude 'user=backup port=873; exe=/usr/bin/dig'", "--exclude: %v", err)
	}
	if o.BatchAge, err = input.ParseDuration(c.String("batch-age")); err != nil {
		return o, err
	}
	if o.BatchAge <= 0 {
		return o, usagef("try --batch-age 1s", "--batch-age must be more than nothing")
	}
	rows := c.Int64("batch-rows")
	if rows < 1 || rows > math.MaxInt32 {
		return o, usagef("try --batch-rows 100000", "--batch-rows must be from 1 to %d", math.MaxInt32)
	}
	o.BatchRows = int(rows)
	if o.Buffer, err = readSize(c, "buffer", recorder.MinBuffer, math.MaxInt64); err != nil {
		return o, err
	}
	if o.Limits, err = readLimits(c); err != nil {
		return o, err
	}
	o.Immutable = c.Bool("immutable")
	if c.Bool("pin") {
		o.Pin = c.String("pin-dir")
	}
	ring, err := readSize(c, "ring", leastRing, mostRing)
	if err != nil {
		return o, err
	}
	if ring&(ring-1) != 0 {
		return o, usagef("try --ring 8MiB", "--ring %s is not a power of two", c.String("ring"))
	}
	o.RingBytes = uint32(ring)
	return o, nil
}

// eventNames returns what --events takes, several of them with commas between.
func eventNames() []string {
	return []string{"accept", "accept=all", "listen", "bind", "sendto", "socket", "setsockopt", "none"}
}

// readEvents reads what is recorded beside connects.
func readEvents(list string) (e recorder.Events, err error) {
	names := strings.Split(strings.ReplaceAll(list, " ", ""), ",")
	for _, name := range names {
		switch name {
		case "accept":
			e.Accept = true
		case "accept=all":
			e.Accept, e.EachAccept = true, true
		case "listen":
			e.Listen = true
		case "bind":
			e.Binds = true
		case "sendto":
			e.Sends = true
		case "socket":
			e.Sockets = true
		case "setsockopt":
			e.Options = true
		case "none":
			if len(names) > 1 {
				return e, usagef("--events none stands alone", "--events %s: none, and something", list)
			}
		default:
			hint := "events are " + strings.Join(eventNames(), ", ")
			if near := input.Nearest(name, eventNames()); near != "" {
				hint = "did you mean " + near + "?"
			}
			return e, usagef(hint, "unknown event %q", name)
		}
	}
	return e, nil
}

// readNames reads where names come from.
func readNames(list string, e *recorder.Events) error {
	sources := strings.Split(strings.ReplaceAll(list, " ", ""), ",")
	for _, source := range sources {
		switch source {
		case "dns":
			e.Names = true
		case "sni":
			e.TLS = true
		case "http":
			e.HTTP = true
		case "none":
			if len(sources) > 1 {
				return usagef("--names none stands alone", "--names %s: none, and something", list)
			}
		default:
			return usagef("they come from dns, sni and http, or none", "unknown source of names %q", source)
		}
	}
	return nil
}

// readLimits reads the limits of the tape.
func readLimits(c *cli.Context) (l retain.Limits, err error) {
	if l.MaxBytes, err = readSize(c, "max-size", retain.MinMaxBytes, math.MaxInt64); err != nil {
		return l, err
	}
	if l.MaxAge, err = input.ParseDuration(c.String("max-age")); err != nil {
		return l, err
	}
	if l.MaxAge < time.Hour {
		return l, usagef("try --max-age 90d", "--max-age must be at least an hour")
	}
	if l.MaxHeldBytes, err = readSize(c, "max-held", 0, math.MaxInt64); err != nil {
		return l, err
	}
	switch name := c.String("reserve"); name {
	case "auto":
		l.Reserve = true
	case "none":
	default:
		return l, usagef("--reserve auto or --reserve none", "--reserve %s is neither auto nor none", name)
	}
	percent, ok := strings.CutSuffix(strings.TrimSpace(c.String("keep-free")), "%")
	if !ok {
		l.KeepFree, err = readSize(c, "keep-free", 0, math.MaxInt64)
		return l, err
	}
	l.KeepFreePercent, err = strconv.Atoi(strings.TrimSpace(percent))
	if err != nil || l.KeepFreePercent < 0 || l.KeepFreePercent > 99 {
		return l, usagef("try --keep-free 5% or --keep-free 10GiB", "--keep-free %s is no percentage from 0 to 99", c.String("keep-free"))
	}
	return l, nil
}

// readSize reads a flag that is a size in bytes.
func readSize(c *cli.Context, name string, least, most int64) (int64, error) {
	n, err := input.ParseSize(c.String(name))
	switch {
	case err != nil:
		return 0, err
	case n < least:
		return 0, usagef("", "--%s %s is too small: %s is the least", name, c.String(name), sizeText(least))
	case n > most:
		return 0, usagef("", "--%s %s is too large: %s is the most", name, c.String(name), sizeText(most))
	}
	return n, nil
}

// sizeText writes bytes in the largest unit that gives a whole number.
func sizeText(n int64) string {
	units := []string{" bytes", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for n != 0 && n%1024 == 0 && i < len(units)-1 {
		n, i = n/1024, i+1
	}
	return strconv.FormatInt(n, 10) + units[i]
}

// mayRecord reports whether recording may work: as root, or with any capability. The kernel decides in the end.
func mayRecord() bool {
	if os.Geteuid() == 0 {
		return true
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return true
	}
	return slices.ContainsFunc(data[:], func(d unix.CapUserData) bool { return d.Effective != 0 })
}
