package recorder

import (
	"bytes"
	"strings"

	"github.com/conntape/conntape/bpf"
	"github.com/conntape/conntape/store"
)

// describe makes a description of what the kernel said in an exec or snapshot record. The parent is not linked yet.
func (t *table) describe(rec *bpf.Process, source string) *store.Process {
	truncated := rec.Flags&bpf.CgroupTruncated != 0
	at := t.cgroups.place(rec.Cgroup, truncated)
	t.cgroups.learn(rec.CgroupID, rec.Cgroup, truncated)
	p := &store.Process{
		Exe:        rec.Exe,
		Cwd:        rec.Cwd,
		ExeDeleted: rec.Flags&bpf.ExeDeleted != 0,
		ExeMemfd:   rec.Flags&bpf.ExeMemfd != 0,
		ExeDev:     rec.ExeDev,
		ExeIno:     rec.ExeIno,
		ExeFile:    t.hashes.fileOf(rec, source),
		Cgroup:     rec.Cgroup,
		Container:  at.container,
		Unit:       at.unit,
		Source:     source,
	}
	t.identify(p, rec)
	return p
}

// identify fills in what every process record carries.
func (t *table) identify(p *store.Process, rec *bpf.Process) {
	p.Key, p.ParentKey, p.PPID = storeKey(rec.Key), storeKey(rec.Parent), rec.Parent.Tgid
	p.PidInNS = rec.PidInNS
	p.Comm = rec.Comm
	p.UID, p.GID, p.EUID = rec.UID, rec.GID, rec.EUID
	p.Mounts = t.mounts.place(uint64(rec.MntNS))
	p.User = t.userName(rec.UID, p.Container, rec.Key.Tgid, uint64(rec.MntNS))
	p.LoginUID, p.SessionID = auditID(rec.LoginUID), auditID(rec.SessionID)
	p.CgroupID = rec.CgroupID
	p.MntNS, p.PidNS, p.NetNS, p.UserNS = uint64(rec.MntNS), uint64(rec.PidNS), uint64(rec.NetNS), uint64(rec.UserNS)
	p.UtsNS, p.IpcNS, p.CgroupNS = uint64(rec.UtsNS), uint64(rec.IpcNS), uint64(rec.CgroupNS)
	p.ExecBoot = rec.BootTime
}

// inherit describes a forked child: the program is its parent's, the rest its own. A parent of whom nothing is known
// has nothing to leave.
func (t *table) inherit(parent *store.Process, rec *bpf.Process) *store.Process {
	p := &store.Process{Source: store.SourceUnknown}
	if parent != nil {
		p = copyProcess(parent)
		if parent.Source != store.SourceUnknown {
			p.Source = store.SourceFork
		}
	}
	cgroup := p.CgroupID
	t.identify(p, rec)
	if parent == nil || rec.CgroupID != cgroup { // clone3(2) with CLONE_INTO_CGROUP
		p.Cgroup = t.cgroups.path(rec.CgroupID)
		at := t.cgroups.place(p.Cgroup, false)
		p.Container, p.Unit = at.container, at.unit
		p.User = t.userName(rec.UID, p.Container, rec.Key.Tgid, uint64(rec.MntNS))
	}
	return p
}

// copyProcess copies what there is to know of a process, and not what the writer keeps in it.
func copyProcess(p *store.Process) *store.Process {
	return &store.Process{
		Key: p.Key, Parent: p.Parent, PPID: p.PPID, ParentKey: p.ParentKey, PidInNS: p.PidInNS,
		Comm: p.Comm, Exe: p.Exe, Script: p.Script, Cwd: p.Cwd,
		Argv: p.Argv, ArgvTruncated: p.ArgvTruncated,
		ExeDeleted: p.ExeDeleted, ExeMemfd: p.ExeMemfd, ExeDev: p.ExeDev, ExeIno: p.ExeIno, ExeFile: p.ExeFile,
		UID: p.UID, GID: p.GID, EUID: p.EUID, User: p.User, LoginUID: p.LoginUID, SessionID: p.SessionID,
		CgroupID: p.CgroupID, Cgroup: p.Cgroup, Container: p.Container, Unit: p.Unit,
		MntNS: p.MntNS, PidNS: p.PidNS, NetNS: p.NetNS, UserNS: p.UserNS, UtsNS: p.UtsNS, IpcNS: p.IpcNS, CgroupNS: p.CgroupNS, Mounts: p.Mounts,
		ExecBoot: p.ExecBoot, Source: p.Source,
	}
}

// execArgv splits what the kernel read of the new program's arguments. What could not be read is cut, not empty.
func execArgv(rec *bpf.Process) (argv []string, truncated bool) {
	if rec.Flags&bpf.ArgvFault != 0 {
		return nil, true
	}
	return splitArgv(rec.Argv), int(rec.ArgvTotal) > len(rec.Argv)
}

// scriptPath returns the path of the file that named exe as its interpreter, absolute if the working directory at exec
// is known whole. A step up stays in it: where it leads depends on links that nobody looked at.
func scriptPath(rec *bpf.Process) string {
	name := rec.Filename
	if name == "" || strings.HasPrefix(name, "/") || rec.Cwd == "" || rec.Flags&bpf.CwdTruncated != 0 {
		return name
	}
	for strings.HasPrefix(name, "./") {
		name = strings.TrimLeft(name[2:], "/")
	}
	return strings.TrimSuffix(rec.Cwd, "/") + "/" + name
}

func storeKey(k bpf.ProcessKey) store.ProcessKey {
	return store.ProcessKey{Tgid: k.Tgid, StartBoot: k.Start, Exec: k.Exec}
}

// auditID returns a login uid or session id as the tape has it: -1 when none was set.
func auditID(id uint32) int64 {
	if id == bpf.Unset {
		return -1
	}
	return int64(id)
}

// cString returns b up to its first NUL.
func cString(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}
