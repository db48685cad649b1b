package recorder

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestUsers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "passwd")
	write := func(text string, when time.Time) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, when, when); err != nil {
			t.Fatal(err)
		}
	}
	refresh := func(u *users, want bool) {
		t.Helper()
		changed, err := u.refresh()
		if err != nil || changed != want {
			t.Fatalf("refresh: %v, %v, want %v", changed, err, want)
		}
	}
	now := time.Unix(1_700_000_000, 0)
	write("root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/:\n#old:x:7:7::/:\n+nis:x:8:8::/:\nbroken:x\nneg:x:-1:0::/:\n"+
		"bin:x:2:2:\nlast:x:4294967294:1::/:", now)
	u := newUsers(path)
	refresh(u, true)
	refresh(u, false)
	for uid, want := range map[uint32]string{0: "root", 2: "bin", 7: "", 8: "", 1000: "", 4294967294: "last", 4294967295: ""} {
		if got := u.name(uid, ""); got != want {
			t.Errorf("name(%d) = %q, want %q", uid, got, want)
		}
	}
	write("admin:x:0:0::/:\n", now.Add(time.Second))
	refresh(u, true)
	if u.name(0, "") != "admin" || u.name(2, "") != "" {
		t.Errorf("after a change: %q, %q", u.name(0, ""), u.name(2, ""))
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	refresh(u, false)
	if u.name(0, "") != "admin" {
		t.Error("a file that is gone took the names with it")
	}
}

// In a container a uid is no user of the host.
func TestNoUserOfTheHostInContainer(t *testing.T) {
	u := newUsers("")
	u.names = map[uint32]string{0: "root", 1000: "alice"}
	if host, inside := u.name(1000, ""), u.name(1000, "docker:4f1c2d3e4f50"); host != "alice" || inside != "" {
		t.Errorf("%q on the host, %q in a container", host, inside)
	}
}
