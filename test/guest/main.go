// Command guest runs programs on other kernels: it boots Debian kernels under qemu, always emulated, each with an
// initramfs of its own, and brings back how the program ended.
//
//	go run ./test/guest -kernel amd64-6.1 [flags] -- command [argument...]
//	go run ./test/guest -matrix [flags] [cell...]
//
// With -kernel, one guest runs one command, and its output and exit status become ours. Files come into the guest with
// -file: "-file ./conntape" puts it into /bin, "-file ./a.sql:/root/a.sql" anywhere. Kernels are named as
// test/guest/fetch names them, and fetched when missing. The guest has a static bash and busybox, /proc, /sys, cgroup2,
// tracefs, bpffs, a tmpfs on /tmp, the loopback and no other network.
//
//	CGO_ENABLED=0 go test -c -o /tmp/bpf.test ./bpf
//	go run ./test/guest -kernel amd64-5.10 -file /tmp/bpf.test -- bpf.test -test.v
//	go run ./test/guest -kernel arm64-6.1 -- sh -c 'uname -a; grep -c . /proc/kallsyms'
//
// With -matrix, the capture tests run on every kernel and backend, or on those named like "amd64-6.1" or "fexit".
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status, err := run(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "guest: error:", err)
	}
	os.Exit(status)
}

// list is a flag that may be given several times.
type list []string

func (l *list) String() string     { return strings.Join(*l, " ") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

func run(ctx context.Context, args []string) (int, error) {
	g := guest{output: os.Stdout}
	var name, modules, logFile string
	var files, get list
	var matrix, console bool
	var options matrixOptions
	set := flag.NewFlagSet("guest", flag.ContinueOnError)
	set.StringVar(&name, "kernel", "", "the `kernel` to boot, such as amd64-6.1")
	set.Var(&files, "file", "`host[:guest]`: copy a file into the guest (without guest: into /bin); may be repeated")
	set.Var(&get, "get", "`guest:host`: copy a file out of the guest when the command has ended; may be repeated")
	set.Var((*list)(&g.env), "env", "`NAME=value` for the command's environment; may be repeated")
	set.StringVar(&modules, "modules", defaultModules, "kernel modules to load, separated by commas")
	set.IntVar(&g.cpus, "smp", 2, "processors")
	set.IntVar(&g.memory, "m", 1024, "memory in MiB")
	set.DurationVar(&g.timeout, "timeout", 5*time.Minute, "give up after this time")
	set.StringVar(&g.append, "append", "", "more kernel command line")
	set.BoolVar(&console, "console", false, "show the kernel's console on stderr")
	set.StringVar(&logFile, "dmesg", "", "write the kernel's log to this `file`")
	set.BoolVar(&matrix, "matrix", false, "run the capture tests on every kernel and backend")
	set.StringVar(&options.coverage, "coverage", "", "with -matrix: write what was seen, as Markdown, to this `file`")
	set.StringVar(&options.tally, "tally", "", "with -matrix: write the counts of tests passed, failed and skipped, and the faults, to this JSON `file`")
	set.StringVar(&options.run, "run", "", "with -matrix: run only the tests that match this `pattern`")
	if err := set.Parse(args); err != nil {
		return 2, err
	}
	if matrix {
		return runMatrix(ctx, options, set.Args())
	}
	if name == "" || set.NArg() == 0 {
		set.Usage()
		return 2, errors.New("a -kernel and a command are needed")
	}
	kernels, err := fetchKernels(ctx, name)
	if err != nil {
		return 1, err
	}
	g.kernel, g.args = kernels[0], set.Args()
	if modules != "" {
		g.modules = strings.Split(modules, ",")
	}
	if console {
		g.console = os.Stderr
	}
	for _, f := range files {
		g.files = append(g.files, parseFile(f))
	}
	back := map[string]string{}
	for _, f := range get {
		from, to, ok := strings.Cut(f, ":")
		if !ok {
			return 2, fmt.Errorf("-get %s: want guest:host", f)
		}
		back[from] = to
		g.get = append(g.get, from)
	}
	res, err := g.run(ctx)
	if err != nil {
		return 1, err
	}
	if logFile != "" {
		if err := os.WriteFile(logFile, []byte(res.kernelLog), 0o644); err != nil {
			return 1, err
		}
	}
	for _, f := range res.files {
		if f.Error != "" {
			return 1, fmt.Errorf("get %s: %s", f.Name, f.Error)
		}
		if err := os.WriteFile(back[f.Name], f.Data, 0o644); err != nil {
			return 1, err
		}
	}
	summary(os.Stderr, g.kernel, res)
	return res.Exit, nil
}

func parseFile(f string) guestFile {
	host, inside, ok := strings.Cut(f, ":")
	if !ok {
		inside = "/bin/" + filepath.Base(host)
	}
	return guestFile{host, inside}
}

func summary(w io.Writer, k kernel, res *result) {
	text := fmt.Sprintf("exit status %d", res.Exit)
	if res.Error != "" {
		text += ": " + res.Error
	}
	fmt.Fprintf(w, "guest: %s (%s): %s; started after %.1f s, all in %.1f s\n", k.name, k.release, text, res.Uptime, res.took.Seconds())
	for _, line := range complaints(res.kernelLog) {
		fmt.Fprintf(w, "guest: %s: kernel: %s\n", k.name, line)
	}
}

// complaints are the lines in which a kernel says that something is broken. A soft lockup is none: it is what a busy host
// looks like from inside an emulated machine.
func complaints(log string) []string {
	var found []string
	for line := range strings.Lines(log) {
		bad := strings.Contains(line, "WARNING: ") || strings.Contains(line, "BUG: ") || strings.Contains(line, "Oops")
		if bad && !strings.Contains(line, "soft lockup") {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}
