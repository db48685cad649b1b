package recorder

import (
	"strings"
	"testing"
)

const (
	id64  = "3f5b6c0e9d1a4b7c8e2f00112233445566778899aabbccddeeff001122334455"
	id64b = "aaaabbbbccccddddeeeeffff0000111122223333444455556666777788889999"
	uid   = "6d1f4f6a-8c3b-4a55-9d0e-1b2c3d4e5f60"
	uidU  = "6d1f4f6a_8c3b_4a55_9d0e_1b2c3d4e5f60"
	uid32 = "0123456789abcdef0123456789abcdef"
)

func TestParseCgroup(t *testing.T) {
	for _, c := range []struct{ name, path, container, unit string }{
		{"root", "/", "", ""},
		{"nothing", "", "", ""},
		{"init", "/init.scope", "", "init.scope"},
		{"system service", "/system.slice/ssh.service", "", "ssh.service"},
		{"templated service", "/system.slice/system-getty.slice/getty@tty1.service", "", "getty@tty1.service"},
		{"service with delegation", "/system.slice/containerd.service/child", "", "containerd.service"},
		{"slice only", "/system.slice", "", "system.slice"},
		{"socket unit", "/system.slice/foo.socket", "", "foo.socket"},
		{"session", "/user.slice/user-1000.slice/session-3.scope", "", "session-3.scope"},
		{"user manager", "/user.slice/user-1000.slice/user@1000.service/init.scope", "", "user@1000.service/init.scope"},
		{"user unit", "/user.slice/user-1000.slice/user@1000.service/app.slice/firefox.service", "", "user@1000.service/firefox.service"},
		{"user scope", "/user.slice/user-1000.slice/user@1000.service/app.slice/app-gnome-x-2.scope", "", "user@1000.service/app-gnome-x-2.scope"},
		{"escaped name", "/system.slice/_cgroup.service", "", "cgroup.service"},

		{"docker, systemd driver", "/system.slice/docker-" + id64 + ".scope", "docker:" + id64, "docker-" + id64 + ".scope"},
		{"docker, cgroupfs driver", "/docker/" + id64, "docker:" + id64, ""},
		{"docker with a cgroup parent", "/jobs/" + id64, "container:" + id64, ""},
		{"docker, rootless", "/user.slice/user-1000.slice/user@1000.service/user.slice/docker-" + id64 + ".scope",
			"docker:" + id64, "user@1000.service/docker-" + id64 + ".scope"},
		{"docker, below the container", "/docker/" + id64 + "/init", "docker:" + id64, ""},
		{"systemd in docker", "/system.slice/docker-" + id64 + ".scope/system.slice/nginx.service",
			"docker:" + id64, "docker-" + id64 + ".scope"},
		{"docker in docker", "/docker/" + id64 + "/docker/" + id64b, "docker:" + id64b, ""},
		{"ecs", "/ecs/9f1b2c3d4e5f60718293a4b5c6d7e8f9/" + id64, "container:" + id64, ""},

		{"containerd, ctr", "/k8s.io/" + id64, "containerd:" + id64, ""},
		{"nerdctl", "/system.slice/nerdctl-" + id64 + ".scope", "containerd:" + id64, "nerdctl-" + id64 + ".scope"},
		{"kubernetes, containerd, systemd driver",
			"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + uidU + ".slice/cri-containerd-" + id64 + ".scope",
			"containerd:" + id64 + " pod:" + uid, "cri-containerd-" + id64 + ".scope"},
		{"kubernetes, cri-o, systemd driver",
			"/kubepods.slice/kubepods-pod" + uidU + ".slice/crio-" + id64 + ".scope",
			"cri-o:" + id64 + " pod:" + uid, "crio-" + id64 + ".scope"},
		{"kubernetes, cri-o, nested container cgroup",
			"/kubepods.slice/kubepods-pod" + uidU + ".slice/crio-" + id64 + ".scope/container",
			"cri-o:" + id64 + " pod:" + uid, "crio-" + id64 + ".scope"},
		{"kubernetes, docker, systemd driver",
			"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" + uidU + ".slice/docker-" + id64 + ".scope",
			"docker:" + id64 + " pod:" + uid, "docker-" + id64 + ".scope"},
		{"kubernetes, cgroupfs driver", "/kubepods/burstable/pod" + uid + "/" + id64, "kubernetes:" + id64 + " pod:" + uid, ""},
		{"kubernetes, cgroupfs driver, guaranteed", "/kubepods/pod" + uid + "/" + id64, "kubernetes:" + id64 + " pod:" + uid, ""},
		{"kubernetes, cri-o, cgroupfs driver", "/kubepods/besteffort/pod" + uid + "/crio-" + id64, "cri-o:" + id64 + " pod:" + uid, ""},
		{"kubernetes, static pod", "/kubepods/burstable/pod" + uid32 + "/" + id64, "kubernetes:" + id64 + " pod:" + uid32, ""},
		{"kubernetes, static pod, systemd driver",
			"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + uid32 + ".slice/cri-containerd-" + id64 + ".scope",
			"containerd:" + id64 + " pod:" + uid32, "cri-containerd-" + id64 + ".scope"},
		{"kubernetes, kubelet's own root",
			"/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod" + uidU + ".slice/cri-containerd-" + id64 + ".scope",
			"containerd:" + id64 + " pod:" + uid, "cri-containerd-" + id64 + ".scope"},
		{"kubernetes, drivers that disagree",
			"/system.slice/containerd.service/kubepods-burstable-pod" + uidU + ".slice:cri-containerd:" + id64,
			"containerd:" + id64 + " pod:" + uid, "containerd.service"},
		{"kubernetes, the pod alone", "/kubepods/burstable/pod" + uid, "pod:" + uid, ""},
		{"kind: kubernetes in docker",
			"/system.slice/docker-" + id64 + ".scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod" + uidU + ".slice/cri-containerd-" + id64b + ".scope",
			"containerd:" + id64b + " pod:" + uid, "docker-" + id64 + ".scope"},
		{"cri-o's conmon runs on the host", "/system.slice/crio-conmon-" + id64 + ".scope", "", "crio-conmon-" + id64 + ".scope"},

		{"podman", "/machine.slice/libpod-" + id64 + ".scope/container", "podman:" + id64, "libpod-" + id64 + ".scope"},
		{"podman, cgroupfs driver", "/libpod_parent/libpod-" + id64, "podman:" + id64, ""},
		{"podman, rootless", "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" + id64 + ".scope/container",
			"podman:" + id64, "user@1000.service/libpod-" + id64 + ".scope"},
		{"podman, in a pod", "/machine.slice/machine-libpod_pod_" + id64b + ".slice/libpod-" + id64 + ".scope",
			"podman:" + id64, "libpod-" + id64 + ".scope"},
		{"podman's conmon runs on the host", "/machine.slice/libpod-conmon-" + id64 + ".scope", "", "libpod-conmon-" + id64 + ".scope"},

		{"lxc 4", "/lxc.payload.web/system.slice/nginx.service", "lxc:web", ""},
		{"lxc, older", "/lxc/web/init.scope", "lxc:web", ""},
		{"lxc, older still", "/lxc.payload/web", "lxc:web", ""},
		{"lxc's monitor runs on the host", "/lxc.monitor.web", "", ""},
		{"proxmox", "/lxc/101/ns/system.slice/cron.service", "lxc:101", ""},

		{"nspawn", "/machine.slice/machine-deb\\x2d12.scope/payload/system.slice/a.service", "nspawn:deb-12", "machine-deb\\x2d12.scope"},
		{"nspawn service", "/machine.slice/systemd-nspawn@web.service/payload/init.scope", "nspawn:web", "systemd-nspawn@web.service"},
		{"nspawn's supervisor runs on the host", "/machine.slice/systemd-nspawn@web.service/supervisor", "", "systemd-nspawn@web.service"},
		{"machine", "/machine.slice/machine-web.scope", "machine:web", "machine-web.scope"},
		{"virtual machine's qemu runs on the host", "/machine.slice/machine-qemu\\x2d1\\x2dvm.scope/libvirt/emulator", "", "machine-qemu\\x2d1\\x2dvm.scope"},

		{"id too short", "/docker/3f5b6c0e", "", ""},
		{"id not hex", "/docker/" + strings.Repeat("z", 64), "", ""},
		{"id in capitals", "/docker/" + strings.ToUpper(id64), "", ""},
		{"id too long", "/system.slice/docker-" + id64 + "00.scope", "", "docker-" + id64 + "00.scope"},
		{"unknown prefix", "/system.slice/evil-" + id64 + ".scope", "", "evil-" + id64 + ".scope"},
		{"pod's uid too short", "/kubepods/burstable/pod1234/" + id64, "container:" + id64, ""},
		{"suffix alone", "/.service", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := parseCgroup(c.path, false); got.container != c.container || got.unit != c.unit {
				t.Errorf("parseCgroup(%q)\n got %q, %q\nwant %q, %q", c.path, got.container, got.unit, c.container, c.unit)
			}
		})
	}
}

