package bpf

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"github.com/cilium/ebpf/rlimit"
)

// allowLockedMemory raises RLIMIT_MEMLOCK: before 5.11 maps count against it, those of other programs of this user too. Under a
// filter that forbids to set limits (the unit's), somebody else has set it.
func allowLockedMemory() error {
	err := rlimit.RemoveMemlock()
	if err == nil || isUnlimited("Max locked memory") {
		return nil
	}
	return fmt.Errorf("raise RLIMIT_MEMLOCK: %w: %w", ErrPrivilege, err)
}

// isUnlimited tells whether /proc/self/limits has no bound for a resource. The system call may be forbidden.
func isUnlimited(resource string) bool {
	f, err := os.Open("/proc/self/limits")
	if err != nil {
		return false
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), resource); ok {
			return strings.HasPrefix(strings.TrimSpace(rest), "unlimited")
		}
	}
	return false
}
