package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A host describes the machine of a run.
type host struct {
	Date, Kernel, CPU, Go string
	CPUs, Memory          int // processors, GiB
	Load                  string
}

func readHost() host {
	h := host{Date: time.Now().UTC().Format(time.DateOnly), Go: runtime.Version(), CPUs: cpus(), Kernel: "unknown", CPU: "unknown"}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		h.Kernel = strings.Join(strings.SplitN(unix.ByteSliceToString(u.Release[:]), ".", 3)[:2], ".")
	}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				h.CPU = strings.TrimSpace(value)
			}
		}
	}
	var s unix.Sysinfo_t
	if unix.Sysinfo(&s) == nil {
		h.Memory = int((s.Totalram*uint64(s.Unit) + 1<<29) >> 30)
		h.Load = fmt.Sprintf("%.1f", float64(s.Loads[0])/(1<<16))
	}
	return h
}

// cpus is the number of the machine's processors, even if this process may not use all.
func cpus() int {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return runtime.NumCPU()
	}
	n := 0
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "cpu") && !strings.HasPrefix(line, "cpu ") {
			n++
		}
	}
	return max(n, 1)
}
