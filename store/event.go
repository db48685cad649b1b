package store

import (
	"github.com/conntape/conntape/store/segment"
)

// Task is the state of a thread at a connect.
//
// The caller keeps one *Task per distinct value and passes the same pointer for every connect in this state: the writer
// stores it once per segment and remembers its id in it. Do not change it after [Writer.Append]. A copy is a new Task.
type Task struct {
	Process *Process // never nil
	Tid     uint32   // thread id in the initial pid namespace
	Comm    string   // raw bytes, as the kernel held them, without the NUL

	UID, GID, EUID uint32
	User           string // name of UID at record time, "" unknown

	LoginUID, SessionID int64 // audit login uid and session, -1 unset

	NetNS     uint64 // inode of the network namespace, 0 unknown
	CgroupID  uint64 // id of the cgroup v2, 0 unknown
	Cgroup    string // its path, raw, "" unknown
	Container string // "docker:<id>" and the like, "" none

	mark mark
}

// ProcessKey identifies one execution of a program within a boot.
type ProcessKey struct {
	Tgid      uint32
	StartBoot uint64 // start of the thread group, ns of CLOCK_BOOTTIME
	Exec      uint32 // low 32 bits of the kernel's self_exec_id
}

// Process is one execution of a program. Do not change it after passing it to the writer.
type Process struct {
	Key       ProcessKey
	Parent    *Process   // nil: unknown, or the kernel
	PPID      uint32     // tgid of the parent at fork, 0 for none
	ParentKey ProcessKey // used if Parent is nil; zero: unknown

	PidInNS uint32 // pid in its own (innermost) pid namespace

	Comm             string // raw
	Exe, Script, Cwd string // raw, absolute; "" unknown
	Argv             []string
	ArgvTruncated    bool // some arguments are missing

	ExeDeleted, ExeMemfd bool
	ExeDev               uint32 // major<<20 | minor, as the kernel's dev_t
	ExeIno               uint64
	ExeFile              *File // as it was at the exec; nil unknown

	UID, GID, EUID      uint32
	User                string
	LoginUID, SessionID int64 // -1 unset

	CgroupID                uint64
	Cgroup, Container, Unit string

	MntNS, PidNS, NetNS, UserNS, UtsNS, IpcNS, CgroupNS uint64 // inodes, 0 unknown

	Mounts MountPlace // whether MntNS is the host's

	ExecBoot uint64 // time of the exec (or of the fork, for SourceFork), ns of CLOCK_BOOTTIME
	Source   string // source of the description: one of the Source constants

	mark mark
}

// MountPlace tells whether a mount namespace is the host's: in another one a path may lead to another file.
type MountPlace int8

// Places.
const (
	MountsUnknown MountPlace = iota
	MountsHost
	MountsOther
)

// orNull returns the stored form: 1 for the host's, 0 for another, NULL.
func (m MountPlace) orNull() any {
	switch m {
	case MountsHost:
		return true
	case MountsOther:
		return false
	}
	return nil
}

// Sources of a process's description.
const (
	SourceExec     = "exec"     // the exec tracepoint: before the program could alter anything
	SourceFork     = "fork"     // inherited from the parent at fork
	SourceSnapshot = "snapshot" // the task iterator at start: alive before the recorder
	SourceProc     = "proc"     // a look into /proc
	SourceUnknown  = "unknown"  // nothing but the key
)

// Endpoint is one socket address, byte-exact. The same rules hold as for
// [Task]: one pointer per value, never changed.
type Endpoint struct {
	Family  uint16 // AF_ number as the kernel's copy had it
	Address string // text form, already escaped (see Escape); stored as it is
	Port    int32  // host byte order, -1 none
	Raw     []byte // the sockaddr, exactly addrlen bytes

	// Requested is the address that the caller asked for, where a program of a cgroup sent the connect to this one; else nil.
	Requested *Endpoint

	// Peer is the process that a connect to this UNIX address reached; nil unknown.
	Peer *Process

	// Names were looked up before, and led to this address, or the client has named one: escaped, in order, with a space between two;
	// "" unknown. NameSource tells where they are from: one of the Name constants; "" without names.
	Names, NameSource string

	mark mark
}

