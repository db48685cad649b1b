package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/conntape/conntape/test/tally"
)

// command prints what the program prints.
func command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd
}

func output(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), err
}

func gofmt(ctx context.Context) error {
	files, err := output(ctx, "gofmt", "-l", ".")
	if err == nil && files != "" {
		err = fmt.Errorf("not formatted: %s", strings.ReplaceAll(files, "\n", " "))
	}
	return err
}

// modules checks that go.mod and go.sum match the sources' imports.
func modules(ctx context.Context) error {
	return command(ctx, "go", "mod", "tidy", "-diff").Run()
}

func vet(ctx context.Context) error {
	return command(ctx, "go", "vet", "./...").Run()
}

func staticcheck(ctx context.Context) error {
	return command(ctx, "go", "tool", "-modfile=test/tools.mod", "staticcheck", "./...").Run()
}

// generated rebuilds the BPF objects and compares them with the committed ones. It keeps the new ones for inspection or
// commit.
func generated(ctx context.Context) error {
	before, err := objects()
	if err != nil {
		return err
	}
	if err := command(ctx, "make", "-s", "generate").Run(); err != nil {
		return fmt.Errorf("make generate: %w", err)
	}
	after, err := objects()
	if err != nil {
		return err
	}
	var changed []string
	for name := range after {
		if before[name] != after[name] {
			changed = append(changed, name)
		}
	}
	if len(changed) > 0 || len(after) == 0 {
		slices.Sort(changed)
		return fmt.Errorf("not what their source makes: %s (make generate has renewed them)", strings.Join(changed, " "))
	}
	return nil
}

func objects() (map[string][32]byte, error) {
	sums := map[string][32]byte{}
	for _, pattern := range []string{"bpf/*_bpfel.o", "bpf/*_bpfel.go"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			data, err := os.ReadFile(name)
			if err != nil {
				return nil, err
			}
			sums[name] = sha256.Sum256(data)
		}
	}
	return sums, nil
}

// builds checks that the binaries are static, for both architectures.
func builds(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "conntape-build-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for _, arch := range []string{"amd64", "arm64"} {
		cmd := command(ctx, "make", "-s", "build", "OUT="+filepath.Join(dir, arch))
		cmd.Env = append(os.Environ(), "GOARCH="+arch)
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s: %w", arch, err)
		}
		dynamic, err := isDynamic(filepath.Join(dir, arch))
		if err != nil {
			return err
		}
		if dynamic {
			return fmt.Errorf("%s: the binary is not static", arch)
		}
	}
	return nil
}

// goTest runs go test and counts the tests.
func goTest(ctx context.Context, args ...string) (tally.Tally, error) {
	return goTestIn(ctx, ".", args...)
}

// goTestIn is goTest of the module in a directory.
func goTestIn(ctx context.Context, dir string, args ...string) (tally.Tally, error) {
	cmd := exec.CommandContext(ctx, "go", append([]string{"test", "-json"}, args...)...)
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	events, err := cmd.StdoutPipe()
	if err != nil {
		return tally.Tally{}, err
	}
	if err := cmd.Start(); err != nil {
		return tally.Tally{}, err
	}
	count, readErr := tally.Read(events, os.Stdout)
	return count, errors.Join(readErr, cmd.Wait())
}

const (
	capturePackage = "github.com/conntape/conntape/test/capture"
	longestPackage = "github.com/conntape/conntape/store" // last, it would have half of the processors for itself
)

func unit(ctx context.Context) (tally.Tally, error) {
	all, err := output(ctx, "go", "list", "./...")
	if err != nil {
		return tally.Tally{}, err
	}
	packages := slices.DeleteFunc(strings.Fields(all), func(p string) bool { return p == capturePackage || p == longestPackage })
	return goTest(ctx, append([]string{"-timeout=30m", longestPackage}, packages...)...) // go test begins with the first
}

