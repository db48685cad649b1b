package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// stageUnit runs testdata/service.sh when the guest is up.
const stageUnit = `[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/usr/local/sbin/service.sh
[Install]
WantedBy=graphical.target
`

// switchRoot is the first process of the guest: it mounts Debian and becomes its systemd.
const switchRoot = `#!/bin/sh
mount -t proc proc /proc; mount -t devtmpfs devtmpfs /dev
for m in MODULES; do insmod /lib/modules/$m.ko; done
for i in $(seq 100); do mount -t ext4 /dev/vda /mnt && break; sleep 0.1; done
exec busybox switch_root /mnt /sbin/init
`

// The package under systemd on a Debian: the unit starts, a restart, kill -9, an upgrade, a downgrade and programs of other settings lose
// no connect, a reboot goes on with the tape, a member of the group reads it and others do not, and removing the package keeps it.
func TestServiceUnderSystemd(t *testing.T) {
	if os.Getenv("CONNTAPE_TEST_LONG") == "" {
		t.Skip("SKIPPED: boots a Debian twice, which takes minutes; CONNTAPE_TEST_LONG=1 does it")
	}
	for _, tool := range []string{"qemu-system-x86_64", "debootstrap", "mke2fs"} {
		if _, err := exec.LookPath(tool); err != nil || os.Geteuid() != 0 {
			t.Skipf("SKIPPED: needs root and %s; test/setup installs it", tool)
		}
	}
	kernels, err := fetchKernels(t.Context(), "amd64-6.1")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	disk, initramfs := filepath.Join(dir, "disk"), filepath.Join(dir, "initramfs")
	makeDebian(t, filepath.Join(dir, "root"), disk)
	makeInitramfs(t, kernels[0], initramfs)
	for boot := 1; boot <= 2; boot++ {
		said := bootDebian(t, kernels[0], disk, initramfs)
		for line := range strings.Lines(said) {
			if line = strings.TrimSpace(line); strings.HasPrefix(line, "ok ") || strings.HasPrefix(line, "# ") {
				t.Log(line)
			} else if strings.HasPrefix(line, "not ok ") {
				t.Error(strings.ReplaceAll(line, "~", "\n"))
			}
		}
		if !strings.Contains(said, fmt.Sprintf("end of boot %d", boot)) {
			t.Fatalf("boot %d did not end; the console:\n%s", boot, said)
		}
	}
}

func must(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%.3000s", name, strings.Join(args, " "), err, out)
	}
}

// makeDebian makes a disk with a fresh Debian, two versions of the package and the script.
func makeDebian(t *testing.T, root, disk string) {
	t.Helper()
	cache := filepath.Join(cacheDir(), "debs")
	if err := os.MkdirAll(cache, 0o755); err != nil {
		t.Fatal(err)
	}
	must(t, "debootstrap", "--variant=minbase", "--include=systemd,systemd-sysv", "--cache-dir="+cache, "bookworm", root, "http://deb.debian.org/debian")
	repository, err := moduleRoot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"v0.1.0", "v0.1.1"} {
		build := exec.CommandContext(t.Context(), "go", "run", "./packaging/build", "-version", version, "-arch", "amd64", "-kind", "deb", "-out", filepath.Join(root, "root"))
		build.Dir = repository
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build package: %v\n%s", err, out)
		}
	}
	must(t, "chroot", root, "groupadd", "--system", "conntape")
	must(t, "chroot", root, "useradd", "-G", "conntape", "member")
	must(t, "chroot", root, "useradd", "stranger")
	must(t, "cp", "testdata/service.sh", filepath.Join(root, "usr/local/sbin/service.sh"))
	must(t, "chmod", "755", filepath.Join(root, "usr/local/sbin/service.sh"))
	if err := os.WriteFile(filepath.Join(root, "etc/systemd/system/stage.service"), []byte(stageUnit), 0o644); err != nil {
		t.Fatal(err)
	}
	must(t, "chroot", root, "systemctl", "enable", "stage.service")
	must(t, "rm", "-rf", filepath.Join(root, "var/cache/apt"), filepath.Join(root, "var/lib/apt/lists"), filepath.Join(root, "usr/share/doc"))
	must(t, "mke2fs", "-q", "-t", "ext4", "-d", root, disk, "1200M")
}

// makeInitramfs makes what finds the disk.
func makeInitramfs(t *testing.T, k kernel, file string) {
	t.Helper()
	modules, err := findModules(filepath.Join(k.dir, "modules"), []string{"virtio_pci", "virtio_blk"})
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	a := newArchive(f)
	for _, d := range []string{"/proc", "/sys", "/mnt", "/dev", "/bin"} {
		a.dir(d)
	}
	a.char("/dev/console", 5, 1)
	a.file("/bin/busybox", filepath.Join(k.userland, "busybox"), 0o755)
	for _, tool := range []string{"sh", "mount", "insmod", "seq", "sleep"} {
		a.link("/bin/"+tool, "busybox")
	}
	var names []string
	for _, m := range modules {
		a.bytes("/lib/modules/"+m.name+".ko", 0o644, m.data)
		names = append(names, m.name)
	}
	a.bytes("/init", 0o755, []byte(strings.Replace(switchRoot, "MODULES", strings.Join(names, " "), 1)))
	if err := a.close(); err != nil {
		t.Fatal(err)
	}
}

// bootDebian boots until the guest reboots, and returns what its console said.
func bootDebian(t *testing.T, k kernel, disk, initramfs string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	var console bytes.Buffer
	err := runQEMU(ctx, []string{
		"qemu-system-x86_64", "-cpu", "max", "-accel", "tcg,thread=single", "-smp", "2", "-m", "1024",
		"-nodefaults", "-display", "none", "-nic", "none", "-no-reboot", "-serial", "stdio",
		"-drive", "file=" + disk + ",format=raw,if=none,id=root,cache=unsafe", "-device", "virtio-blk-pci,drive=root",
		"-kernel", filepath.Join(k.dir, "vmlinuz"), "-initrd", initramfs,
		"-append", "console=ttyS0 quiet panic=-1 systemd.default_timeout_start_sec=300 systemd.show_status=false",
	}, &console)
	if err != nil {
		t.Fatalf("run qemu: %v; the console's end:\n%s", err, console.String())
	}
	return strings.ReplaceAll(console.String(), "\r\n", "\n")
}
