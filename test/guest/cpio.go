package main

import (
	"fmt"
	"io"
	"os"
	"path"
)

// An archive is an initramfs in the making: cpio in the newc format, not compressed, because an emulated processor
// takes longer to unpack than to copy.
type archive struct {
	w    io.Writer
	err  error
	ino  int
	dirs map[string]bool
}

func newArchive(w io.Writer) *archive {
	return &archive{w: w, dirs: map[string]bool{".": true, "/": true}}
}

// Modes as in stat(2).
const (
	modeDir  = 0o040000
	modeFile = 0o100000
	modeLink = 0o120000
	modeChar = 0o020000
)

func (a *archive) entry(name string, mode, major, minor int, data []byte) {
	if a.err != nil {
		return
	}
	a.ino++
	head := fmt.Sprintf("070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		a.ino, mode, 0, 0, 1, 0, len(data), 0, 0, major, minor, len(name)+1, 0, name)
	pad := func(n int) []byte { return make([]byte, -n&3) }
	for _, b := range [][]byte{[]byte(head), pad(len(head)), data, pad(len(data))} {
		if _, err := a.w.Write(b); err != nil {
			a.err = err
			return
		}
	}
}

// parent makes the directories above name.
func (a *archive) parent(name string) {
	dir := path.Dir(name)
	if a.dirs[dir] {
		return
	}
	a.parent(dir)
	a.dirs[dir] = true
	a.entry(dir[1:], modeDir|0o755, 0, 0, nil)
}

func (a *archive) dir(name string) {
	a.parent(name + "/.")
}

func (a *archive) bytes(name string, perm int, data []byte) {
	a.parent(name)
	a.entry(name[1:], modeFile|perm, 0, 0, data)
}

func (a *archive) file(name, host string, perm int) {
	data, err := os.ReadFile(host)
	if err != nil {
		if a.err == nil {
			a.err = err
		}
		return
	}
	a.bytes(name, perm, data)
}

func (a *archive) link(name, to string) {
	a.parent(name)
	a.entry(name[1:], modeLink|0o777, 0, 0, []byte(to))
}

func (a *archive) char(name string, major, minor int) {
	a.parent(name)
	a.entry(name[1:], modeChar|0o600, major, minor, nil)
}

func (a *archive) close() error {
	a.entry("TRAILER!!!", 0, 0, 0, nil)
	return a.err
}
