//go:build linux

// Command init is process 1 of a guest. It mounts the usual file systems of Debian, brings up the loopback, loads the
// kernel modules, runs the payload, sends its result to the host and powers off.
//
// It knows nothing of conntape. It mounts /proc before it starts the payload, because programs may read /proc/self
// before main.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/conntape/conntape/test/guest/wire"
	"golang.org/x/sys/unix"
)

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "guest init: error: this is the first process of a test guest, not a command")
		os.Exit(2)
	}
	if err := run(); err != nil {
		// No result: the host shows the console.
		fmt.Println("guest init: error:", err)
	}
	unix.Sync()
	time.Sleep(50 * time.Millisecond) // let the last bytes leave the serial port
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

func run() error {
	if err := mountAll(); err != nil {
		return err
	}
	var config wire.Config
	text, err := os.ReadFile(wire.ConfigPath)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &config); err != nil {
		return fmt.Errorf("parse %s: %w", wire.ConfigPath, err)
	}
	for _, m := range config.Modules {
		if err := loadModule(m); err != nil {
			return fmt.Errorf("load %s: %w", m, err)
		}
	}
	if err := loopbackUp(); err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	connectOnce()
	if err := unix.Sethostname([]byte("guest")); err != nil {
		return fmt.Errorf("set host name: %w", err)
	}
	port, err := openPort()
	if err != nil {
		return err
	}
	out := &sender{port: port}
	result := payload(config, out)
	for _, name := range config.Get {
		f := wire.GuestFile{Name: name}
		if f.Data, err = os.ReadFile(name); err != nil {
			f.Error = err.Error()
		}
		out.json(wire.File, f)
	}
	out.send(wire.Log, kernelLog())
	out.json(wire.Done, result)
	return out.err
}

type mount struct {
	source, target, kind, options string
	optional                      bool // not every kernel has it
}

func mountAll() error {
	mounts := []mount{
		{"proc", "/proc", "proc", "", false},
		{"sysfs", "/sys", "sysfs", "", false},
		{"devtmpfs", "/dev", "devtmpfs", "", false},
		{"devpts", "/dev/pts", "devpts", "", false},
		{"tmpfs", "/dev/shm", "tmpfs", "", false},
		{"tmpfs", "/tmp", "tmpfs", "mode=1777", false},
		{"tmpfs", "/run", "tmpfs", "mode=755", false},
		{"cgroup2", "/sys/fs/cgroup", "cgroup2", "", false},
		{"bpf", "/sys/fs/bpf", "bpf", "", false},
		{"tracefs", "/sys/kernel/tracing", "tracefs", "", false},
		{"debugfs", "/sys/kernel/debug", "debugfs", "", true},
		{"securityfs", "/sys/kernel/security", "securityfs", "", true},
	}
	for _, m := range mounts {
		if err := os.MkdirAll(m.target, 0o755); err != nil && !m.optional {
			return err
		}
		err := unix.Mount(m.source, m.target, m.kind, 0, m.options)
		if err != nil && !m.optional {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	return nil
}

func loadModule(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	err = unix.FinitModule(int(f.Fd()), "", 0)
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
}

// connectOnce makes the first connects of this boot, before anything else runs. The kernel draws its secrets at the first
// connect and then patches its own code; emulated processors that run that code at the same moment may see half of the
// patch (Oops: int3 in inet_init_ehash_secret). It does no harm to be early.
func connectOnce() {
	for _, to := range []unix.Sockaddr{&unix.SockaddrInet4{Port: 1, Addr: [4]byte{127, 0, 0, 1}}, &unix.SockaddrInet6{Port: 1, Addr: [16]byte{15: 1}}} {
		for _, kind := range []int{unix.SOCK_STREAM, unix.SOCK_DGRAM} {
			family := unix.AF_INET
			if _, six := to.(*unix.SockaddrInet6); six {
				family = unix.AF_INET6
			}
			if fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0); err == nil {
				_ = unix.Connect(fd, to) // refused
				unix.Close(fd)
			}
		}
	}
	time.Sleep(100 * time.Millisecond) // a worker does the patching
}

// openPort finds the virtio port by its name; the device appears a moment after its driver.
func openPort() (*os.File, error) {
	for range 200 {
		names, _ := filepath.Glob("/sys/class/virtio-ports/*/name")
		for _, n := range names {
			text, _ := os.ReadFile(n)
			if strings.TrimSpace(string(text)) == wire.Port {
				return os.OpenFile("/dev/"+filepath.Base(filepath.Dir(n)), os.O_RDWR, 0)
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil, fmt.Errorf("no virtio port named %s", wire.Port)
}

// A sender writes frames and keeps the first error.
type sender struct {
	mu   sync.Mutex
	port io.Writer
	err  error
}

func (s *sender) send(kind wire.Kind, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = wire.Write(s.port, kind, data)
	}
}

func (s *sender) json(kind wire.Kind, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // plain structs of strings and bytes
	}
	s.send(kind, data)
}

// payload runs the payload, and whatever it starts, until the payload itself ends.
func payload(config wire.Config, out *sender) wire.Result {
	result := wire.Result{Nonce: config.Nonce, Uptime: uptime()}
	fail := func(err error) wire.Result {
		result.Exit, result.Error = 127, err.Error()
		return result
	}
	r, w, err := os.Pipe()
	if err != nil {
		return fail(err)
	}
	null, err := os.Open("/dev/null")
	if err != nil {
		return fail(err)
	}
	name, err := lookPath(config.Args[0])
	if err != nil {
		return fail(err)
	}
	process, err := os.StartProcess(name, config.Args, &os.ProcAttr{
		Dir: "/root", Env: config.Env, Files: []*os.File{null, w, w},
	})
	w.Close()
	if err != nil {
		return fail(err)
	}
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		buf := make([]byte, 64<<10)
		for {
			n, err := r.Read(buf)
			if n > 0 {
				out.send(wire.Output, buf[:n])
			}
			if err != nil {
				return
			}
		}
	}()
	status := reap(process.Pid)
	// A child left behind may hold the pipe open for ever: what the payload wrote is in the pipe by now.
	_ = r.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	<-copied
	switch {
	case status.Signaled():
		result.Exit = 128 + int(status.Signal())
		result.Error = "ended by " + unix.SignalName(status.Signal())
	default:
		result.Exit = status.ExitStatus()
	}
	return result
}

// reap waits for all children, as the first process must, until pid has ended.
func reap(pid int) unix.WaitStatus {
	for {
		var status unix.WaitStatus
		got, err := unix.Wait4(-1, &status, 0, nil)
		if err == nil && got == pid {
			return status
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return 0
		}
	}
}

func lookPath(name string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for _, dir := range []string{"/bin", "/sbin"} {
		if p := filepath.Join(dir, name); unix.Access(p, unix.X_OK) == nil {
			return p, nil
		}
	}
	return "", fmt.Errorf("no %s in /bin", name)
}

func uptime() float64 {
	text, _ := os.ReadFile("/proc/uptime")
	first, _, _ := strings.Cut(string(text), " ")
	s, _ := strconv.ParseFloat(first, 64)
	return s
}

func kernelLog() []byte {
	buf := make([]byte, 4<<20)
	n, err := unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, buf)
	if err != nil {
		return []byte("read kernel log: " + err.Error())
	}
	return buf[:n]
}