// duckdb runs the tests of the module that has DuckDB, which needs cgo.
func duckdb(ctx context.Context) (tally.Tally, error) {
	return goTestIn(ctx, "bench/duckdb", "-count=1", "./...")
}

// slowFuzz has the targets of which an input takes milliseconds: fewer of them are tried.
var slowFuzz = map[string]string{"FuzzSalvage": "1000x"}

// fuzz runs each target briefly, one at a time, as go test requires. It limits the number of inputs and not the time: at
// the end of the time go test may report a busy worker as a failure (context deadline exceeded).
func fuzz(ctx context.Context) (tally.Tally, error) {
	var total tally.Tally
	var failed error
	files, err := output(ctx, "git", "grep", "--untracked", "-l", "^func Fuzz", "--", "*_test.go")
	if err != nil {
		return total, fmt.Errorf("find fuzz targets: %w", err)
	}
	var dirs []string
	for _, file := range strings.Fields(files) {
		dirs = append(dirs, "./"+filepath.Dir(file))
	}
	slices.Sort(dirs)
	for _, dir := range slices.Compact(dirs) {
		names, err := output(ctx, "go", "test", "-list", "^Fuzz", dir)
		if err != nil {
			return total, err
		}
		for _, name := range strings.Fields(names) {
			if !strings.HasPrefix(name, "Fuzz") {
				break // the line "ok package time"
			}
			fmt.Printf("fuzzing %s %s\n", dir, name)
			count, err := goTest(ctx, "-run=^$", "-fuzz=^"+name+"$", "-fuzztime="+cmp.Or(slowFuzz[name], "3000x"), dir)
			total.Add(count)
			if err != nil {
				failed = errors.Join(failed, fmt.Errorf("%s %s: %w", dir, name, err))
			}
		}
	}
	return total, failed
}

func native(ctx context.Context) (tally.Tally, error) {
	if os.Geteuid() != 0 {
		fmt.Println("SKIPPED: the capture tests record the whole host and need root; the guests below run them all the same")
		return tally.Tally{Skipped: 1}, nil
	}
	return goTest(ctx, "-count=1", "-timeout=20m", capturePackage)
}

// matrix runs the guests and compares their results with docs/coverage.md.
func matrix(ctx context.Context) (tally.Tally, error) {
	var count tally.Tally
	dir, err := os.MkdirTemp("", "conntape-matrix-")
	if err != nil {
		return count, err
	}
	defer os.RemoveAll(dir)
	counts, coverage := filepath.Join(dir, "counts"), filepath.Join(dir, "coverage.md")
	runErr := command(ctx, "go", "run", "./test/guest", "-matrix", "-tally", counts, "-coverage", coverage).Run()
	text, err := os.ReadFile(counts)
	if err == nil {
		err = json.Unmarshal(text, &count)
	}
	if err := errors.Join(runErr, err); err != nil {
		return count, err
	}
	seen, err := os.ReadFile(coverage)
	if err != nil {
		return count, err
	}
	kept, err := os.ReadFile("docs/coverage.md")
	if err != nil {
		return count, err
	}
	if bytes.Equal(table(seen), table(kept)) {
		return count, nil
	}
	old, new := filepath.Join(dir, "docs"), filepath.Join(dir, "guests")
	if err := errors.Join(os.WriteFile(old, table(kept), 0o600), os.WriteFile(new, table(seen), 0o600)); err != nil {
		return count, err
	}
	if out, err := exec.CommandContext(ctx, "git", "diff", "--no-index", "-U0", old, new).Output(); len(out) > 0 {
		os.Stdout.Write(out)
	} else if err != nil {
		fmt.Printf("git diff: %v; what the guests saw:\n%s", err, table(seen))
	}
	return count, errors.New("docs/coverage.md is not what the guests saw (differences above): make coverage writes it")
}

// table returns the file without the list of kernel releases: a new Debian kernel is no difference.
func table(text []byte) []byte {
	before, _, _ := bytes.Cut(text, []byte("\nKernels:\n"))
	return before
}
