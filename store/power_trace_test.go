package store

import (
	"bytes"
	"encoding/hex"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// operation is a system call that a traced program made and that did not fail.
type operation struct {
	call   string
	args   []string // strings are decoded
	result int64
	began  int // how many operations were complete when it began
}

// powerCalls are those that change files or make that durable, and those that tell
// which file a descriptor is.
const powerCalls = "open,openat,creat,mkdir,rmdir,link,close,lseek,write,pwrite64,ftruncate,fallocate,copy_file_range,ioctl,fsync,fdatasync,renameat,renameat2,rename," +
	"unlink,unlinkat,linkat,mkdirat,fchmod,fchmodat,chmod,pwritev,writev,sendfile,splice,truncate,dup,dup2,dup3,msync"

var tracedCall = regexp.MustCompile(`^([a-z0-9_]+)\((.*)\) += (-?[0-9]+)`)

// readTrace reads what strace -f -xx wrote.
func readTrace(t testing.TB, file string) []operation {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	type beginning struct {
		call  string
		began int
	}
	var operations []operation
	begun := map[string]beginning{}
	for line := range strings.Lines(string(text)) {
		pid, call, _ := strings.Cut(strings.TrimSpace(line), " ")
		call = strings.TrimSpace(call)
		began := len(operations)
		if head, ok := strings.CutSuffix(call, "<unfinished ...>"); ok {
			begun[pid] = beginning{strings.TrimSpace(head), began}
			if strings.HasPrefix(head, "close(") { // the number is free before the call returns
				operations = append(operations, operation{"close", []string{strings.Trim(head[6:], " )")}, 0, began})
				delete(begun, pid)
			}
			continue
		}
		if resumed.MatchString(call) {
			b, ok := begun[pid]
			if !ok {
				continue
			}
			call, began = b.call+strings.TrimSpace(resumed.ReplaceAllString(call, "")), b.began
			delete(begun, pid)
		}
		m := tracedCall.FindStringSubmatch(call)
		if m == nil {
			continue // a signal, an exit
		}
		result, err := strconv.ParseInt(m[3], 10, 64)
		if err != nil || result < 0 {
			continue
		}
		args := strings.Split(m[2], ",") // no comma is in a string: all are in hex
		for i, a := range args {
			args[i] = decoded(t, strings.TrimSpace(a))
		}
		operations = append(operations, operation{m[1], args, result, began})
	}
	return operations
}

// decoded decodes a string argument, and leaves others.
func decoded(t testing.TB, arg string) string {
	t.Helper()
	if !strings.HasPrefix(arg, `"`) {
		return arg
	}
	data, err := hex.DecodeString(strings.ReplaceAll(strings.Trim(arg, `"`), `\x`, ""))
	if err != nil {
		t.Fatalf("%.60q: %v", arg, err)
	}
	return string(data)
}

// player does on a disk what a traced program did.
type player struct {
	root string
	disk *lossyDisk
	open map[string]*opened // by descriptor
	said string             // to stdout and stderr so far
}

type opened struct {
	node   *node
	path   string
	offset int64
	append bool // each write goes to the end
}

func newPlayer(root string) *player {
	return &player{root: root, disk: newDisk(root), open: map[string]*opened{}}
}

// load takes what there is in the root for synced.
func (p *player) load(t testing.TB) {
	t.Helper()
	err := filepath.WalkDir(p.root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == p.root {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		n := &node{dir: d.IsDir(), mode: info.Mode().Perm(), kept: info.Mode().Perm()}
		if !n.dir {
			if n.synced, err = os.ReadFile(name); err != nil {
				return err
			}
			n.now = bytes.Clone(n.synced)
		}
		p.disk.names[name], p.disk.durable[name] = n, n
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// resolve returns the path of a file by a directory descriptor and a name, or by a
// name that begins with a directory descriptor.
func (p *player) resolve(dir, name string) string {
	if below, ok := strings.CutPrefix(name, "/proc/self/fd/"); ok {
		dir, name, _ = strings.Cut(below, "/")
	}
	if !filepath.IsAbs(name) && p.open[dir] != nil {
		name = path.Join(p.open[dir].path, name)
	}
	return path.Clean(name)
}

func (p *player) inside(name string) bool { return strings.HasPrefix(name, p.root+"/") }

func number(t testing.TB, text string, base int) int64 {
	t.Helper()
	n, err := strconv.ParseInt(text, base, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// play does operation i. It knows every call that changes a file of the root, or
// fails.
func (p *player) play(t testing.TB, i int, o operation) {
	t.Helper()
	if o.call == "open" {
		o.call, o.args = "openat", append([]string{"AT_FDCWD"}, o.args...)
	}
	f := p.open[o.args[0]]
	switch o.call {
	case "openat":
		p.playOpen(t, i, o)
	case "close":
		delete(p.open, o.args[0])
	case "lseek":
		if f != nil {
			f.offset = o.result
		}
	case "write":
		if f != nil {
			if f.append {
				f.offset = int64(len(f.node.now))
			}
			f.node.change(dataChange{i, f.offset, []byte(o.args[1])[:o.result]})
			f.offset += o.result
		} else if o.args[0] == "1" || o.args[0] == "2" {
			p.said += o.args[1]
		}
	case "pwrite64":
		if f != nil {
			f.node.change(dataChange{i, number(t, o.args[3], 10), []byte(o.args[1])[:o.result]})
		}
	case "ftruncate":
		if f != nil {
			f.node.change(dataChange{at: i, offset: number(t, o.args[1], 10)})
		}
	case "copy_file_range":
		if to := p.open[o.args[2]]; to != nil && o.result > 0 {
			if int64(len(f.node.now)) < f.offset+o.result {
				t.Fatalf("copy of %d bytes at %d of %s, which has %d", o.result, f.offset, f.path, len(f.node.now))
			}
			to.node.change(dataChange{i, to.offset, []byte(string(f.node.now[f.offset : f.offset+o.result]))})
			f.offset, to.offset = f.offset+o.result, to.offset+o.result
		}
	case "ioctl":
		if f != nil && strings.Contains(o.args[1], "FICLONE") {
			f.node.change(dataChange{i, 0, []byte(string(p.open[o.args[2]].node.now))})
		}
	case "fsync", "fdatasync":
		if f != nil {
			p.disk.sync(f.node, o.began)
		}
	case "fchmod":
		if f != nil {
			f.node.mode = fs.FileMode(number(t, o.args[1], 8))
		}
	case "fchmodat":
		if name := p.resolve(o.args[0], o.args[1]); p.disk.names[name] != nil {
			p.disk.names[name].mode = fs.FileMode(number(t, o.args[2], 8))
		}
	case "renameat", "renameat2":
		from, to := p.resolve(o.args[0], o.args[1]), p.resolve(o.args[2], o.args[3])
		switch {
		case p.inside(from) && len(o.args) > 4 && strings.Contains(o.args[4], "EXCHANGE"):
			p.disk.exchange(i, from, to)
		case p.inside(from):
			p.disk.rename(i, from, to, p.disk.names[from])
		}
	case "fallocate":
		if f == nil || strings.Contains(o.args[1], "KEEP_SIZE") {
			break
		}
		if end := number(t, o.args[2], 10) + number(t, o.args[3], 10); end > int64(len(f.node.now)) {
			f.node.change(dataChange{at: i, offset: end})
		}
	case "linkat":
		from, to := p.resolve(o.args[0], o.args[1]), p.resolve(o.args[2], o.args[3])
		if p.inside(to) {
			p.disk.rename(i, "", to, p.disk.names[from])
		}
	case "unlink", "unlinkat":
		name := p.resolve(o.args[0], o.args[len(o.args)-1])
		if o.call == "unlinkat" {
			name = p.resolve(o.args[0], o.args[1])
		}
		if p.inside(name) {
			p.disk.rename(i, name, "", nil)
		}
	case "mkdirat":
		if name := p.resolve(o.args[0], o.args[1]); p.inside(name) {
			mode := fs.FileMode(number(t, o.args[2], 8))
			p.disk.rename(i, "", name, &node{dir: true, mode: mode, kept: mode})
		}
	default:
		if f != nil || strings.Contains(o.args[0], p.root) {
			t.Fatalf("%s of a file of the tape is not known", o.call)
		}
	}
}

func (p *player) playOpen(t testing.TB, i int, o operation) {
	t.Helper()
	name := p.resolve(o.args[0], o.args[1])
	if name != p.root && !p.inside(name) {
		return
	}
	n := p.disk.names[name]
	if n == nil {
		mode := fs.FileMode(0)
		if len(o.args) > 3 {
			mode = fs.FileMode(number(t, o.args[3], 8)) &^ 0o022
		}
		n = &node{mode: mode, kept: mode}
		if !strings.Contains(o.args[2], "O_TMPFILE") {
			p.disk.rename(i, "", name, n)
		}
	} else if strings.Contains(o.args[2], "O_TRUNC") {
		n.change(dataChange{at: i})
	}
	p.open[strconv.FormatInt(o.result, 10)] = &opened{node: n, path: name, append: strings.Contains(o.args[2], "O_APPEND")}
}
