package metrics

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const usage = `usage: conntape-metrics [--dir DIRECTORY] --listen 127.0.0.1:9741
       conntape-metrics [--dir DIRECTORY] --listen unix:/run/conntape/metrics.sock
       conntape-metrics [--dir DIRECTORY] --textfile FILE.prom

Gives the state of a tape to Prometheus: to whoever asks for /metrics on the loopback or a UNIX
socket, or once into a file for the textfile collector of node_exporter. It needs to read the tape, and
no other privilege: run it as a member of the group conntape. "conntape metrics" runs it.
`

// errUsage is a wrong command line.
var errUsage = errors.New("wrong usage")

// Main is the program conntape-metrics. It returns its exit code: 0 when it was told to stop or has written the file, 1 when
// that did not work, 2 for wrong usage.
func Main() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errUsage):
		fmt.Fprintf(os.Stderr, "conntape-metrics: error: %v\n%s", err, usage)
		return 2
	}
	fmt.Fprintf(os.Stderr, "conntape-metrics: error: %v\n", err)
	return 1
}

func run(ctx context.Context, args []string, out, complaints io.Writer) error {
	flags := flag.NewFlagSet("conntape-metrics", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	dir := flags.String("dir", "", "")
	listen := flags.String("listen", "", "")
	textfile := flags.String("textfile", "", "")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		_, err = io.WriteString(out, usage)
		return err
	} else if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("%w: unexpected argument %q", errUsage, flags.Arg(0))
	}
	if (*listen == "") == (*textfile == "") {
		return fmt.Errorf("%w: say either --listen or --textfile", errUsage)
	}
	program, err := findConntape()
	if err != nil {
		return err
	}
	said := &latest{w: complaints}
	registry, err := newRegistry(source{program, *dir}, said.say)
	if err != nil {
		return err
	}
	if *textfile != "" {
		if err := prometheus.WriteToTextfile(*textfile, registry); err != nil {
			return fmt.Errorf("write metrics: %w", err)
		}
		return said.err()
	}
	l, err := openListener(*listen)
	if err != nil {
		return err
	}
	fmt.Fprintf(complaints, "conntape-metrics: serving /metrics on %s\n", *listen)
	return serve(ctx, l, registry)
}

func newRegistry(s source, log func(error)) (*prometheus.Registry, error) {
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(&collector{read: s.read, log: log}); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	return registry, nil
}

// latest says each error once, until another one comes.
type latest struct {
	mu   sync.Mutex
	w    io.Writer
	last error
}

func (l *latest) say(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last == nil || l.last.Error() != err.Error() {
		fmt.Fprintf(l.w, "conntape-metrics: error: %s\n", clean(err.Error()))
	}
	l.last = err
}

// err returns whether anything was said: the file has scrape_success 0 then, and the exit code is 1.
func (l *latest) err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last == nil {
		return nil
	}
	return errors.New("the file says only that the status could not be read")
}

// unixPrefix begins the name of a UNIX socket to listen on.
const unixPrefix = "unix:"

// openListener listens on the loopback or a UNIX socket: counters of who connects how much are nobody else's business.
func openListener(where string) (net.Listener, error) {
	if path, ok := strings.CutPrefix(where, unixPrefix); ok {
		return openSocket(path)
	}
	at, err := netip.ParseAddrPort(where)
	if err != nil {
		return nil, fmt.Errorf("%w: --listen %s: want 127.0.0.1:PORT, [::1]:PORT or unix:/PATH", errUsage, where)
	}
	if !at.Addr().IsLoopback() {
		return nil, fmt.Errorf("%w: --listen %s: only the loopback and UNIX sockets are served: put a proxy with TLS and a password before it", errUsage, where)
	}
	l, err := net.Listen("tcp", at.String())
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return l, nil
}

// openSocket makes the socket with mode 0660, and takes the place of one that a killed server left behind.
func openSocket(path string) (net.Listener, error) {
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() == os.ModeSocket {
		if c, err := net.Dial("unix", path); err == nil {
			c.Close()
			return nil, fmt.Errorf("listen on %s: somebody serves there already", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("remove an old socket: %w", err)
		}
	}
	before := syscall.Umask(0o117)
	l, err := net.Listen("unix", path)
	syscall.Umask(before)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return l, nil
}

// serve answers until ctx ends. One question at a time: each starts a process.
func serve(ctx context.Context, l net.Listener, registry *prometheus.Registry) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 1, Timeout: readWithin}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	stopped := context.AfterFunc(ctx, func() {
		within, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = server.Shutdown(within)
	})
	defer stopped()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve metrics: %w", err)
	}
	return nil
}
