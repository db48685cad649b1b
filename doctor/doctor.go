// Package doctor looks at everything that recording rests on, says what is wrong and how to mend it, and then proves that
// connects come back: in a scratch tape, and in that of the running service.
//
// It knows what recorder, bpf and store need of a host. It changes nothing but a scratch directory of its own.
package doctor

import (
	"context"
	"fmt"

	"github.com/conntape/conntape/store/retain"
)

// Level is how bad a finding is.
type Level string

// The levels.
const (
	OK      Level = "ok"
	Note    Level = "note"    // recording works; something is less than it could be
	Problem Level = "problem" // nothing is recorded, or not all of it, or nobody can read it
)

// Finding is what was seen of one thing.
type Finding struct {
	Name  string `json:"name"`
	Level Level  `json:"level"`
	Text  string `json:"finding"`
	Mend  string `json:"mend,omitempty"` // what to do about it
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

// Options say what to look at.
type Options struct {
	Dir    string        // of the tape that is recorded, or would be
	Limits retain.Limits // that it has
	// Find returns which of these socket cookies are among the connections of a tape.
	Find func(ctx context.Context, dir string, cookies []uint64) (map[uint64]bool, error)
}

// Run looks at everything and calls tell with each finding as it comes. What cannot be looked at is a finding too.
func Run(ctx context.Context, o Options, tell func(Finding)) {
	host := host{}
	for _, look := range []func() Finding{
		host.kernel, host.types, host.capabilities, host.lockdown, host.securityModules, host.cgroups, host.tracefs, host.switches,
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
