package recorder

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/conntape/conntape/bpf"
	"github.com/conntape/conntape/store"
)

// learnAlive describes every process that is alive and not described yet: at the start all of them, and later those
// whose records were lost. What the kernel says in one walk belongs to one execution, by its exec number. Only argv has
// to come from /proc, which knows no such number: if a process may have executed another program between the walk and
// the reading, its argv stays unknown.
//
// source is "snapshot" at the start and "proc" later.
func (r *recorder) learnAlive(source string) error {
	before, err := r.src.Counters()
	if err != nil {
		return fmt.Errorf("read counters: %w", err)
	}
	begin := r.boot()
	alive := map[lifeKey]struct{}{}
	fresh := map[lifeKey]*store.Process{}
	err = r.src.Snapshot(func(rec *bpf.Process) {
		alive[lifeOf(rec.Key)] = struct{}{}
		r.table.mounts.learn(rec)
		if rec.ExeIno == 0 && rec.Flags&bpf.KernelThread == 0 {
			return // a zombie: it connects no more, and its exit has been
		}
		if known := r.table.find(rec.Key); known == nil || known.Source == store.SourceUnknown {
			fresh[lifeOf(rec.Key)] = r.table.describe(rec, source)
		}
	})
	if err != nil {
		return fmt.Errorf("list processes: %w", err)
	}
	for k, p := range fresh {
		if p.ExeIno != 0 {
			r.readArgv(k, p)
		}
	}
	records, err := r.readProcesses()
	if err != nil {
		return err
	}
	after, err := r.src.Counters()
	if err != nil {
		return fmt.Errorf("read counters: %w", err)
	}
	if after.ProcessLost != before.ProcessLost || after.Missed != before.Missed {
		if err := r.confirm(fresh); err != nil { // among what was lost may be an exec
			return err
		}
	}
	for i := range records {
		correct(fresh, &records[i])
	}
	for _, p := range fresh {
		r.table.insert(p)
	}
	for i := range records {
		r.table.apply(&records[i])
	}
	for _, p := range fresh { // nobody has been given them yet
		p.Parent = r.table.findStored(p.ParentKey)
	}
	if len(fresh) > 0 {
		r.resolver.relearn()
	}
	r.table.miss(alive, begin)
	return nil
}

// confirm walks again: whoever still is the execution that he was had his own argv in between.
func (r *recorder) confirm(fresh map[lifeKey]*store.Process) error {
	same := map[lifeKey]struct{}{}
	err := r.src.Snapshot(func(rec *bpf.Process) {
		if p := fresh[lifeOf(rec.Key)]; p != nil && p.Key.Exec == rec.Key.Exec {
			same[lifeOf(rec.Key)] = struct{}{}
		}
	})
	if err != nil {
		return fmt.Errorf("list processes: %w", err)
	}
	for k, p := range fresh {
		if _, ok := same[k]; !ok {
			p.Argv, p.ArgvTruncated = nil, true
		}
	}
	return nil
}

// readArgv asks /proc. What it does not tell is unknown, not empty.
func (r *recorder) readArgv(k lifeKey, p *store.Process) {
	var err error
	if p.Argv, p.ArgvTruncated, err = r.proc.argv(k.tgid, k.start); err == nil {
		return
	}
	p.ArgvTruncated = true
	if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errOther) && !errors.Is(err, errNoArgv) {
		r.log.Debug("argv unknown", "pid", k.tgid, "error", err)
	}
}

// correct takes from what a walk found whatever a record that came meanwhile puts in doubt.
func correct(fresh map[lifeKey]*store.Process, rec *bpf.Process) {
	p := fresh[lifeOf(rec.Key)]
	switch {
	case p == nil:
	case rec.Kind == bpf.KindExec && rec.Key.Exec > p.Key.Exec: // argv may be the new program's
		p.Argv, p.ArgvTruncated = nil, true
	case rec.Kind == bpf.KindExec && rec.Key.Exec == p.Key.Exec: // the record knows better
		delete(fresh, lifeOf(rec.Key))
	case rec.Kind == bpf.KindFork && rec.Key.Exec == p.Key.Exec:
		p.ParentKey, p.PPID = storeKey(rec.Parent), rec.Parent.Tgid
	}
}

// readProcesses takes all that is in the process ring.
func (r *recorder) readProcesses() ([]bpf.Process, error) {
	var list []bpf.Process
	for {
		var rec bpf.Process
		ok, err := r.src.ReadProcess(&rec)
		if err != nil {
			return nil, fmt.Errorf("read process ring: %w", err)
		}
		if !ok {
			return list, nil
		}
		r.ledger.described++
		list = append(list, rec)
	}
}
