package recorder

import "strings"

// place is what a cgroup path says of where a process runs.
type place struct {
	container string // "docker:ID", "containerd:ID pod:UID", "lxc:NAME", …; "" on the host
	unit      string // "ssh.service", "session-3.scope", "user@1000.service/app.service"; "" unknown
}

// scopeRuntimes are the prefixes that container engines give to their cgroup, in front of -ID or :ID. With the systemd
// driver the name ends in .scope. Sources: docker and containerd (runc's systemd driver, SLICE:PREFIX:ID), cri-o
// (internal/config/cgmgr), podman (libpod), nerdctl.
var scopeRuntimes = map[string]string{
	"docker":         "docker",
	"cri-containerd": "containerd",
	"containerd":     "containerd",
	"nerdctl":        "containerd",
	"crio":           "cri-o",
	"libpod":         "podman",
}

// parentRuntimes are the directories in which an engine with the cgroupfs driver keeps one directory per container,
// named by its id alone.
var parentRuntimes = map[string]string{
	"docker":     "docker",
	"k8s.io":     "containerd",
	"moby":       "docker",
	"default":    "containerd",
	"libpod":     "podman",
	"containerd": "containerd",
}

// parseCgroup reads container and unit from a cgroup path. Names in it are whatever their maker chose: a user may
// make such a directory below one that was delegated to him, and the path itself, which the tape keeps too, shows it.
// The innermost container counts, and the outermost unit (its manager is the host's). truncated says that the path has
// lost its beginning, and with it the unit.
func parseCgroup(path string, truncated bool) place {
	parts := strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
	for i := range parts {
		parts[i] = strings.TrimPrefix(parts[i], "_") // systemd's escape for names that the kernel reserves
	}
	var p place
	for i := len(parts) - 1; i >= 0 && p.container == ""; i-- {
		p.container = containerAt(parts, i)
	}
	pod := ""
	for i := len(parts) - 1; i >= 0 && pod == ""; i-- {
		pod = podUID(parts[i])
	}
	switch {
	case pod == "":
	case p.container == "":
		p.container = "pod:" + pod
	default:
		p.container += " pod:" + pod
	}
	if !truncated {
		p.unit = unitOf(parts)
	}
	return p
}

// containerAt returns the container that parts[i] itself names.
func containerAt(parts []string, i int) string {
	name, parent, child := parts[i], "", ""
	if i > 0 {
		parent = parts[i-1]
	}
	if i+1 < len(parts) {
		child = parts[i+1]
	}
	// kubepods-burstable-podUID.slice:cri-containerd:ID is what a cgroupfs driver makes of systemd's notation.
	if f := strings.Split(name, ":"); len(f) == 3 && isContainerID(f[2]) && scopeRuntimes[f[1]] != "" {
		return scopeRuntimes[f[1]] + ":" + f[2]
	}
	scope, isScope := strings.CutSuffix(name, ".scope")
	if cut := strings.LastIndexByte(scope, '-'); cut > 0 && isContainerID(scope[cut+1:]) {
		if runtime := scopeRuntimes[scope[:cut]]; runtime != "" {
			return runtime + ":" + scope[cut+1:]
		}
		return "" // crio-conmon-ID, libpod-conmon-ID: the engine's own helper, on the host
	}
	if isContainerID(name) {
		switch {
		case podUID(parent) != "":
			return "kubernetes:" + name // the path does not say which engine
		case parentRuntimes[parent] != "":
			return parentRuntimes[parent] + ":" + name
		}
		return "container:" + name
	}
	if lxc, ok := strings.CutPrefix(name, "lxc.payload."); ok && lxc != "" {
		return "lxc:" + lxc
	}
	if parent == "lxc" || parent == "lxc.payload" {
		return "lxc:" + name
	}
	if child == "supervisor" {
		return "" // systemd-nspawn itself
	}
	if machine, ok := strings.CutPrefix(name, "systemd-nspawn@"); ok && child == "payload" {
		if machine, ok = strings.CutSuffix(machine, ".service"); ok && machine != "" {
			return "nspawn:" + unescapeUnit(machine)
		}
	}
	if machine, ok := strings.CutPrefix(scope, "machine-"); ok && isScope && machine != "" {
		machine = unescapeUnit(machine)
		switch {
		case strings.HasPrefix(machine, "qemu-"):
			return "" // a virtual machine's qemu runs on the host
		case child == "payload":
			return "nspawn:" + machine
		}
		return "machine:" + machine
	}
	return ""
}

// isContainerID tells the 64 hex digits that every engine of the table uses.
func isContainerID(s string) bool {
	return len(s) == 64 && isHex(s)
}

func isHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; !('0' <= c && c <= '9' || 'a' <= c && c <= 'f') {
			return false
		}
	}
	return true
}

// podUID finds the uid of a kubernetes pod in podUID (cgroupfs driver) or …-podUID.slice (systemd driver, which turns
// - into _). Pods from a file on the node have 32 hex digits without dashes.
func podUID(name string) string {
	if s, _, ok := strings.Cut(name, ":"); ok {
		name = s
	}
	uid, ok := strings.CutPrefix(name, "pod")
	if !ok {
		slice, isSlice := strings.CutSuffix(name, ".slice")
		cut := strings.LastIndex(slice, "-pod")
		if !isSlice || cut < 0 {
			return ""
		}
		uid = strings.ReplaceAll(slice[cut+len("-pod"):], "_", "-")
	}
	digits := strings.ReplaceAll(uid, "-", "")
	if len(digits) != 32 || !isHex(digits) || len(uid) != 32 && len(uid) != 36 {
		return ""
	}
	return uid
}

// unitOf returns the host manager's unit, and behind a slash the unit of the user's manager below it. Where there are
// only slices, the innermost one.
func unitOf(parts []string) string {
	slice := ""
	for i, name := range parts {
		if strings.HasSuffix(name, ".slice") {
			slice = name
			continue
		}
		if !isUnit(name) {
			return slice
		}
		if !strings.HasPrefix(name, "user@") {
			return name
		}
		for _, inner := range parts[i+1:] {
			if strings.HasSuffix(inner, ".slice") {
				continue
			}
			if isUnit(inner) {
				return name + "/" + inner
			}
			break
		}
		return name
	}
	return slice
}

// isUnit tells names of units that hold processes (systemd.exec(5), systemd.scope(5)).
func isUnit(name string) bool {
	for _, suffix := range []string{".service", ".scope", ".socket", ".mount", ".swap"} {
		if strings.HasSuffix(name, suffix) && len(name) > len(suffix) {
			return true
		}
	}
	return false
}

// unescapeUnit undoes systemd-escape(1): - stands for /, \xNN for a byte. A machine's name has no slash, so - stays.
func unescapeUnit(s string) string {
	if !strings.Contains(s, `\x`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && s[i+1] == 'x' && isHex(s[i+2:i+4]) {
			b.WriteByte(unhex(s[i+2])<<4 | unhex(s[i+3]))
			i += 3
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c - 'a' + 10
}
