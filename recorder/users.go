package recorder

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"time"
)

// users names uids by the host's passwd(5). A user that only NSS knows (LDAP, a container's own passwd) has no name
// here: "" is said rather than another's.
type users struct {
	path  string
	names map[uint32]string
	mtime time.Time
	size  int64
}

func newUsers(path string) *users {
	return &users{path: path, names: map[uint32]string{}}
}

// name returns the name of a user on the host, or "". In a container a uid means whatever the passwd(5) of its image
// says, which is not known here.
func (u *users) name(uid uint32, container string) string {
	if container != "" {
		return ""
	}
	return u.names[uid]
}

// refresh reads the file again if it changed, and tells whether it did. A file that is gone leaves what was known: it
// is being replaced.
func (u *users) refresh() (bool, error) {
	info, err := os.Stat(u.path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at users: %w", err)
	}
	if info.ModTime().Equal(u.mtime) && info.Size() == u.size {
		return false, nil
	}
	text, err := os.ReadFile(u.path)
	if err != nil {
		return false, fmt.Errorf("read users: %w", err)
	}
	u.names = parsePasswd(text)
	u.mtime, u.size = info.ModTime(), info.Size()
	return true, nil
}

// parsePasswd reads name:password:uid:… lines. The first name of a uid counts, as in getpwuid(3).
func parsePasswd(text []byte) map[uint32]string {
	names := map[uint32]string{}
	for line := range bytes.Lines(text) {
		f := bytes.SplitN(bytes.TrimRight(line, "\n"), []byte(":"), 4)
		if len(f) < 4 || len(f[0]) == 0 || f[0][0] == '#' || f[0][0] == '+' || f[0][0] == '-' {
			continue
		}
		uid, err := strconv.ParseUint(string(f[2]), 10, 32)
		if err != nil {
			continue
		}
		if _, ok := names[uint32(uid)]; !ok {
			names[uint32(uid)] = string(f[0])
		}
	}
	return names
}
