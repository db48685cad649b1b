package main

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
)

// describe writes a bill of materials (CycloneDX) for each program, and the licences of all libraries linked in.
func (b *build) describe(ctx context.Context, programsDir, dir string) error {
	modules := make(map[string]string) // path to version
	for _, name := range programs() {
		program := filepath.Join(programsDir, name)
		info, err := buildinfo.ReadFile(program)
		if err != nil {
			return fmt.Errorf("read what %s is built from: %w", name, err)
		}
		for _, m := range info.Deps {
			if m.Replace != nil {
				m = m.Replace
			}
			modules[m.Path] = m.Version
		}
		bill, err := tool(ctx, "cyclonedx-gomod", "bin", "-json", "-std", "-noserial", "-notimestamp", "-version", b.version, program).Output()
		if err != nil {
			return fmt.Errorf("write bill of materials of %s: %w", name, err)
		}
		if err := b.writeFile(filepath.Join(dir, name+".cdx.json"), bill, 0o644); err != nil {
			return err
		}
	}
	licences, err := licencesOf(ctx, modules)
	if err != nil {
		return err
	}
	return b.writeFile(filepath.Join(dir, "LICENCES-OF-LIBRARIES"), licences, 0o644)
}

// licenceFile matches the files that a distributor has to pass on.
var licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|patents|authors)`)

// licencesOf returns the licence texts of modules, and of Go itself. A module without one is an error.
func licencesOf(ctx context.Context, modules map[string]string) ([]byte, error) {
	goRoot, err := output(ctx, "go", "env", "GOROOT")
	if err != nil {
		return nil, fmt.Errorf("find Go: %w", err)
	}
	directories := map[string]string{"Go": goRoot}
	for path := range modules {
		if directories[path], err = output(ctx, "go", "list", "-m", "-f", "{{.Dir}}", path); err != nil {
			return nil, fmt.Errorf("find module %s: %w", path, err)
		}
	}
	var names []string
	for name := range directories {
		names = append(names, name)
	}
	slices.Sort(names)
	var all bytes.Buffer
	for _, name := range names {
		files, err := os.ReadDir(directories[name])
		if err != nil {
			return nil, err
		}
		before := all.Len()
		for _, file := range files {
			if file.IsDir() || !licenceFile.MatchString(file.Name()) {
				continue
			}
			text, err := os.ReadFile(filepath.Join(directories[name], file.Name()))
			if err != nil {
				return nil, err
			}
			fmt.Fprintf(&all, "== %s %s: %s\n\n%s\n\n", name, modules[name], file.Name(), bytes.TrimSpace(text))
		}
		if all.Len() == before {
			return nil, fmt.Errorf("%s has no licence", name)
		}
	}
	return all.Bytes(), nil
}
