package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// findCompanion finds another program of conntape, beside this one or in PATH. Programs with HTTP are separate from
// conntape.
func findCompanion(name string) (string, error) {
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), name)
		if info, err := os.Stat(beside); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return beside, nil
		}
	}
	found, err := exec.LookPath(name)
	if err != nil {
		return "", &hintedError{fmt.Errorf("%s is neither beside conntape nor in PATH", name), "make build makes all of them; it is a program of its own, since conntape has no HTTP in it"}
	}
	return found, nil
}
