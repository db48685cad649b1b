package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// layout says where files go on a system.
type layout struct {
	prefix string // of all but /etc
	zsh    string // directory of completions, below prefix
}

// stage puts everything except the configuration below root, as it will be installed.
func (b *build) stage(ctx context.Context, root, programsDir string, l layout) error {
	at := func(path string) string { return filepath.Join(root, l.prefix, path) }
	for _, name := range programs() {
		if err := b.copyFile(filepath.Join(programsDir, name), at("bin/"+name), 0o755); err != nil {
			return err
		}
	}
	for _, name := range []string{"conntape.service", "conntape-metrics.service"} {
		unit, err := os.ReadFile(filepath.Join("packaging", name))
		if err != nil {
			return err
		}
		unit = bytes.ReplaceAll(unit, []byte("@BINDIR@"), []byte(filepath.Join(l.prefix, "bin")))
		if err := b.writeFile(at("lib/systemd/system/"+name), unit, 0o644); err != nil {
			return err
		}
	}
	copies := map[string]string{
		"packaging/sysusers.conf":          "lib/sysusers.d/conntape.conf",
		"packaging/tmpfiles.conf":          "lib/tmpfiles.d/conntape.conf",
		"packaging/prometheus-rules.yml":   "share/conntape/prometheus-rules.yml",
		"packaging/grafana-dashboard.json": "share/conntape/grafana-dashboard.json",
		"README.md":                        "share/doc/conntape/README.md",
		"CHANGELOG.md":                     "share/doc/conntape/CHANGELOG.md",
		"LICENSE":                          "share/doc/conntape/copyright",
	}
	for _, pattern := range []string{"docs/*.md", "LICENSES/*.txt"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			return err
		}
		for _, name := range names {
			copies[name] = "share/doc/conntape/" + name
		}
	}
	for from, to := range copies {
		if err := b.copyFile(from, at(to), 0o644); err != nil {
			return err
		}
	}
	if err := b.describe(ctx, programsDir, at("share/doc/conntape")); err != nil {
		return err
	}
	return b.generate(ctx, at, l)
}

// generate writes the manual and the shell completions, which the program prints itself. It runs a program built for this
// machine, whatever the package's architecture.
func (b *build) generate(ctx context.Context, at func(string) string, l layout) error {
	dir, err := os.MkdirTemp("", "conntape-generate-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := b.compile(ctx, dir, ""); err != nil {
		return err
	}
	program, pages := filepath.Join(dir, "conntape"), filepath.Join(dir, "man")
	if err := command(ctx, program, "man", pages).Run(); err != nil {
		return fmt.Errorf("write manual: %w", err)
	}
	names, err := os.ReadDir(pages)
	if err != nil {
		return err
	}
	for _, page := range names {
		text, err := os.ReadFile(filepath.Join(pages, page.Name()))
		if err != nil {
			return err
		}
		packed, err := compress(text)
		if err != nil {
			return err
		}
		if err := b.writeFile(at("share/man/man1/"+page.Name()+".gz"), packed, 0o644); err != nil {
			return err
		}
	}
	for shell, path := range map[string]string{
		"bash": "share/bash-completion/completions/conntape", "zsh": l.zsh + "/_conntape", "fish": "share/fish/vendor_completions.d/conntape.fish",
	} {
		script, err := command(ctx, program, "completion", shell).Output()
		if err != nil {
			return fmt.Errorf("write completion of %s: %w", shell, err)
		}
		if shell == "zsh" { // zsh looks for this in the first line
			script = append([]byte("#compdef conntape\n"), script...)
		}
		if err := b.writeFile(at(path), script, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// compress gzips text without a time or a name.
func compress(text []byte) ([]byte, error) {
	var packed bytes.Buffer
	w, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(text); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return packed.Bytes(), nil
}

func (b *build) copyFile(from, to string, mode fs.FileMode) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return b.writeFile(to, data, mode)
}

// writeFile writes a file whose mode and time do not depend on the builder. It replaces a running program instead of
// writing over it.
func (b *build) writeFile(path string, data []byte, mode fs.FileMode) error {
	if err := b.makeDirs(filepath.Dir(path)); err != nil {
		return err
	}
	fresh := path + ".new"
	if err := os.WriteFile(fresh, data, mode); err != nil {
		return err
	}
	if err := os.Chmod(fresh, mode); err != nil {
		return err
	}
	if err := os.Chtimes(fresh, b.epoch, b.epoch); err != nil {
		return err
	}
	return os.Rename(fresh, path)
}

// makeDirs makes the missing directories of a path, readable by all.
func (b *build) makeDirs(dir string) error {
	var missing []string
	for d := dir; d != "/" && d != "."; d = filepath.Dir(d) {
		if _, err := os.Stat(d); err == nil {
			break
		}
		missing = append(missing, d)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, d := range missing {
		if err := os.Chmod(d, 0o755); err != nil {
			return err
		}
	}
	return nil
}
