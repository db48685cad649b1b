package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Installs the deb on a fresh Debian, upgrades it and purges it. Installing makes the group and the directory; only members
// of the group may read the tape; a changed configuration survives the upgrade; the tape survives everything.
func TestDebInstalls(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it installs into a root directory of its own")
	}
	inRepository(t)
	root := debian(t)
	for _, version := range []string{"0.1.0", "0.1.1"} {
		if err := run(context.Background(), []string{"-version", "v" + version, "-arch", "amd64", "-kind", "deb", "-out", filepath.Join(root, "root")}); err != nil {
			t.Fatal(err)
		}
	}
	inRoot := func(args ...string) (string, error) {
		cmd := exec.Command("chroot", append([]string{root}, args...)...)
		cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"}
		out, err := cmd.CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	must := func(args ...string) string {
		t.Helper()
		out, err := inRoot(args...)
		if err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return out
	}
	must("dpkg", "-i", "/root/conntape_0.1.0_amd64.deb")
	if got := must("stat", "-c", "%a %U:%G", "/var/lib/conntape"); got != "750 root:conntape" {
		t.Errorf("the tape's directory is %s", got)
	}
	if got := must("conntape", "version"); !strings.HasPrefix(got, "conntape v0.1.0") {
		t.Errorf("version: %s", got)
	}
	must("conntape", "demo", "--dir", "/var/lib/conntape", "-q")
	must("chroot", "--userspec=nobody:nogroup", "--groups=conntape", "/", "conntape", "query", "recent", "-q")
	if out, err := inRoot("chroot", "--userspec=nobody:nogroup", "--groups=nogroup", "/", "conntape", "query", "recent", "-q"); err == nil || !strings.Contains(out, "permission denied") {
		t.Errorf("a user outside the group reads the tape: %v\n%s", err, out)
	}

	changed := filepath.Join(root, "etc/conntape.toml")
	if err := os.WriteFile(changed, []byte("max-size = \"1GiB\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	must("dpkg", "-i", "/root/conntape_0.1.1_amd64.deb")
	if got := must("conntape", "config"); !strings.Contains(got, "/etc/conntape.toml") || !strings.Contains(must("conntape", "version"), "v0.1.1") {
		t.Errorf("after the upgrade: %s", got)
	}
	must("dpkg", "-i", "/root/conntape_0.1.0_amd64.deb")
	must("dpkg", "-r", "conntape")
	must("dpkg", "-P", "conntape")
	if files, err := os.ReadDir(filepath.Join(root, "var/lib/conntape")); err != nil || len(files) == 0 {
		t.Errorf("the tape went with the package: %v", err)
	}
	if _, err := os.Stat(filepath.Join(root, "usr/bin/conntape")); err == nil {
		t.Error("the program is left")
	}
}

// debian makes the root directory of a fresh Debian. It caches the downloads.
func debian(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	cache = filepath.Join(cache, "conntape", "debs")
	if err := os.MkdirAll(cache, 0o755); err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(t.TempDir(), "root")
	out, err := exec.Command("debootstrap", "--variant=minbase", "--include=systemd", "--cache-dir="+cache, "bookworm", root, "http://deb.debian.org/debian").CombinedOutput()
	if err != nil {
		t.Fatalf("debootstrap: %v\n%s", err, fmt.Sprintf("%.2000s", out))
	}
	return root
}
