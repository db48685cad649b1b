package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// A kernel as test/guest/fetch leaves it.
type kernel struct {
	name     string // amd64-6.1
	arch     string // amd64, arm64: as Go names them
	dir      string
	userland string
	release  string // 6.1.0-56-cloud-amd64
}

func cacheDir() string {
	if dir := os.Getenv("CONNTAPE_CACHE"); dir != "" {
		return dir
	}
	home, err := os.UserHomeDir()
	if err != nil {
		home = "/root"
	}
	return filepath.Join(home, ".cache", "conntape")
}

// moduleRoot is the folder of our go.mod.
func moduleRoot(ctx context.Context) (string, error) {
	mod, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOMOD: %w", err)
	}
	return filepath.Dir(strings.TrimSpace(string(mod))), nil
}

// fetch downloads what is missing, and returns a directory for each name.
func fetch(ctx context.Context, names ...string) (dirs []string, err error) {
	root, err := moduleRoot(ctx)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(root, "test/guest/fetch"), names...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", strings.Join(names, ", "), err)
	}
	return strings.Fields(string(out)), nil
}

// addResolved gives the guest systemd-resolved and its clients, for chroot(2).
func (g *guest) addResolved(ctx context.Context) error {
	dirs, err := fetch(ctx, "resolved-"+g.kernel.arch)
	if err != nil {
		return err
	}
	const inside = "/resolved"
	g.env = append(g.env, "RESOLVED_ROOT="+inside)
	return filepath.WalkDir(dirs[0], func(path string, e os.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			g.files = append(g.files, guestFile{path, inside + strings.TrimPrefix(path, dirs[0])})
		}
		return err
	})
}

// fetchKernels downloads what is missing.
func fetchKernels(ctx context.Context, names ...string) ([]kernel, error) {
	dirs, err := fetch(ctx, names...)
	if err != nil {
		return nil, err
	}
	var kernels []kernel
	for _, dir := range dirs {
		k := kernel{name: filepath.Base(dir), dir: dir}
		k.arch, _, _ = strings.Cut(k.name, "-")
		k.userland = filepath.Join(cacheDir(), "userland", k.arch)
		release, err := os.ReadFile(filepath.Join(dir, "release"))
		if err != nil {
			return nil, err
		}
		k.release = strings.TrimSpace(string(release))
		kernels = append(kernels, k)
	}
	return kernels, nil
}