func TestParseCgroupOfTruncatedPathHasNoUnit(t *testing.T) {
	got := parseCgroup("/nested.service/docker-"+id64+".scope", true)
	if got.unit != "" || got.container != "docker:"+id64 {
		t.Errorf("got %+v", got)
	}
}

func FuzzParseCgroup(f *testing.F) {
	for _, s := range []string{
		"/", "//", "/system.slice/ssh.service", "/docker/" + id64, "/kubepods/burstable/pod" + uid + "/" + id64,
		"/kubepods.slice/kubepods-pod" + uidU + ".slice/crio-" + id64 + ".scope", "/lxc.payload.a/b", "/lxc/a",
		"/machine.slice/machine-a\\x2.scope/payload", "/user.slice/user@0.service/", "/a:b:" + id64, "/\xff\x00/_.scope", "/-pod.slice",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		p := parseCgroup(path, false)
		if strings.Contains(p.container, "/") {
			t.Errorf("container %q has a slash", p.container)
		}
		runtime, name, ok := strings.Cut(p.container, ":")
		if p.container != "" && (!ok || runtime == "" || name == "") {
			t.Errorf("container %q is not RUNTIME:NAME", p.container)
		}
		// A container must not change with what it contains, unless that is a container too.
		if p.container != "" && !strings.HasPrefix(p.container, "pod:") {
			if inner := parseCgroup(path+"/x", false); inner.container == "" && !strings.Contains(path, "machine-") && !strings.Contains(path, "nspawn") {
				t.Errorf("%q is in %q, and %q in none", path, p.container, path+"/x")
			}
		}
		if cut := parseCgroup(path, true); cut.container != p.container || cut.unit != "" {
			t.Errorf("truncated: %+v, whole: %+v", cut, p)
		}
	})
}

func TestCgroupMount(t *testing.T) {
	const hybrid = `24 1 0:21 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
25 24 0:22 / /sys/fs/cgroup/unified rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate
26 24 0:23 / /sys/fs/cgroup/systemd rw,nosuid - cgroup cgroup rw,name=systemd
`
	const inContainer = "30 1 0:25 /docker/x /sys/fs/cgroup ro - cgroup2 cgroup rw\n"
	for text, want := range map[string]string{
		hybrid: "/sys/fs/cgroup/unified", inContainer: "", "": "", "garbage\n - \n": "",
	} {
		if got := cgroupMount([]byte(text)); got != want {
			t.Errorf("cgroupMount(%q) = %q, want %q", text, got, want)
		}
	}
}
