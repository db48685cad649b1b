package doctor

import (
	"errors"
	"strings"

	"github.com/conntape/conntape/bpf"
)

// leastRing is the ring buffer's size for a trial, in bytes.
const leastRing = 64 << 10

// backends tries the backends in record's order, up to the first that attaches and sees a connect. Each one that fails
// is a note with the reason.
func backends() []Finding {
	var list []Finding
	for _, b := range bpf.Backends() {
		capture, err := bpf.Open(bpf.Options{Backend: b, RingBytes: leastRing, ProcessRingBytes: leastRing})
		name := "backend " + string(b)
		if err != nil {
			list = append(list, note(name, mendBackend(b, err), "will not run: %s", reason(b, err)))
			continue
		}
		blind := capture.BlindSpots()
		if err := capture.Close(); err != nil {
			list = append(list, note(name, "", "did not close: %v", err))
		}
		text := "will run: it attaches, and sees a connect"
		if len(blind) > 0 {
			text += "; it does not see " + strings.Join(blind, "; nor ")
		}
		return append(list, fine(name, "%s", text))
	}
	return append(list, problem("backend", "see the lines above for what each backend lacks", "none attaches: nothing can be recorded here"))
}

// mendBackend says what this host needs to run the backend.
func mendBackend(b bpf.Backend, err error) string {
	switch {
	case errors.Is(err, bpf.ErrPrivilege):
		return "put sudo in front"
	case b == bpf.Fexit:
		return "a kernel with CONFIG_FUNCTION_TRACER and BPF trampolines (arm64: 6.4 or later), and no lockdown that forbids them"
	case b == bpf.Kprobe:
		return "a kernel with CONFIG_KPROBES, and tracefs that can be written to"
	}
	return "a kernel with CONFIG_CGROUP_BPF"
}

// reason shortens a backend's error to one line. It drops the prefix "no backend attaches", the verifier's log, and the
// library's guess about MEMLOCK, which is wrong because bpf.Open raises that limit.
func reason(b bpf.Backend, err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	if _, after, ok := strings.Cut(line, "no backend attaches: "+string(b)+": "); ok {
		line = after
	}
	return strings.Replace(line, " (MEMLOCK may be too low, consider rlimit.RemoveMemlock)", "", 1)
}
