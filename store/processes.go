package store

import (
	"zombiezen.com/go/sqlite"

	"github.com/conntape/conntape/store/escape"
	"github.com/conntape/conntape/store/segment"
)

// addProcess writes a process and its missing ancestors, oldest first. It is not recursive: a chain of forks can have
// any length.
func (in *interner) addProcess(p *Process) (int64, error) {
	if id, ok := p.mark.get(in.epoch); ok {
		return id, nil
	}
	var chain []*Process
	onWay := map[*Process]bool{}
	for q := p; q != nil && !onWay[q]; q = q.Parent { // a ring of parents must end
		if _, ok := q.mark.get(in.epoch); ok {
			break
		}
		chain = append(chain, q)
		onWay[q] = true
	}
	for i := len(chain) - 1; i >= 0; i-- {
		if err := in.insertProcess(chain[i]); err != nil {
			return 0, err
		}
	}
	id, _ := p.mark.get(in.epoch)
	return id, nil
}

// parentID returns the id of p's parent, or nil. A parent known only by its key has an id without a row.
func (in *interner) parentID(p *Process) any {
	if p.Parent != nil {
		if id, ok := p.Parent.mark.get(in.epoch); ok {
			return id
		}
		return processID(in.segment.bootID, p.Parent.Key)
	}
	if p.ParentKey != (ProcessKey{}) {
		return processID(in.segment.bootID, p.ParentKey)
	}
	return nil
}

// insertProcess writes one process after its parent, at its id or, if that belongs to another key, at the next free one.
// It keeps an existing description, which is nearer to the exec, unless that is empty.
func (in *interner) insertProcess(p *Process) error {
	id := processID(in.segment.bootID, p.Key)
	for {
		found, same, source, err := in.findProcess(id, p.Key)
		if err != nil {
			return err
		}
		switch {
		case !found, same && source == SourceUnknown && p.Source != SourceUnknown:
			if err := in.writeProcess(id, p); err != nil {
				return err
			}
		case !same:
			id = nextProcessID(id)
			continue
		}
		p.mark.set(in.epoch, id)
		return nil
	}
}

// findProcess reports whether a process with this id exists, whether it has this key, and the source of its description.
func (in *interner) findProcess(id int64, key ProcessKey) (found, same bool, source string, err error) {
	err = in.segment.query(func(q *sqlite.Stmt) error {
		found = true
		same = q.ColumnInt64(4) == in.segment.boot && key == ProcessKey{
			Tgid: uint32(q.ColumnInt64(0)), StartBoot: uint64(q.ColumnInt64(1)), Exec: uint32(q.ColumnInt64(2))}
		source = q.ColumnText(3)
		return nil
	}, `SELECT tgid, start_boot_ns, exec_number, source, boot FROM process WHERE id = ?`, id)
	return found, same, source, err
}

func (in *interner) writeProcess(id int64, p *Process) error {
	var cmdline, ppid any
	if p.Argv != nil {
		cmdline = escape.Cmdline(p.Argv)
	}
	if p.PPID != 0 || p.Parent != nil || p.Key.Tgid <= 2 { // 0 is only right for init and kthreadd
		ppid = p.PPID
	}
	if p.Source != "" && p.Source != SourceUnknown {
		in.segment.chainer.processes[id] = struct{}{}
	}
	source := p.Source
	var uid, gid, euid, loginUID, sessionID any // 0 would mean root
	if source == "" || source == SourceUnknown {
		source = SourceUnknown
	} else {
		uid, gid, euid = p.UID, p.GID, p.EUID
		loginUID, sessionID = segment.SetOrNull(p.LoginUID), segment.SetOrNull(p.SessionID)
	}
	if err := in.addFiles(id, p); err != nil {
		return err
	}
	return in.segment.exec(`INSERT OR REPLACE INTO process (id, boot, tgid, start_boot_ns, exec_number, exec_boot_ns,
		parent, ppid, pid_in_ns, comm, exe, script, cmdline, cmdline_truncated, cwd, uid, gid, euid, user, loginuid, session_id,
		cgroup_id, cgroup, container, unit, exe_deleted, exe_memfd, exe_device, exe_inode, exe_file,
		mntns, pidns, netns, userns, utsns, ipcns, cgroupns, mntns_is_host, source, ancestry, batch)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		id, in.segment.boot, p.Key.Tgid, p.Key.StartBoot, p.Key.Exec, segment.NumberOrNull(p.ExecBoot),
		in.parentID(p), ppid, segment.NumberOrNull(p.PidInNS), segment.TextOrNull(p.Comm), segment.TextOrNull(p.Exe), segment.TextOrNull(p.Script),
		cmdline, p.ArgvTruncated, segment.TextOrNull(p.Cwd), uid, gid, euid, segment.TextOrNull(p.User),
		loginUID, sessionID,
		segment.NumberOrNull(p.CgroupID), segment.TextOrNull(p.Cgroup), segment.TextOrNull(p.Container), segment.TextOrNull(p.Unit),
		p.ExeDeleted, p.ExeMemfd, segment.NumberOrNull(p.ExeDev), segment.NumberOrNull(p.ExeIno), segment.NumberOrNull(uint64(p.ExeFile.id())),
		segment.NumberOrNull(p.MntNS), segment.NumberOrNull(p.PidNS), segment.NumberOrNull(p.NetNS), segment.NumberOrNull(p.UserNS),
		segment.NumberOrNull(p.UtsNS), segment.NumberOrNull(p.IpcNS), segment.NumberOrNull(p.CgroupNS), p.Mounts.orNull(),
		escape.String(source, nil), ancestry(p), in.segment.chainer.batch)
}
