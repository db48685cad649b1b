package recorder

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// rootCgroup is the id of the root of cgroup v2 (kernfs gives its root inode 1). Processes that live in v1 hierarchies
// all have it, so it names no place.
const rootCgroup = 1

// cgroups knows the paths of cgroups by id, and the place that each path means. Ids come with every process record, and
// are never used twice within a boot (kernfs: 64 bits on 64-bit kernels).
type cgroups struct {
	mount  string // where cgroup v2 is mounted, "" when it is not
	paths  *generations[uint64, string]
	places *generations[string, place]
}

const cgroupCache = 4096

func newCgroups(mount string) *cgroups {
	return &cgroups{
		mount:  mount,
		paths:  newGenerations[uint64, string](cgroupCache),
		places: newGenerations[string, place](cgroupCache),
	}
}

// place parses a path once.
func (c *cgroups) place(path string, truncated bool) place {
	if truncated {
		return parseCgroup(path, true)
	}
	p, ok := c.places.get(path)
	if !ok {
		p = parseCgroup(path, false)
		c.places.put(path, p)
	}
	return p
}

// learn notes the path that a process record gave for an id.
func (c *cgroups) learn(id uint64, path string, truncated bool) {
	if id > rootCgroup && path != "" && !truncated {
		if old, ok := c.paths.get(id); !ok || old != path {
			c.paths.put(id, path)
		}
	}
}

// path returns the path of a cgroup, "" when it is unknown: of one that no process record named, the kernel is asked,
// which works as long as the cgroup exists.
func (c *cgroups) path(id uint64) string {
	if id == 0 {
		return ""
	}
	if p, ok := c.paths.get(id); ok {
		return p
	}
	p, err := c.ask(id)
	if err != nil {
		p = "" // remembered too: a cgroup that is gone does not come back
	}
	c.paths.put(id, p)
	return p
}

// fileidKernfs is FILEID_KERNFS of include/linux/exportfs.h: the handle is the 64-bit id itself.
const fileidKernfs = 0xfe

// ask opens a cgroup by its id and reads where it is.
func (c *cgroups) ask(id uint64) (string, error) {
	if c.mount == "" {
		return "", unix.ENOENT
	}
	dir, err := unix.Open(c.mount, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("open cgroup root: %w", err)
	}
	defer unix.Close(dir)
	fd, err := unix.OpenByHandleAt(dir, unix.NewFileHandle(fileidKernfs, binary.NativeEndian.AppendUint64(nil, id)), unix.O_PATH|unix.O_CLOEXEC)
	if err != nil {
		return "", fmt.Errorf("open cgroup %d: %w", id, err)
	}
	defer unix.Close(fd)
	path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return "", fmt.Errorf("read path of cgroup %d: %w", id, err)
	}
	path, ok := strings.CutPrefix(path, c.mount)
	if !ok || strings.HasSuffix(path, " (deleted)") {
		return "", unix.ENOENT
	}
	return "/" + strings.TrimPrefix(path, "/"), nil
}

// cgroupMount finds the first mount of cgroup v2 in the text of /proc/self/mountinfo, "" if there is none. Only a mount
// of the hierarchy's root will do.
func cgroupMount(mountinfo []byte) string {
	for line := range bytes.Lines(mountinfo) {
		head, tail, ok := bytes.Cut(line, []byte(" - "))
		f := bytes.Fields(head)
		if !ok || len(f) < 5 || !bytes.HasPrefix(tail, []byte("cgroup2 ")) || string(f[3]) != "/" {
			continue
		}
		return string(f[4])
	}
	return ""
}
