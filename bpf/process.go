package bpf

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
)

// Kind tells what happened to a process.
type Kind uint16

// The values of enum process_kind in record.h.
const (
	KindExec     Kind = iota // execve(2) succeeded; the new program has not run yet
	KindFork                 // a process was made; it has its parent's description
	KindExit                 // its last thread ended; only Key and BootTime are of use
	KindSnapshot             // it was there when the recorder started; Argv is empty
)

// ProcessFlags are the bits of enum process_flags in record.h.
type ProcessFlags uint16

// The bits of enum process_flags.
const (
	ExeDeleted      ProcessFlags = 1 << iota // the exe had no name left
	ExeMemfd                                 // the exe lives in a memfd_create(2) file
	ExeTruncated                             // Exe has only the path's end, behind a "…"
	CwdTruncated                             // Cwd has only the path's end, behind a "…"
	CgroupTruncated                          // Cgroup has only the path's end, behind a "…"
	ArgvFault                                // argv could not be read
	KernelThread                             // no user program
	Script                                   // Exe is the interpreter of Filename
)

// Process is one event in a process's life with what the kernel knew of it then. Texts are raw: whoever wrote them may
// be hostile.
type Process struct {
	Kind      Kind
	Flags     ProcessFlags
	BootTime  uint64 // of the event, ns CLOCK_BOOTTIME
	Key       ProcessKey
	Parent    ProcessKey // who forked it; for exec and snapshot real_parent, which a reaper may have replaced. Zero: none.
	PidInNS   uint32     // tgid in its innermost pid namespace
	UID       uint32
	GID       uint32
	EUID      uint32
	LoginUID  uint32 // Unset when no login set it
	SessionID uint32 // Unset when no login set it
	CgroupID  uint64 // cgroup v2
	MntNS     uint32 // inodes of namespaces
	PidNS     uint32
	NetNS     uint32
	UserNS    uint32
	UtsNS     uint32
	IpcNS     uint32
	CgroupNS  uint32
	ExeDev    uint32 // major << 20 | minor
	ExeIno    uint64
	ExeCtime  uint64 // of the inode, ns since the epoch
	ExeSize   uint64 // bytes
	ExeFS     uint32 // s_magic of its file system
	Comm      string
	Exe       string // from the root of its mount namespace; a memfd's is "memfd:NAME"
	Cwd       string // likewise
	Cgroup    string // cgroup v2 path, or the first v1 hierarchy's that is not the root
	Filename  string // exec only: as execve(2) got it
	Argv      []byte // exec only: NUL after each argument, as in the new program's memory
	ArgvTotal uint32 // bytes that argv had; more than len(Argv) when it was cut
}

// decode fills p from a record of the process ring or of the task iterator. Nothing in p aliases b. It returns how many
// bytes the record took.
func (p *Process) decode(b []byte) (int, error) {
	if len(b) < processSize {
		return 0, fmt.Errorf("decode process of %d bytes: %w", len(b), ErrShortRecord)
	}
	n := binary.NativeEndian
	key := func(b []byte) ProcessKey {
		return ProcessKey{Start: n.Uint64(b), Tgid: n.Uint32(b[8:]), Exec: n.Uint32(b[12:])}
	}
	*p = Process{
		BootTime:  n.Uint64(b[0:]),
		Key:       key(b[8:]),
		Parent:    key(b[24:]),
		CgroupID:  n.Uint64(b[40:]),
		ExeIno:    n.Uint64(b[48:]),
		ExeCtime:  n.Uint64(b[56:]),
		ExeSize:   n.Uint64(b[64:]),
		ExeDev:    n.Uint32(b[72:]),
		PidInNS:   n.Uint32(b[76:]),
		UID:       n.Uint32(b[80:]),
		GID:       n.Uint32(b[84:]),
		EUID:      n.Uint32(b[88:]),
		LoginUID:  n.Uint32(b[92:]),
		SessionID: n.Uint32(b[96:]),
		MntNS:     n.Uint32(b[100:]),
		PidNS:     n.Uint32(b[104:]),
		NetNS:     n.Uint32(b[108:]),
		UserNS:    n.Uint32(b[112:]),
		UtsNS:     n.Uint32(b[116:]),
		IpcNS:     n.Uint32(b[120:]),
		CgroupNS:  n.Uint32(b[124:]),
		Kind:      Kind(n.Uint16(b[128:])),
		Flags:     ProcessFlags(n.Uint16(b[130:])),
		ArgvTotal: n.Uint32(b[144:]),
		ExeFS:     n.Uint32(b[148:]),
		Comm:      cString(b[152:168]),
	}
	size := processSize
	text := func(off int) ([]byte, bool) {
		l := int(n.Uint16(b[off:]))
		if size+l > len(b) {
			return nil, false
		}
		t := b[size : size+l]
		size += l
		return t, true
	}
	var texts [5][]byte
	for i := range texts {
		t, ok := text(132 + 2*i)
		if !ok {
			return 0, fmt.Errorf("decode texts of process %d: %w", p.Key.Tgid, ErrShortRecord)
		}
		texts[i] = t
	}
	p.Exe = joinPath(texts[0], p.Flags&ExeTruncated != 0)
	p.Cwd = joinPath(texts[1], p.Flags&CwdTruncated != 0)
	p.Cgroup = joinPath(texts[2], p.Flags&CgroupTruncated != 0)
	p.Filename = string(texts[3])
	p.Argv = bytes.Clone(texts[4])
	if p.Flags&ExeMemfd != 0 {
		p.Exe = strings.TrimPrefix(p.Exe, "/")
	}
	return size, nil
}

// cString returns b up to its first NUL.
func cString(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

// joinPath makes an absolute path of components that run from the leaf up, a NUL behind each. An empty component alone
// is the root; no bytes at all is no path. One that was cut lacks its beginning and has "…" there, which no absolute
// path begins with.
func joinPath(b []byte, cut bool) string {
	if len(b) == 0 {
		return ""
	}
	parts := strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")
	var s strings.Builder
	if cut {
		s.WriteString("…")
	}
	for i := len(parts) - 1; i >= 0; i-- {
		if parts[i] != "" {
			s.WriteByte('/')
			s.WriteString(parts[i])
		}
	}
	if s.Len() == 0 {
		return "/"
	}
	return s.String()
}
