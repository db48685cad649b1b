// Package doctor checks everything that recording needs, says what is wrong and how to mend it, and then proves that
// connects are recorded: in a scratch tape, and in the tape of the running service.
//
// It knows what recorder, bpf and store need from a host. It writes only to its own scratch directory.
package doctor

import (
	"context"
	"fmt"

	"github.com/conntape/conntape/store/retain"
)

// Level is how bad a finding is.
type Level string

// Levels, from the best to the worst.
const (
	OK      Level = "ok"
	Note    Level = "note"    // recording works, but not as well as it could
	Problem Level = "problem" // connects are lost, or nobody can read the tape
)

// Finding is the result of one check.
type Finding struct {
	Name  string `json:"name"`
	Level Level  `json:"level"`
	Text  string `json:"finding"`
	Mend  string `json:"mend,omitempty"` // how to mend it; empty if nothing can be done
}

func fine(name, format string, args ...any) Finding {
	return Finding{Name: name, Level: OK, Text: fmt.Sprintf(format, args...)}
}

func note(name, mend, format string, args ...any) Finding {
	return Finding{name, Note, fmt.Sprintf(format, args...), mend}
}

func problem(name, mend, format string, args ...any) Finding {
	return Finding{name, Problem, fmt.Sprintf(format, args...), mend}
}

// Options say which tape to check.
type Options struct {
	Dir    string        // the tape's directory; it need not exist yet
	Limits retain.Limits // the tape's
	// Find returns the socket cookies that a tape has connections of.
	Find func(ctx context.Context, dir string, cookies []uint64) (map[uint64]bool, error)
}

// Run makes every check and calls tell with each finding at once. A check that cannot be made is a finding too.
func Run(ctx context.Context, o Options, tell func(Finding)) {
	host := host{}
	for _, look := range []func() Finding{
		host.kernel, host.types, host.capabilities, host.lockdown, host.securityModules, host.cgroups, host.tracefs, host.bpffs, host.pins, host.switches,
		host.tracers, host.clock,
	} {
		tell(look())
	}
	place := place{dir: o.Dir, limits: o.Limits}
	for _, look := range []func() Finding{place.directory, place.group, place.fileSystem, place.room} {
		tell(look())
	}
	usable := false
	for _, f := range backends() {
		usable = usable || f.Level == OK
		tell(f)
	}
	if !usable {
		tell(problem("proof", "mend what is above, and ask again", "not tried: no backend attaches"))
	} else {
		for _, f := range o.proveScratch(ctx) {
			tell(f)
		}
	}
	for _, f := range o.proveService(ctx) {
		tell(f)
	}
}
