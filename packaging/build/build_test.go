package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// inRepository changes to the repository's root, where the build runs.
func inRepository(t *testing.T) {
	t.Helper()
	t.Chdir("../..")
}

// The same sources make the same packages, independent of directory, time zone, umask and time of day; and the packages
// are complete.
func TestPackages(t *testing.T) {
	inRepository(t)
	t.Setenv("SOURCE_DATE_EPOCH", "1782864000")
	dirs := []string{t.TempDir(), filepath.Join(t.TempDir(), "elsewhere")}
	for i, dir := range dirs {
		before := syscall.Umask([]int{0o022, 0o077}[i])
		t.Setenv("TZ", []string{"UTC", "Pacific/Auckland"}[i])
		t.Setenv("TMPDIR", t.TempDir())
		err := run(context.Background(), []string{"-version", "v0.1.0", "-arch", "amd64", "-out", dir})
		syscall.Umask(before)
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"conntape_0.1.0_amd64.deb", "conntape-0.1.0-1.x86_64.rpm"} {
		first, err := os.ReadFile(filepath.Join(dirs[0], name))
		if err != nil {
			t.Fatal(err)
		}
		second, err := os.ReadFile(filepath.Join(dirs[1], name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(first, second) {
			t.Errorf("two builds of %s differ", name)
		}
	}
	deb, rpm := filepath.Join(dirs[0], "conntape_0.1.0_amd64.deb"), filepath.Join(dirs[0], "conntape-0.1.0-1.x86_64.rpm")
	holdsAll(t, string(mustRun(t, "dpkg-deb", "-c", deb)), "/usr/share/zsh/vendor-completions/_conntape")
	holdsAll(t, string(mustRun(t, "rpm", "-qlp", rpm)), "/usr/share/zsh/site-functions/_conntape")
	if conf := mustRun(t, "dpkg-deb", "-I", deb, "conffiles"); string(conf) != "/etc/conntape.toml\n" {
		t.Errorf("the configuration files of the deb are %q", conf)
	}
	if conf := mustRun(t, "rpm", "-qcp", rpm); string(conf) != "/etc/conntape.toml\n" {
		t.Errorf("the configuration files of the rpm are %q", conf)
	}
}

// holdsAll checks that a package lists every kind of file, and a manual page for each command.
func holdsAll(t *testing.T, list, zsh string) {
	t.Helper()
	for _, path := range []string{"/usr/bin/conntape", "/usr/bin/conntape-witness", "/usr/bin/conntape-metrics", "/usr/lib/systemd/system/conntape.service",
		"/usr/lib/systemd/system/conntape-metrics.service", "/usr/share/conntape/prometheus-rules.yml", "/usr/share/conntape/grafana-dashboard.json",
		"/usr/lib/sysusers.d/conntape.conf", "/usr/lib/tmpfiles.d/conntape.conf", "/etc/conntape.toml", zsh,
		"/usr/share/bash-completion/completions/conntape", "/usr/share/fish/vendor_completions.d/conntape.fish",
		"/usr/share/man/man1/conntape.1.gz", "/usr/share/man/man1/conntape-record.1.gz", "/usr/share/man/man1/conntape-query-who.1.gz",
		"/usr/share/doc/conntape/conntape.cdx.json", "/usr/share/doc/conntape/LICENCES-OF-LIBRARIES", "/usr/share/doc/conntape/copyright",
		"/usr/share/doc/conntape/LICENSES/GPL-2.0-only.txt", "/usr/share/doc/conntape/docs/usage.md"} {
		if !strings.Contains(list+"\n", path+"\n") {
			t.Errorf("a package lacks %s", path)
		}
	}
}

func mustRun(t *testing.T, name string, args ...string) []byte {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

// Every library that is linked in brings its licence.
func TestLicences(t *testing.T) {
	inRepository(t)
	list := strings.Fields(string(mustRun(t, "go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}}@{{.Version}}{{end}}{{end}}", "./cmd/...")))
	slices.Sort(list)
	modules := make(map[string]string)
	for _, module := range slices.Compact(list) {
		path, version, _ := strings.Cut(module, "@")
		modules[path] = version
	}
	text, err := licencesOf(context.Background(), modules)
	if err != nil {
		t.Fatal(err)
	}
	for path, version := range modules {
		if !bytes.Contains(text, []byte("== "+path+" "+version+": ")) {
			t.Errorf("no licence of %s", path)
		}
	}
	if len(modules) < 10 {
		t.Errorf("only %d modules", len(modules))
	}
}

// The installed configuration has a line with the default of every setting.
func TestConfiguration(t *testing.T) {
	inRepository(t)
	text, err := os.ReadFile("packaging/conntape.toml")
	if err != nil {
		t.Fatal(err)
	}
	shown := make(map[string]string)
	for _, line := range regexp.MustCompile(`(?m)^#([a-z-]+) = "?([^"\n]*)"?$`).FindAllStringSubmatch(string(text), -1) {
		shown[line[1]] = line[2]
	}
	cmd := exec.Command("go", "run", "./cmd/conntape", "config", "--config", "packaging/conntape.toml")
	cmd.Env = append(os.Environ(), "GOFLAGS=-buildvcs=false")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("conntape config: %v", err)
	}
	rows := strings.Split(strings.TrimSpace(string(out)), "\n")[1:]
	for _, row := range rows {
		words := strings.Fields(row)
		name, value := words[0], strings.Join(words[1:len(words)-1], " ")
		if got, ok := shown[name]; !ok || name != "format" && got != value || words[len(words)-1] != "default" {
			t.Errorf("conntape.toml has %s = %q, and the default is %q", name, got, value)
		}
		delete(shown, name)
	}
	if len(shown) != 0 || len(rows) < 10 {
		t.Errorf("%d settings; there are none like %v", len(rows), shown)
	}
}

// systemd knows every setting of the units, and their exposure does not grow.
func TestUnits(t *testing.T) {
	inRepository(t)
	checkUnit(t, "conntape.service", 25)
	checkUnit(t, "conntape-metrics.service", 12)
	unit, err := os.ReadFile("packaging/conntape.service")
	if err != nil {
		t.Fatal(err)
	}
	// systemd has a table of these (protect_kernel_tunables_sys_table), and of two lines for one path the stricter holds.
	for _, line := range regexp.MustCompile(`(?m)^ReadWritePaths=.*$`).FindAllString(string(unit), -1) {
		for _, path := range []string{"/sys/fs/bpf", "/sys/kernel/tracing", "/sys/kernel/debug"} {
			if slices.Contains(strings.Fields(strings.ReplaceAll(line, "=", " ")), "-"+path) {
				t.Errorf("%s is read-only all the same, by ProtectKernelTunables", path)
			}
		}
	}
}

// checkUnit wants an exposure of at most so many tenths (systemd-analyze security).
func checkUnit(t *testing.T, name string, exposure int) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("packaging", name))
	if err != nil {
		t.Fatal(err)
	}
	unit := filepath.Join(t.TempDir(), name)
	text = bytes.ReplaceAll(text, []byte("@BINDIR@/conntape"), []byte("/bin/true"))
	text = regexp.MustCompile(`(?m)^Documentation=.*\n`).ReplaceAll(text, nil) // it looks for the pages here
	if err := os.WriteFile(unit, text, 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("systemd-analyze", "verify", unit).CombinedOutput(); err != nil || bytes.Contains(out, []byte("Unknown")) {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--threshold="+strconv.Itoa(exposure), unit).CombinedOutput()
	if err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
}

// Kubernetes accepts the manifest, and the manifest asks for no more privileges than the unit.
func TestDaemonSet(t *testing.T) {
	inRepository(t)
	validate := func(path string) (string, error) {
		out, err := exec.Command("go", "tool", "-modfile=packaging/kube.mod", "kubectl-validate", path, "--version", "1.30").CombinedOutput()
		return string(out), err
	}
	if out, err := validate("packaging/daemonset.yaml"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	text, err := os.ReadFile("packaging/daemonset.yaml")
	if err != nil {
		t.Fatal(err)
	}
	wrong := filepath.Join(t.TempDir(), "wrong.yaml")
	if err := os.WriteFile(wrong, bytes.Replace(text, []byte("hostPID:"), []byte("hostPIDs:"), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := validate(wrong); err == nil || !strings.Contains(out, "hostPIDs") {
		t.Errorf("an unknown field is taken: %v\n%s", err, out)
	}
	unit, err := os.ReadFile("packaging/conntape.service")
	if err != nil {
		t.Fatal(err)
	}
	_, bounding, _ := strings.Cut(string(unit), "\nCapabilityBoundingSet=")
	bounding, _, _ = strings.Cut(bounding, "\n")
	want := `add: ["` + strings.ReplaceAll(strings.ReplaceAll(bounding, "CAP_", ""), " ", `", "`) + `"]`
	if !bytes.Contains(text, []byte(want)) {
		t.Errorf("the manifest lacks %s", want)
	}
}
