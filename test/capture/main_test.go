// Package capture runs the real conntape binary over real connects and compares the tape with the system calls made. It
// knows the command line, the public views and package connects, and nothing of how a connect gets onto the tape.
//
// It must be root. A static test binary runs in a guest that has nothing else:
//
//	CGO_ENABLED=0 go test -c ./test/capture
//	CONNTAPE_BIN=/bin/conntape CONNECTS_BIN=/bin/connects CONNTAPE_BACKEND=kprobe CONNTAPE_SCALE=0.05 capture.test -test.v
//
// Without CONNTAPE_BIN and CONNECTS_BIN both are built. CONNTAPE_BACKEND is passed to record, and without it record
// chooses. CONNTAPE_SCALE, 1 by default, shrinks the counts of the load tests for an emulated machine. IN_GUEST=1 allows
// cases that must not leave a real machine (vsock).
//
// The table of TestCases prints a line for each attempt, which docs/coverage.md is made from:
//
//	COVERAGE case[/step] seen|blind|n/a|failed detail
package capture

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// The programs under test and the settings, the same for all tests.
type environment struct {
	conntape, connects string
	backend            string // as the environment asked; "" lets record choose
	scale              float64
	inGuest            bool
	kernel             [2]int
	seenBy             string // the backend that the recorder under test chose
	blindSpots         string // likewise what it cannot see
}

var env environment

func TestMain(m *testing.M) {
	if helper := os.Getenv(helperVariable); helper != "" {
		os.Exit(runHelper(helper, os.Args[1:]))
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "SKIPPED: the capture tests record the whole host and must be run as root")
		return 0
	}
	built, err := os.MkdirTemp("", "capture")
	if err != nil {
		fmt.Fprintln(os.Stderr, "capture:", err)
		return 1
	}
	defer os.RemoveAll(built)
	if env, err = readEnvironment(built); err != nil {
		fmt.Fprintln(os.Stderr, "capture:", err)
		return 1
	}
	return m.Run()
}

func readEnvironment(built string) (environment, error) {
	e := environment{backend: os.Getenv("CONNTAPE_BACKEND"), scale: 1, inGuest: os.Getenv("IN_GUEST") == "1"}
	var err error
	if e.conntape, err = program("CONNTAPE_BIN", func() (string, error) { return buildConntape(built) }); err != nil {
		return e, err
	}
	if e.connects, err = program("CONNECTS_BIN", func() (string, error) { return buildConnects(built) }); err != nil {
		return e, err
	}
	if s := os.Getenv("CONNTAPE_SCALE"); s != "" {
		if e.scale, err = strconv.ParseFloat(s, 64); err != nil || e.scale <= 0 {
			return e, fmt.Errorf("CONNTAPE_SCALE=%s: want a number above 0", s)
		}
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return e, err
	}
	_, err = fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &e.kernel[0], &e.kernel[1])
	return e, err
}

// kernelBefore reports whether the kernel is older than a release.
func (e environment) kernelBefore(major, minor int) bool {
	return e.kernel[0] < major || e.kernel[0] == major && e.kernel[1] < minor
}

// scaled returns n made smaller for this machine, but no less than least.
func scaled(n, least int) int { return max(int(float64(n)*env.scale), least) }

func program(variable string, build func() (string, error)) (string, error) {
	path := os.Getenv(variable)
	if path == "" {
		return build()
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return "", fmt.Errorf("%s: %w", variable, err)
	}
	return path, nil
}

func buildConntape(dir string) (string, error) {
	out := filepath.Join(dir, "conntape")
	return out, built(exec.Command("go", "build", "-o", out, "github.com/conntape/conntape/cmd/conntape"))
}

func buildConnects(dir string) (string, error) {
	return filepath.Join(dir, "connects-"+runtime.GOARCH),
		built(exec.Command("make", "-s", "-C", "../connects", "OUT="+dir, filepath.Join(dir, "connects-"+runtime.GOARCH)))
}

func built(cmd *exec.Cmd) error {
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	return nil
}