// Sources of an endpoint's names.
const (
	NameDNS          = "dns"          // answers that the process itself got
	NameStub         = "stub"         // answers that a resolver of the same network namespace got, for whom is unknown
	NameUnattributed = "unattributed" // answers in the same network namespace, and nobody knows who got them
	NameSNI          = "sni"          // the client's own TLS ClientHello on that connection
	NameHTTP         = "http"         // the Host of the first HTTP request on it
)

// Unknown is the value of an int32 field that becomes NULL.
const Unknown int32 = -1

// Shape is everything that connects have in common, apart from task and endpoint. The writer interns shapes by value;
// the pointer in [Connection] only saves copying.
type Shape struct {
	SocketFamily, Type, Protocol uint16 // as the kernel holds them: AF_, SOCK_, IPPROTO_

	Via           string // connect, socketcall, io_uring, sendto, fastopen, kernel
	AddressSource string // kernel or user: whose copy of the sockaddr was read; or AddressDropped, AddressAsked, AddressFound
	Backend       string // fexit, kprobe, cgroup

	HookErrno int32 // 0 allowed, positive errno, -1 this backend cannot know
	Errno     int32 // 0: success; positive errno; -1: not seen
	Addrlen   int32 // as passed by the caller
	Final     Final // final outcome, as far as known
}

// AddressDropped is the AddressSource of a row that counts attempts without address, because their process made too many
// at once. The row has the process, the count, and the first and last time, but no address, result, thread or socket.
const AddressDropped = "dropped"

// AddressAsked is the AddressSource of a row that was written before a program of a cgroup sent the attempt elsewhere: it
// has the address that was asked for alone. The attempt was stopped between the two for longer than a row waits.
const AddressAsked = "asked"

// AddressFound is the AddressSource of a [SocketEvent] of which nobody saw it happen: the socket was like this when recording began.
const AddressFound = "snapshot"

// Connection is a connect attempt, or several equal ones counted together.
type Connection struct {
	BootTime     uint64 // ns of CLOCK_BOOTTIME at the hook
	LastBootTime uint64 // of the last one of Count; 0 same as BootTime

	Task   *Task
	Remote *Endpoint
	Local  *Endpoint // nil not bound
	Shape  *Shape

	Cookie uint64 // of the socket (bpf_get_socket_cookie); 0 unknown
	Count  uint32 // attempts that the row stands for; 0 and 1 both mean one
	FD     int32  // as the caller passed it, -1 none

	Outcome *Outcome // known outcome; nil: none

	// Update means that this is not a new row: the existing row for (BootTime, Cookie) gets this Shape, because the
	// connect has returned. The row may be in the previous segment while that waits for sealing. If there is none, the
	// update is counted as missed.
	Update bool
}

// Gap is a time without recording or with losses. A Gap replaces an earlier one in the segment with the same From and
// Cause, so that an open gap can be extended and closed.
type Gap struct {
	From  uint64 // ns of CLOCK_BOOTTIME; 0 unknown
	To    uint64 // ns of CLOCK_BOOTTIME; 0 still open
	Cause string // one of the Cause constants, or the recorder's own word
	Lost  uint64 // events known to be lost
	// LostUnknown means that an unknown number of events was lost: NULL in the tape.
	LostUnknown bool
	Detail      string // for people
}

// Anchor is a reading of both clocks at one instant.
type Anchor struct {
	Boot uint64 // ns of CLOCK_BOOTTIME
	Real int64  // ns since the Unix epoch, CLOCK_REALTIME
	Kind string // start, tick, step, resume
	Sync string // what the kernel says of its discipline: synchronized, unsynchronized, ""
}

// Batch is one transaction.
type Batch struct {
	Connections []Connection
	Endings     []Ending      // of connections written before or in this batch
	Namings     []Naming      // by clients, of connections written before or in this batch
	Sockets     []SocketEvent // what else happened to sockets: accepted, listening, answers by DNS
	Files       []*File       // whose digests have come, of processes written before or in this batch
	Scripts     []Script      // that were found, of such processes
	Gaps        []Gap
	Anchors     []Anchor
	Counters    segment.Counters
	Now         uint64 // ns of CLOCK_BOOTTIME: alive at this time (heartbeat); 0 unchanged
}
