package store

import (
	"github.com/conntape/conntape/store/segment"
)

// Task is everything a thread is at the moment of a connect.
//
// The caller keeps one *Task per distinct value and hands the same pointer for
// every connect made in that state: the writer stores it once per segment and
// remembers the row in the pointer. It must not be changed after it was handed
// to [Writer.Append]. A copy of a Task is a new Task.
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

// ProcessKey names one execution of one program within one boot.
type ProcessKey struct {
	Tgid      uint32
	StartBoot uint64 // start of the thread group, ns of CLOCK_BOOTTIME
	Exec      uint32 // low 32 bits of the kernel's self_exec_id
}

// Process is one execution of one program. It must not be changed after it was
// handed to the writer.
type Process struct {
	Key       ProcessKey
	Parent    *Process   // nil: unknown, or the kernel
	PPID      uint32     // tgid of the parent at fork, 0 for none
	ParentKey ProcessKey // zero when unknown; used when Parent is nil

	PidInNS uint32 // pid in its own (innermost) pid namespace

	Comm             string // raw
	Exe, Script, Cwd string // raw, absolute; "" unknown
	Argv             []string
	ArgvTruncated    bool // there was more than was kept

	ExeDeleted, ExeMemfd bool
	ExeDev               uint32 // major<<20 | minor, as the kernel's dev_t
	ExeIno               uint64

	UID, GID, EUID      uint32
	User                string
	LoginUID, SessionID int64 // -1 unset

	CgroupID                uint64
	Cgroup, Container, Unit string

	MntNS, PidNS, NetNS, UserNS, UtsNS, IpcNS, CgroupNS uint64 // inodes, 0 unknown

	Mounts MountPlace // what MntNS is

	ExecBoot uint64 // ns of CLOCK_BOOTTIME of the exec (or of the fork, for SourceFork)
	Source   string // where the description comes from: one of the Source constants

	mark mark
}

// MountPlace tells whether a mount namespace is the host's: elsewhere a path may lead to another file than on the host.
type MountPlace int8

// The places.
const (
	MountsUnknown MountPlace = iota
	MountsHost
	MountsOther
)

// orNull returns what the tape has: 1 for the host's, 0 for another, NULL.
func (m MountPlace) orNull() any {
	switch m {
	case MountsHost:
		return true
	case MountsOther:
		return false
	}
	return nil
}

// Where the description of a process comes from.
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

	mark mark
}

// Unknown is the value of an int32 field that becomes NULL.
const Unknown int32 = -1

// Shape is what connects have in common beyond who and where. It is a
// comparable value; the writer interns by value, the pointer in [Connection]
// only saves copying.
type Shape struct {
	SocketFamily, Type, Protocol uint16 // as the kernel holds them: AF_, SOCK_, IPPROTO_

	Via           string // connect, socketcall, io_uring, sendto, fastopen, kernel
	AddressSource string // kernel or user: whose copy of the sockaddr was read; or AddressDropped, AddressAsked
	Backend       string // fexit, kprobe, cgroup

	HookErrno int32 // 0 allowed, positive errno, -1 this backend cannot know
	Errno     int32 // 0 returned 0, positive errno, -1 not seen
	Addrlen   int32 // as the caller passed it
	Final     Final // what the connection came to, as far as it is known
}

// AddressDropped is the AddressSource of a row in which the attempts of one process are counted whose addresses were not
// kept, because it made too many at once. Such a row tells who, how often, and the first and last time: no address, result,
// thread or socket.
const AddressDropped = "dropped"

// AddressAsked is the AddressSource of a row that was written before a program of a cgroup sent the attempt elsewhere: it
// has the address that was asked for alone. The attempt was stopped between the two for longer than a row waits.
const AddressAsked = "asked"

// Connection is one connect attempt, or several equal ones counted together.
type Connection struct {
	BootTime     uint64 // ns of CLOCK_BOOTTIME at the hook
	LastBootTime uint64 // of the last one of Count; 0 same as BootTime

	Task   *Task
	Remote *Endpoint
	Local  *Endpoint // nil not bound
	Shape  *Shape

	Cookie uint64 // socket cookie, 0 unknown
	Count  uint32 // attempts that the row stands for; 0 and 1 both mean one
	FD     int32  // as the caller passed it, -1 none

	Outcome *Outcome // what is known of it already; nil nothing

	// Update says that this is no new row: the row already written for
	// (BootTime, Cookie) gets this Shape, because the connect has returned
	// meanwhile. A row of the segment before is changed too, as long as that
	// waits to be sealed; when there is none, the update is counted as missed.
	Update bool
}

// Gap is a span of time in which we were blind or lost events. A Gap with the
// From and Cause of one already in the segment replaces it, so that an open gap
// can be extended and closed.
type Gap struct {
	From  uint64 // ns of CLOCK_BOOTTIME; 0 unknown
	To    uint64 // ns of CLOCK_BOOTTIME; 0 still open
	Cause string // one of the Cause constants, or the recorder's own word
	Lost  uint64 // events known to be lost
	// LostUnknown says that events were lost, and that nobody knows how many: NULL in the tape.
	LostUnknown bool
	Detail      string // for people
}

// Anchor ties the clocks together at one instant.
type Anchor struct {
	Boot uint64 // ns of CLOCK_BOOTTIME
	Real int64  // ns since the Unix epoch, CLOCK_REALTIME
	Kind string // start, tick, step, resume
	Sync string // what the kernel says of its discipline: synchronized, unsynchronized, ""
}

// Batch is one transaction.
type Batch struct {
	Connections []Connection
	Endings     []Ending // of connections that were written before, or are in this batch
	Gaps        []Gap
	Anchors     []Anchor
	Counters    segment.Counters
	Now         uint64 // ns of CLOCK_BOOTTIME: alive at this time (heartbeat); 0 unchanged
}
