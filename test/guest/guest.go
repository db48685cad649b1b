package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/conntape/conntape/test/guest/wire"
)

// A guest is one kernel, booted once to run one payload.
type guest struct {
	kernel  kernel
	files   []guestFile
	args    []string // the payload and its arguments, as the guest sees them
	env     []string
	modules []string // beyond those that the guest needs itself
	get     []string // guest paths to bring back
	cpus    int
	memory  int // MiB
	timeout time.Duration
	append  string    // more kernel command line
	console io.Writer // the kernel's messages as they come; nil for none
	output  io.Writer // the payload's output as it comes
}

// A guestFile is copied from the host into the guest.
type guestFile struct{ host, guest string }

// A result is the end of a guest's payload. A guest that did not reach it has an error instead.
type result struct {
	wire.Result
	release   string
	files     []wire.GuestFile
	kernelLog string
	took      time.Duration
}

// run boots the guest and waits for its result. The error carries the end of the console.
func (g *guest) run(ctx context.Context) (*result, error) {
	dir, err := os.MkdirTemp("", "conntape-guest-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	nonce := rand.Text()
	image := filepath.Join(dir, "initramfs")
	if err := g.writeImage(ctx, image, nonce); err != nil {
		return nil, fmt.Errorf("build initramfs: %w", err)
	}
	socket := filepath.Join(dir, "port")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	defer listener.Close()

	ctx, cancel := context.WithTimeout(ctx, g.timeout)
	defer cancel()
	var console tail
	consoles := io.Writer(&console)
	if g.console != nil {
		consoles = io.MultiWriter(&console, g.console)
	}
	start := time.Now()
	ended := make(chan error, 1)
	go func() {
		ended <- runQEMU(ctx, g.qemu(image, socket), consoles)
		listener.Close() // a machine that never connected will not any more
	}()
	res, readErr := g.receive(listener, nonce)
	if readErr != nil {
		// A guest that keeps running without an answer is of no use. One that just ended is let go.
		time.AfterFunc(2*time.Second, cancel)
	}
	qemuErr := <-ended
	if res != nil {
		res.took, res.release = time.Since(start), g.kernel.release
		return res, nil
	}
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		err = fmt.Errorf("no result within %v", g.timeout)
	case qemuErr != nil:
		err = fmt.Errorf("run qemu: %w", qemuErr)
	default:
		err = fmt.Errorf("guest ended without a result: %w", readErr)
	}
	return nil, fmt.Errorf("%w; the console's end:\n%s", err, console.String())
}

func (g *guest) qemu(image, socket string) []string {
	var args []string
	console := "ttyS0"
	switch g.kernel.arch {
	case "arm64":
		args = []string{"qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a57"}
		console = "ttyAMA0"
	default:
		args = []string{"qemu-system-x86_64", "-cpu", "max"}
	}
	return append(args,
		// Always emulated: the same everywhere, and CI machines seldom have /dev/kvm. One thread takes turns for all
		// processors: with a thread each, a processor can keep what it translated of code that another has patched since,
		// and meet a breakpoint that is gone, once (Oops: int3) or for ever (soft lockup at a static branch).
		"-accel", "tcg,thread=single", "-smp", fmt.Sprint(g.cpus), "-m", fmt.Sprint(g.memory),
		"-nodefaults", "-display", "none", "-nic", "none", "-no-reboot", "-serial", "stdio",
		"-chardev", "socket,id=port,path="+socket,
		"-device", "virtio-serial-pci", "-device", "virtserialport,chardev=port,name="+wire.Port,
		"-kernel", filepath.Join(g.kernel.dir, "vmlinuz"), "-initrd", image,
		"-append", strings.TrimSpace("console="+console+" quiet panic=-1 oops=panic "+g.append))
}

// runQEMU ends with qemu. Should this process be killed, qemu goes with it; that holds as long as the thread that
// started it lives.
func runQEMU(ctx context.Context, args []string, console io.Writer) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = console, console
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd.Run()
}

// receive reads frames until the result with our nonce.
func (g *guest) receive(listener net.Listener, nonce string) (*result, error) {
	conn, err := listener.Accept()
	if err != nil {
		return nil, errors.New("qemu did not start")
	}
	defer conn.Close()
	res := &result{}
	for {
		kind, data, err := wire.Read(conn)
		if err != nil {
			return nil, err
		}
		switch kind {
		case wire.Output:
			if _, err := g.output.Write(data); err != nil {
				return nil, err
			}
		case wire.File:
			var f wire.GuestFile
			if err := json.Unmarshal(data, &f); err != nil {
				return nil, err
			}
			res.files = append(res.files, f)
		case wire.Log:
			res.kernelLog = string(data)
		case wire.Done:
			if err := json.Unmarshal(data, &res.Result); err != nil {
				return nil, err
			}
			if res.Nonce != nonce {
				return nil, errors.New("result of another boot")
			}
			return res, nil
		default:
			return nil, fmt.Errorf("unknown frame %q", kind)
		}
	}
}

