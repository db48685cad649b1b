package bpf

import "testing"

// An exec or a fork is missed only when neither kind of program saw it; until then one makes up for the other.
func TestSumMisses(t *testing.T) {
	for _, c := range []struct {
		name string
		left map[string]uint64
		want misses
	}{
		{"nothing", nil, misses{}},
		{"the hook", map[string]uint64{"fexit_mark": 3, "fexit_connect": 5}, misses{hook: 3}},
		{"exec, made up for", map[string]uint64{"process_exec_classic": 4, "process_exec_again": 0}, misses{}},
		{"a script's, made up for", map[string]uint64{"process_exec_prepare": 4, "process_exec_again": 0}, misses{}},
		{"exec by both", map[string]uint64{"process_exec_classic": 4, "process_exec_prepare": 1, "process_exec_again": 2}, misses{process: 2}},
		{"exec where there is one", map[string]uint64{"process_exec": 4, "process_fork": 1, "process_exit": 1}, misses{process: 6}},
		{"exit", map[string]uint64{"process_exit_classic": 2}, misses{process: 2}},
		{"fork, made up for", map[string]uint64{"process_fork_classic": 2}, misses{}},
		{"fork by both", map[string]uint64{"process_fork_classic": 1, "process_fork_again": 2}, misses{process: 1}},
		{"outcome", map[string]uint64{"state_changed": 3}, misses{outcome: 3}},
		{"outcome, made up for", map[string]uint64{"state_changed": 3, "state_changed_again": 1}, misses{outcome: 1}},
	} {
		if got := sumMisses(c.left, "fexit_mark"); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}
