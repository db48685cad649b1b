package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
)

// auditMissing returns the reason for not measuring auditd here, "" if it can be measured. The bench does not touch a
// running auditd or existing rules.
func auditMissing() string {
	for _, name := range []string{"auditd", "auditctl"} {
		if _, err := exec.LookPath(name); err != nil {
			return name + " is not installed (apt-get install auditd)"
		}
	}
	status, err := auditStatus()
	if err != nil {
		return "the kernel has no audit (CONFIG_AUDITSYSCALL) or keeps it from us: " + err.Error()
	}
	if pid := status["pid"]; pid != 0 && isRunning(pid) {
		return fmt.Sprintf("an auditd (pid %d) runs here: stop it for this measurement", pid)
	}
	if status["enabled"] == 2 {
		return "the audit rules of this machine are locked until it boots again"
	}
	rules, err := auditctl("-l")
	if err != nil {
		return err.Error()
	}
	for rule := range strings.Lines(rules) {
		if rule = strings.TrimSpace(rule); rule != "No rules" && rule != restingRule {
			return "audit rules are set here: " + rule
		}
	}
	return ""
}

// restingRule stays behind. Once enabled, audit inspects each new process for good; with this rule it decides at fork
// not to, and the process pays nothing.
const restingRule = "-a never,task"

func (r *rig) startAuditd(ctx context.Context) (_ func() (string, error), err error) {
	dir, err := os.MkdirTemp(r.dir, "audit-")
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "audit.log")
	if err := writeAuditConfig(dir, file); err != nil {
		return nil, err
	}
	rest := func() error {
		var errs []error
		for _, args := range []string{"-D", "-e 0", restingRule} {
			_, err := auditctl(strings.Fields(args)...)
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	}
	cmd := r.pinned(ctx, "auditd", "-n", "-c", dir)
	messages := &output{}
	cmd.Stdout, cmd.Stderr = messages, messages
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("start auditd: %w: %s", err, messages), cmd.Process.Kill(), cmd.Wait(), rest())
		}
	}()
	listening := func() bool { s, err := auditStatus(); return err == nil && s["pid"] == cmd.Process.Pid }
	if err = waitFor(listening); err != nil {
		return nil, err
	}
	// Debian's own settings, and the usual rule for recording connects.
	for _, args := range []string{"-D", "-b 8192", "--backlog_wait_time 60000", "-f 1", "-e 1", "-a always,exit -F arch=b64 -S connect"} {
		if _, err = auditctl(strings.Fields(args)...); err != nil {
			return nil, err
		}
	}
	before, err := auditStatus()
	if err != nil {
		return nil, err
	}
	return func() (string, error) {
		after, statusErr := auditStatus()
		err := errors.Join(statusErr, rest(), cmd.Process.Signal(syscall.SIGTERM), cmd.Wait())
		if err != nil {
			return "", err
		}
		events, err := countLines(file, "type=SOCKADDR")
		return fmt.Sprintf("%d events, %d records lost", events, after["lost"]-before["lost"]),
			errors.Join(err, os.RemoveAll(dir))
	}, nil
}

// writeAuditConfig writes Debian's auditd.conf with another log file.
func writeAuditConfig(dir, log string) error {
	config, err := os.ReadFile("/etc/audit/auditd.conf")
	if err != nil {
		return err
	}
	config = regexp.MustCompile(`(?m)^log_file\s*=.*$`).ReplaceAll(config, []byte("log_file = "+log))
	// No record may be rotated away before it is counted.
	config = regexp.MustCompile(`(?m)^max_log_file\s*=.*$`).ReplaceAll(config, []byte("max_log_file = 4000"))
	return os.WriteFile(filepath.Join(dir, "auditd.conf"), config, 0o640)
}

func auditctl(args ...string) (string, error) {
	out, err := exec.Command("auditctl", args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("auditctl %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

func auditStatus() (map[string]int, error) {
	out, err := auditctl("-s")
	if err != nil {
		return nil, err
	}
	status := map[string]int{}
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) >= 2 {
			status[f[0]], _ = strconv.Atoi(f[1])
		}
	}
	return status, nil
}
