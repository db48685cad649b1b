// Command build makes deb and rpm packages of conntape, or installs its files below a directory.
//
//	go run ./packaging/build -out dist                           packages for amd64 and arm64
//	go run ./packaging/build -install / -prefix /usr/local       the same as make install
//
// The same commit makes the same bytes: no path, time or user of the building machine gets in. It knows which files are
// made and where they go, and nothing of what the program does.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "build: error:", err)
		os.Exit(1)
	}
}

// build is one run of the command.
type build struct {
	version string    // as conntape --version prints it
	epoch   time.Time // modification time of every file
	out     string    // directory of the packages
	arches  []string
}

func run(ctx context.Context, args []string) error {
	var b build
	flags := flag.NewFlagSet("build", flag.ContinueOnError)
	flags.StringVar(&b.version, "version", "", "version; without it that of git")
	flags.StringVar(&b.out, "out", "dist", "directory for the packages")
	arches := flags.String("arch", "amd64,arm64", "architectures of the packages")
	kinds := flags.String("kind", "deb,rpm", "kinds of packages")
	destination := flags.String("install", "", "install below this directory instead, for this architecture")
	prefix := flags.String("prefix", "/usr/local", "with -install: prefix of all but /etc")
	if err := flags.Parse(args); err != nil {
		return err
	}
	b.arches = strings.Split(*arches, ",")
	if err := b.identify(ctx); err != nil {
		return err
	}
	if *destination != "" {
		return b.install(ctx, *destination, *prefix)
	}
	return b.packages(ctx, strings.Split(*kinds, ","))
}

// identify sets version and time: the commit's, unless flag or SOURCE_DATE_EPOCH say otherwise.
func (b *build) identify(ctx context.Context) error {
	if b.version == "" {
		described, err := output(ctx, "git", "describe", "--tags", "--always", "--dirty")
		b.version = described
		if err != nil {
			b.version = "devel"
		}
	}
	epoch := os.Getenv("SOURCE_DATE_EPOCH")
	if epoch == "" {
		epoch, _ = output(ctx, "git", "log", "-1", "--format=%ct")
	}
	seconds, err := strconv.ParseInt(cmp.Or(epoch, "0"), 10, 64)
	if err != nil {
		return fmt.Errorf("read SOURCE_DATE_EPOCH: %w", err)
	}
	b.epoch = time.Unix(seconds, 0).UTC()
	return nil
}

var released = regexp.MustCompile(`^v?[0-9]+\.[0-9]+\.[0-9]+`)

// packageVersion is the version of a package. An untagged commit sorts before the first release.
func (b *build) packageVersion() string {
	if released.MatchString(b.version) {
		return strings.TrimPrefix(b.version, "v")
	}
	return "0.1.0-dev+" + strings.ReplaceAll(b.version, "-", ".")
}

// packages makes one package for each architecture and kind.
func (b *build) packages(ctx context.Context, kinds []string) error {
	if err := os.MkdirAll(b.out, 0o755); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "conntape-packages-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for _, arch := range b.arches {
		programs := filepath.Join(dir, arch)
		if err := b.compile(ctx, programs, arch); err != nil {
			return err
		}
		for _, kind := range kinds {
			l := layout{prefix: "/usr", zsh: "share/zsh/site-functions"}
			if kind == "deb" {
				l.zsh = "share/zsh/vendor-completions"
			}
			stage := filepath.Join(dir, arch+"-"+kind)
			if err := b.stage(ctx, stage, programs, l); err != nil {
				return err
			}
			if err := b.pack(ctx, kind, arch, stage); err != nil {
				return err
			}
		}
	}
	return nil
}

// pack makes a package from a tree, with nfpm.
func (b *build) pack(ctx context.Context, kind, arch, stage string) error {
	template, err := os.ReadFile("packaging/nfpm.yaml")
	if err != nil {
		return err
	}
	values := map[string]string{"ARCH": arch, "VERSION": b.packageVersion(), "STAGE": stage,
		"CONF": "packaging/conntape.toml", "MTIME": b.epoch.Format(time.RFC3339)}
	config := stage + ".yaml"
	text := os.Expand(string(template), func(name string) string { return values[name] })
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		return err
	}
	cmd := tool(ctx, "nfpm", "package", "-f", config, "-p", kind, "-t", b.out)
	cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH="+strconv.FormatInt(b.epoch.Unix(), 10))
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("make %s for %s: %w", kind, arch, err)
	}
	return nil
}

// install puts the files below a directory. It keeps an existing configuration.
func (b *build) install(ctx context.Context, destination, prefix string) error {
	dir, err := os.MkdirTemp("", "conntape-install-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := b.compile(ctx, dir, ""); err != nil {
		return err
	}
	if err := b.stage(ctx, destination, dir, layout{prefix: prefix, zsh: "share/zsh/site-functions"}); err != nil {
		return err
	}
	conf := filepath.Join(destination, "etc/conntape.toml")
	if _, err := os.Stat(conf); err == nil {
		return nil
	}
	return b.copyFile("packaging/conntape.toml", conf, 0o644)
}

// compile builds the programs, for this machine if arch is "".
func (b *build) compile(ctx context.Context, dir, arch string) error {
	for _, name := range programs() {
		cmd := command(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w -X main.version="+b.version, "-o", filepath.Join(dir, name), "./cmd/"+name)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if arch != "" {
			cmd.Env = append(cmd.Env, "GOARCH="+arch)
		}
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("build %s for %s: %w", name, cmp.Or(arch, "this machine"), err)
		}
	}
	return nil
}

func programs() []string { return []string{"conntape", "conntape-witness", "conntape-metrics"} }

func command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stderr = os.Stderr
	return cmd
}

func tool(ctx context.Context, args ...string) *exec.Cmd {
	return command(ctx, "go", append([]string{"tool", "-modfile=packaging/tools.mod"}, args...)...)
}

func output(ctx context.Context, name string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, name, args...).Output()
	return strings.TrimSpace(string(out)), err
}