// guestModules are needed by every guest: the port, and sockets for tests.
var guestModules = []string{"virtio_pci", "virtio_console"}

func (g *guest) writeImage(ctx context.Context, file, nonce string) error {
	modules, err := findModules(filepath.Join(g.kernel.dir, "modules"), append(guestModules, g.modules...))
	if err != nil {
		return err
	}
	initPath, err := buildInit(ctx, g.kernel.arch)
	if err != nil {
		return err
	}
	config := wire.Config{Nonce: nonce, Args: g.args, Get: g.get, Env: append([]string{
		"PATH=/bin:/sbin", "HOME=/root", "USER=root", "TERM=dumb", "SHELL=/bin/bash",
	}, g.env...)}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	a := newArchive(f)
	for _, d := range []string{"/proc", "/sys", "/tmp", "/run", "/root", "/bin", "/mnt", "/var/tmp"} {
		a.dir(d)
	}
	a.char("/dev/console", 5, 1)
	a.char("/dev/null", 1, 3)
	a.link("/sbin", "bin")
	a.file("/init", initPath, 0o755)
	a.file("/bin/bash", filepath.Join(g.kernel.userland, "bash"), 0o755)
	a.file("/bin/busybox", filepath.Join(g.kernel.userland, "busybox"), 0o755)
	a.link("/bin/sh", "bash")
	for _, tool := range strings.Fields(applets) {
		a.link("/bin/"+tool, "busybox")
	}
	a.bytes("/etc/passwd", 0o644, []byte("root:x:0:0::/root:/bin/bash\nalice:x:1000:1000::/:/bin/bash\nnobody:x:65534:65534::/:/bin/sh\n"))
	a.bytes("/etc/group", 0o644, []byte("root:x:0:\nalice:x:1000:\nnogroup:x:65534:\n"))
	a.bytes("/etc/hosts", 0o644, []byte("127.0.0.1 localhost\n::1 localhost\n"))
	a.bytes("/etc/machine-id", 0o444, []byte("c0111a9ec0111a9ec0111a9ec0111a9e\n"))
	for _, m := range modules {
		name := "/lib/modules/" + m.name + ".ko"
		a.bytes(name, 0o644, m.data)
		config.Modules = append(config.Modules, name)
	}
	for _, f := range g.files {
		info, err := os.Stat(f.host)
		if err != nil {
			return err
		}
		a.file(f.guest, f.host, int(info.Mode().Perm()))
	}
	text, err := json.Marshal(config)
	if err != nil {
		return err
	}
	a.bytes(wire.ConfigPath, 0o644, text)
	return a.close()
}

const applets = `awk base64 cat chmod chown chroot cp cut date dd df dmesg env false find free grep gzip head hostname id
	insmod ip kill ln ls lsmod md5sum mkdir mknod mkfifo mount mv nc netstat nsenter pgrep ps pwd rm rmdir sed seq
	setsid sha256sum sleep sort stat strings su sync sysctl tail tar tee time timeout touch tr true umount uname uniq
	unshare uptime vi wc wget which xargs xxd yes zcat`

// buildInit compiles the guest's first process; Go's build cache makes that quick after the first time.
func buildInit(ctx context.Context, arch string) (string, error) {
	dir := filepath.Join(cacheDir(), "init")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	out := filepath.Join(dir, arch)
	return out, goTool(ctx, arch, "build", "-trimpath", "-ldflags=-s -w", "-o", out, "github.com/conntape/conntape/test/guest/init")
}

// goTool runs the go command for the guest's architecture, without cgo: whatever it builds is static.
func goTool(ctx context.Context, arch string, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, text)
	}
	return nil
}

// A tail keeps the last bytes written to it.
type tail struct{ buf bytes.Buffer }

func (t *tail) Write(p []byte) (int, error) {
	const keep = 16 << 10
	t.buf.Write(p)
	if n := t.buf.Len() - keep; n > keep {
		t.buf.Next(n)
	}
	return len(p), nil
}

func (t *tail) String() string { return strings.ReplaceAll(t.buf.String(), "\r\n", "\n") }
