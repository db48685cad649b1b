package main

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// A module is a kernel module, uncompressed.
type module struct {
	name string
	data []byte
}

// findModules returns the named modules and, before each, those it depends on. A name that is neither a module of this
// kernel nor built into it is an error. Dependencies are read from the modules themselves: modules.dep is made by
// depmod on installation and is in no package.
func findModules(dir string, names []string) ([]module, error) {
	paths := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if stem, _, ok := strings.Cut(d.Name(), ".ko"); ok && d.Type().IsRegular() {
			paths[moduleName(stem)] = p
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	builtin := map[string]bool{}
	text, err := os.ReadFile(filepath.Join(dir, "modules.builtin"))
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		builtin[moduleName(strings.TrimSuffix(filepath.Base(strings.TrimSpace(line)), ".ko"))] = true
	}

	var found []module
	seen := map[string]bool{}
	var add func(name string) error
	add = func(name string) error {
		name = moduleName(name)
		if seen[name] || builtin[name] {
			return nil
		}
		seen[name] = true
		p, ok := paths[name]
		if !ok {
			return fmt.Errorf("no kernel module %s in %s", name, dir)
		}
		data, err := readModule(p)
		if err != nil {
			return err
		}
		needs, err := dependencies(data)
		if err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		for _, n := range needs {
			if err := add(n); err != nil {
				return err
			}
		}
		found = append(found, module{name, data})
		return nil
	}
	for _, n := range names {
		if err := add(n); err != nil {
			return nil, err
		}
	}
	return found, nil
}

func moduleName(s string) string { return strings.ReplaceAll(s, "-", "_") }

func readModule(p string) ([]byte, error) {
	switch filepath.Ext(p) {
	case ".xz":
		return exec.Command("xz", "-dc", p).Output()
	case ".zst":
		return exec.Command("zstd", "-qdc", p).Output()
	}
	return os.ReadFile(p)
}

func dependencies(data []byte) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	section := f.Section(".modinfo")
	if section == nil {
		return nil, errors.New("no .modinfo section")
	}
	info, err := section.Data()
	if err != nil {
		return nil, err
	}
	for field := range bytes.SplitSeq(info, []byte{0}) {
		if list, ok := strings.CutPrefix(string(field), "depends="); ok && list != "" {
			return strings.Split(list, ","), nil
		}
	}
	return nil, nil
}
