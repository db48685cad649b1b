package doctor

import (
	"errors"
	"strings"

	"github.com/conntape/conntape/bpf"
)

// leastRing is the size of the kernel's ring while a backend is only tried, bytes.
const leastRing = 64 << 10

// backends tries each, in the order in which record does. The first that attaches and sees a connect is OK, and those before
// it say why they will not run; the others are left alone.
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
	return append(list, problem("backend", "the lines above say what each lacks", "none attaches: nothing can be recorded here"))
}

// mendBackend says what a better backend would take.
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

// reason is why a backend does not attach: the error without what says that none does, the verifier's log, and a guess of the
// library that is wrong where the limit is raised.
func reason(b bpf.Backend, err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	if _, after, ok := strings.Cut(line, "no backend attaches: "+string(b)+": "); ok {
		line = after
	}
	return strings.Replace(line, " (MEMLOCK may be too low, consider rlimit.RemoveMemlock)", "", 1)
}
