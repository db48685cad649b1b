package recorder

import (
	"time"

	"github.com/conntape/conntape/bpf"
	"github.com/conntape/conntape/store"
)

// who finds the process of a connect: in the table, in the process ring, among those alive, and if it is in none of
// them it is unknown. Never does another execution stand in for it.
func (r *recorder) who(c *bpf.Connect) *store.Process {
	if p := r.table.find(c.Key); p != nil && p.Source != store.SourceUnknown {
		return p
	}
	if p := r.sends.process(c.Key); p != nil {
		return p
	}
	if _, err := r.drainProcesses(); err != nil {
		r.err = err
	}
	p := r.table.find(c.Key)
	if p != nil && p.Source != store.SourceUnknown {
		return p
	}
	if r.mayWalk(r.boot()) {
		if err := r.walk(); err != nil {
			r.err = err
		}
		p = r.table.find(c.Key)
	}
	if p == nil {
		p = r.table.unknown(c)
	}
	return p
}

// lookUp finds a process in the table, or in the process ring; nil: it is in neither.
func (r *recorder) lookUp(k bpf.ProcessKey) *store.Process {
	if p := r.table.find(k); p != nil {
		return p
	}
	if _, err := r.drainProcesses(); err != nil {
		r.err = err
	}
	return r.table.find(k)
}

// mayWalk keeps walks over all processes to a twentieth of the time.
func (r *recorder) mayWalk(now uint64) bool { return now >= r.nextWalk }

func (r *recorder) walk() error {
	begin := r.boot()
	if err := r.learnAlive(store.SourceProc); err != nil {
		return err
	}
	end := r.boot()
	r.nextWalk = end + max(20*(end-begin), uint64(100*time.Millisecond))
	return nil
}
