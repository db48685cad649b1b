package bpf

import (
	"encoding/binary"
	"testing"

	"github.com/cilium/ebpf/btf"
)

// member is a field of a C struct that is not itself a struct, with its offset in bytes from the outermost one.
type member struct {
	name   string
	offset uint32
	size   int
}

// members lists the fields of a C record as the compiled object's BTF has them, nested structs dissolved.
func members(t *testing.T, name string) ([]member, uint32) {
	t.Helper()
	spec, err := loadConnect()
	if err != nil {
		t.Fatal(err)
	}
	var s *btf.Struct
	if err := spec.Types.TypeByName(name, &s); err != nil {
		t.Fatalf("find struct %s in BTF: %v", name, err)
	}
	var out []member
	var walk func(prefix string, at uint32, s *btf.Struct)
	walk = func(prefix string, at uint32, s *btf.Struct) {
		for _, m := range s.Members {
			typ := btf.UnderlyingType(m.Type)
			offset := at + m.Offset.Bytes()
			if inner, ok := typ.(*btf.Struct); ok {
				walk(prefix+m.Name+".", offset, inner)
				continue
			}
			size, err := btf.Sizeof(typ)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, member{prefix + m.Name, offset, size})
		}
	}
	walk("", 0, s)
	return out, s.Size
}

// put writes a value into a field that no other field has, and returns it as the field holds it.
func put(b []byte, m member, i int) uint64 {
	n := binary.NativeEndian
	v := uint64(i) + 1
	switch m.size {
	case 1:
		b[m.offset] = byte(v)
	case 2:
		n.PutUint16(b[m.offset:], uint16(v))
	case 4:
		n.PutUint32(b[m.offset:], uint32(v))
	case 8:
		n.PutUint64(b[m.offset:], v)
	}
	return v
}

func TestConnectLayout(t *testing.T) {
	fields, size := members(t, "connect")
	if size != connectSize {
		t.Errorf("struct connect has %d bytes, the decoder takes %d", size, connectSize)
	}
	got := map[string]func(*Connect) uint64{
		"boot_time":     func(c *Connect) uint64 { return c.BootTime },
		"process.start": func(c *Connect) uint64 { return c.Key.Start },
		"process.tgid":  func(c *Connect) uint64 { return uint64(c.Key.Tgid) },
		"process.exec":  func(c *Connect) uint64 { return uint64(c.Key.Exec) },
		"cgroup_id":     func(c *Connect) uint64 { return c.CgroupID },
		"cookie":        func(c *Connect) uint64 { return c.Cookie },
		"tid":           func(c *Connect) uint64 { return uint64(c.Tid) },
		"uid":           func(c *Connect) uint64 { return uint64(c.UID) },
		"gid":           func(c *Connect) uint64 { return uint64(c.GID) },
		"euid":          func(c *Connect) uint64 { return uint64(c.EUID) },
		"loginuid":      func(c *Connect) uint64 { return uint64(c.LoginUID) },
		"session_id":    func(c *Connect) uint64 { return uint64(c.SessionID) },
		"netns":         func(c *Connect) uint64 { return uint64(c.NetNS) },
		"fd":            func(c *Connect) uint64 { return uint64(c.FD) },
		"addrlen":       func(c *Connect) uint64 { return uint64(c.Addrlen) },
		"hook_errno":    func(c *Connect) uint64 { return uint64(c.HookErrno) },
		"error":         func(c *Connect) uint64 { return uint64(c.Errno) },
		"socket_family": func(c *Connect) uint64 { return uint64(c.SocketFamily) },
		"type":          func(c *Connect) uint64 { return uint64(c.Type) },
		"protocol":      func(c *Connect) uint64 { return uint64(c.Protocol) },
		"via":           func(c *Connect) uint64 { return uint64(c.Via) },
		"flags":         func(c *Connect) uint64 { return uint64(c.Flags) },
		"remote_len":    func(c *Connect) uint64 { return uint64(len(c.Remote)) },
		"local_len":     func(c *Connect) uint64 { return uint64(len(c.Local)) },
		"comm":          func(c *Connect) uint64 { return uint64(c.Comm[0]) },
	}
	for i, m := range fields {
		b := make([]byte, connectSize+sockaddrLarge+localLarge)
		want := put(b, m, i)
		if m.name == "comm" {
			b[m.offset], want = 'x', 'x'
		}
		var c Connect
		if err := c.decode(b); err != nil {
			t.Fatalf("%s: %v", m.name, err)
		}
		get := got[m.name]
		if get == nil {
			t.Errorf("no Go field is held to struct connect's %s", m.name)
			continue
		}
		if v := get(&c); v != want {
			t.Errorf("%s at offset %d: decoded %d, want %d", m.name, m.offset, v, want)
		}
		delete(got, m.name)
	}
	for name := range got {
		t.Errorf("struct connect has no field %s", name)
	}
}

func TestLoserLayout(t *testing.T) {
	fields, size := members(t, "loser")
	if size != loserSize {
		t.Errorf("struct loser has %d bytes, the decoder takes %d", size, loserSize)
	}
	got := map[string]func(*Loser) uint64{
		"n":            func(l *Loser) uint64 { return l.Attempts },
		"first":        func(l *Loser) uint64 { return l.First },
		"last":         func(l *Loser) uint64 { return l.Last },
		"start":        func(l *Loser) uint64 { return l.Start },
		"parent_start": func(l *Loser) uint64 { return l.ParentStart },
		"tgid":         func(l *Loser) uint64 { return uint64(l.Tgid) },
		"parent_tgid":  func(l *Loser) uint64 { return uint64(l.ParentTgid) },
		"uid":          func(l *Loser) uint64 { return uint64(l.UID) },
		"children":     nil,
		"comm":         func(l *Loser) uint64 { return uint64(l.Comm[0]) },
	}
	for i, m := range fields {
		get, known := got[m.name]
		if !known {
			t.Errorf("no Go field is held to struct loser's %s", m.name)
		}
		b := make([]byte, loserSize)
		want := put(b, m, i)
		if m.name == "comm" {
			b[m.offset], want = 'x', 'x'
		}
		var l Loser
		l.decode(b)
		if get == nil && !l.Children || get != nil && get(&l) != want {
			t.Errorf("%s is read from elsewhere: %+v", m.name, l)
		}
	}
}

func TestTouchLayout(t *testing.T) {
	fields, size := members(t, "touch")
	if size != touchSize {
		t.Errorf("struct touch has %d bytes, the decoder takes %d", size, touchSize)
	}
	got := map[string]func(*Touch) uint64{
		"n":      func(t *Touch) uint64 { return t.Count },
		"last":   func(t *Touch) uint64 { return t.Last },
		"tgid":   func(t *Touch) uint64 { return uint64(t.Tgid) },
		"uid":    func(t *Touch) uint64 { return uint64(t.UID) },
		"what":   nil, // at offset 24: Touched
		"kernel": nil,
		"comm":   func(t *Touch) uint64 { return uint64(t.Comm[0]) },
	}
	for i, m := range fields {
		get, known := got[m.name]
		if !known {
			t.Errorf("no Go field is held to struct touch's %s", m.name)
		}
		b := make([]byte, touchSize)
		want := put(b, m, i)
		b[32] = 'x'
		if m.name == "comm" {
			want = 'x'
		}
		var touch Touch
		touch.decode(b)
		if get != nil && get(&touch) != want || m.name == "kernel" && !touch.Kernel || m.name == "what" && m.offset != 24 {
			t.Errorf("%s is read from elsewhere: %+v", m.name, touch)
		}
	}
}

func TestOpenSocketLayout(t *testing.T) {
	if _, size := members(t, "open_socket"); size != openSize {
		t.Errorf("struct open_socket has %d bytes, the decoder takes %d", size, openSize)
	}
}

func TestOutcomeLayout(t *testing.T) {
	fields, size := members(t, "outcome")
	if size != outcomeSize {
		t.Errorf("struct outcome has %d bytes, the decoder takes %d", size, outcomeSize)
	}
	got := map[string]func(*Outcome) uint64{
		"boot_time":      func(o *Outcome) uint64 { return o.BootTime },
		"connect_time":   func(o *Outcome) uint64 { return o.Attempt.BootTime },
		"cookie":         func(o *Outcome) uint64 { return o.Cookie },
		"established":    func(o *Outcome) uint64 { return o.Established },
		"bytes_sent":     func(o *Outcome) uint64 { return o.Sent },
		"bytes_received": func(o *Outcome) uint64 { return o.Received },
		"tid":            func(o *Outcome) uint64 { return uint64(o.Attempt.Tid) },
		"retransmits":    func(o *Outcome) uint64 { return uint64(o.Retransmits) },
		"rtt":            func(o *Outcome) uint64 { return uint64(o.RTT) },
		"local_port":     func(o *Outcome) uint64 { return uint64(o.Local.Port()) },
		"error":          func(o *Outcome) uint64 { return uint64(o.Errno) },
		"kind":           func(o *Outcome) uint64 { return uint64(o.Kind) },
		"from":           func(o *Outcome) uint64 { return uint64(o.From) },
		"closed_by":      func(o *Outcome) uint64 { return uint64(o.ClosedBy) },
		"accepted":       nil, // below
		"local":          func(o *Outcome) uint64 { return uint64(o.Local.Addr().As16()[0]) },
		"family":         nil, // below
	}
	for i, m := range fields {
		if m.name == "reserved" || m.name == "reserved2" {
			continue
		}
		get, known := got[m.name]
		if !known {
			t.Errorf("no Go field is held to struct outcome's %s", m.name)
			continue
		}
		b := make([]byte, outcomeSize)
		want := put(b, m, i)
		if m.name == "local" {
			b[m.offset], want = 'x', 'x'
		}
		var o Outcome
		if m.name == "accepted" {
			if err := o.decode(b); err != nil || !o.Accepted {
				t.Errorf("accepted is read from elsewhere: %+v, %v", o, err)
			}
			continue
		}
		if m.name == "family" {
			binary.NativeEndian.PutUint16(b[m.offset:], afInet)
			if err := o.decode(b); err != nil || !o.Local.Addr().Is4() {
				t.Errorf("family is read from elsewhere: %+v, %v", o, err)
			}
			continue
		}
		if err := o.decode(b); err != nil {
			t.Fatalf("%s: %v", m.name, err)
		}
		if v := get(&o); v != want {
			t.Errorf("%s at offset %d: decoded %d, want %d", m.name, m.offset, v, want)
		}
	}
}

func TestConnectAddressLayout(t *testing.T) {
	for _, layout := range []struct {
		name  string
		flags ConnectFlags
	}{{"connect_short", 0}, {"connect_small", 0}, {"connect_small", redirected}, {"connect_large", large}, {"connect_large", large | redirected}} {
		fields, size := members(t, layout.name)
		b := make([]byte, size)
		offset := map[string]member{}
		for _, m := range fields {
			offset[m.name] = m
		}
		remote, local := offset["remote"], offset["local"]
		n := binary.NativeEndian
		b[offset["c.flags"].offset] = byte(layout.flags)
		if layout.name == "connect_short" { // of an event alone
			b[offset["c.via"].offset] = byte(ViaAccept)
		}
		n.PutUint16(b[offset["c.remote_len"].offset:], uint16(remote.size))
		if layout.flags&redirected != 0 {
			local.size = sockaddrSmall // what of it may be in use
		}
		n.PutUint16(b[offset["c.local_len"].offset:], uint16(local.size))
		for i := range remote.size {
			b[remote.offset+uint32(i)] = 'r'
		}
		for i := range local.size {
			b[local.offset+uint32(i)] = 'l'
		}
		for i := range sockaddrSmall {
			if at := int(local.offset) + sockaddrSmall + i; layout.flags&redirected != 0 {
				b[at] = 'q'
			}
		}
		if at, ok := offset["requested"]; ok && (at.offset != local.offset+sockaddrSmall || at.size != sockaddrSmall) {
			t.Errorf("%s: requested is at %d", layout.name, at.offset)
		}
		var c Connect
		if err := c.decode(b); err != nil {
			t.Fatalf("%s: %v", layout.name, err)
		}
		if !all(c.Remote, 'r', remote.size) || !all(c.Local, 'l', local.size) {
			t.Errorf("%s: decoded remote %q, local %q", layout.name, c.Remote, c.Local)
		}
		if want := layout.flags & redirected; (want != 0) != all(c.Requested, 'q', sockaddrSmall) || want == 0 && c.Requested != nil {
			t.Errorf("%s, flags %b: decoded requested %q", layout.name, layout.flags, c.Requested)
		}
	}
}

func all(b []byte, with byte, n int) bool {
	for _, v := range b {
		if v != with {
			return false
		}
	}
	return len(b) == n
}

func TestProcessLayout(t *testing.T) {
	fields, size := members(t, "process")
	if size != processSize {
		t.Errorf("struct process has %d bytes, the decoder takes %d", size, processSize)
	}
	got := map[string]func(*Process) uint64{
		"boot_time":    func(p *Process) uint64 { return p.BootTime },
		"key.start":    func(p *Process) uint64 { return p.Key.Start },
		"key.tgid":     func(p *Process) uint64 { return uint64(p.Key.Tgid) },
		"key.exec":     func(p *Process) uint64 { return uint64(p.Key.Exec) },
		"parent.start": func(p *Process) uint64 { return p.Parent.Start },
		"parent.tgid":  func(p *Process) uint64 { return uint64(p.Parent.Tgid) },
		"parent.exec":  func(p *Process) uint64 { return uint64(p.Parent.Exec) },
		"cgroup_id":    func(p *Process) uint64 { return p.CgroupID },
		"exe_inode":    func(p *Process) uint64 { return p.ExeIno },
		"exe_ctime":    func(p *Process) uint64 { return p.ExeCtime },
		"exe_size":     func(p *Process) uint64 { return p.ExeSize },
		"exe_fs":       func(p *Process) uint64 { return uint64(p.ExeFS) },
		"exe_device":   func(p *Process) uint64 { return uint64(p.ExeDev) },
		"pid_in_ns":    func(p *Process) uint64 { return uint64(p.PidInNS) },
		"uid":          func(p *Process) uint64 { return uint64(p.UID) },
		"gid":          func(p *Process) uint64 { return uint64(p.GID) },
		"euid":         func(p *Process) uint64 { return uint64(p.EUID) },
		"loginuid":     func(p *Process) uint64 { return uint64(p.LoginUID) },
		"session_id":   func(p *Process) uint64 { return uint64(p.SessionID) },
		"mntns":        func(p *Process) uint64 { return uint64(p.MntNS) },
		"pidns":        func(p *Process) uint64 { return uint64(p.PidNS) },
		"netns":        func(p *Process) uint64 { return uint64(p.NetNS) },
		"userns":       func(p *Process) uint64 { return uint64(p.UserNS) },
		"utsns":        func(p *Process) uint64 { return uint64(p.UtsNS) },
		"ipcns":        func(p *Process) uint64 { return uint64(p.IpcNS) },
		"cgroupns":     func(p *Process) uint64 { return uint64(p.CgroupNS) },
		"kind":         func(p *Process) uint64 { return uint64(p.Kind) },
		"flags":        func(p *Process) uint64 { return uint64(p.Flags) },
		"exe_len":      func(p *Process) uint64 { return uint64(len(p.Exe) - 1) }, // the slash
		"cwd_len":      func(p *Process) uint64 { return uint64(len(p.Cwd) - 1) },
		"cgroup_len":   func(p *Process) uint64 { return uint64(len(p.Cgroup) - 1) },
		"filename_len": func(p *Process) uint64 { return uint64(len(p.Filename)) },
		"argv_len":     func(p *Process) uint64 { return uint64(len(p.Argv)) },
		"argv_total":   func(p *Process) uint64 { return uint64(p.ArgvTotal) },
		"comm":         func(p *Process) uint64 { return uint64(p.Comm[0]) },
	}
	for i, m := range fields {
		if m.name == "reserved" || m.name == "reserved2" {
			continue
		}
		b := make([]byte, processSize+256)
		want := put(b, m, i)
		for i := processSize; i < len(b); i++ {
			b[i] = 'x'
		}
		if m.name == "comm" {
			b[m.offset], want = 'x', 'x'
		}
		var p Process
		if _, err := p.decode(b); err != nil {
			t.Fatalf("%s: %v", m.name, err)
		}
		get := got[m.name]
		if get == nil {
			t.Errorf("no Go field is held to struct process's %s", m.name)
			continue
		}
		if v := get(&p); v != want {
			t.Errorf("%s at offset %d: decoded %d, want %d", m.name, m.offset, v, want)
		}
		delete(got, m.name)
	}
	for name := range got {
		t.Errorf("struct process has no field %s", name)
	}
}

// The order of enum counter is the order in which Counters reads them.
func TestEnums(t *testing.T) {
	spec, err := loadConnect()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]map[string]uint64{
		"via": {"VIA_CONNECT": uint64(ViaConnect), "VIA_SOCKETCALL": uint64(ViaSocketcall), "VIA_IO_URING": uint64(ViaIOUring), "VIA_KERNEL": uint64(ViaKernel), "VIA_FASTOPEN": uint64(ViaFastopen), "VIA_SNAPSHOT": uint64(ViaSnapshot), "VIA_SENDTO": uint64(ViaSendto), "VIA_FRAME": uint64(ViaFrame), "VIA_ACCEPT": uint64(ViaAccept), "VIA_LISTEN": uint64(ViaListen),
			"VIA_SOCKET": uint64(ViaSocket), "VIA_BIND": uint64(ViaBind), "VIA_FILTER": uint64(ViaFilter), "VIA_BPF": uint64(ViaBPF), "VIA_FANOUT": uint64(ViaFanout), "VIA_PROMISCUOUS": uint64(ViaPromiscuous), "VIA_HDRINCL": uint64(ViaHdrIncl), "VIA_BYPASS": uint64(ViaBypass), "VIA_TUN": uint64(ViaTun), "VIA_TAP": uint64(ViaTap)},
		"connect_flags": {"CONNECT_ADDRESS_FROM_USER": uint64(AddressFromUser), "CONNECT_REISSUE": uint64(Reissue), "CONNECT_LARGE": uint64(large), "CONNECT_RETURN_LOST": uint64(ReturnLost), "CONNECT_ADDRESS_FAULT": uint64(AddressFault), "CONNECT_KERNEL_WORKER": uint64(KernelWorker), "CONNECT_REDIRECTED": uint64(redirected), "CONNECT_PEER": uint64(hasPeer)},
		"outcome_kind":  {"OUTCOME_ESTABLISHED": uint64(OutcomeEstablished), "OUTCOME_CLOSED": uint64(OutcomeClosed), "OUTCOME_OPEN": uint64(OutcomeOpen), "OUTCOME_CONNECTING": uint64(OutcomeConnecting), "OUTCOME_ERROR": uint64(OutcomeError)},
		"closed_by":     {"CLOSED_BY_NONE": uint64(ClosedByNobody), "CLOSED_BY_LOCAL": uint64(ClosedByLocal), "CLOSED_BY_REMOTE": uint64(ClosedByRemote)},
		"process_kind":  {"PROCESS_EXEC": uint64(KindExec), "PROCESS_FORK": uint64(KindFork), "PROCESS_EXIT": uint64(KindExit), "PROCESS_SNAPSHOT": uint64(KindSnapshot)},
		"process_flags": {"PROCESS_EXE_DELETED": uint64(ExeDeleted), "PROCESS_EXE_MEMFD": uint64(ExeMemfd), "PROCESS_EXE_TRUNCATED": uint64(ExeTruncated), "PROCESS_CWD_TRUNCATED": uint64(CwdTruncated), "PROCESS_CGROUP_TRUNCATED": uint64(CgroupTruncated), "PROCESS_ARGV_FAULT": uint64(ArgvFault), "PROCESS_KERNEL_THREAD": uint64(KernelThread), "PROCESS_SCRIPT": uint64(Script)},
		"counter":       {"COUNT_SEEN": 0, "COUNT_SENT": 1, "COUNT_LOST": 2, "COUNT_REISSUED": 3, "COUNT_IN_FLIGHT_FULL": 4, "COUNT_NOT_ATTEMPTED": 5, "COUNT_PROCESS_SEEN": 6, "COUNT_PROCESS_SENT": 7, "COUNT_PROCESS_LOST": 8, "COUNT_ABANDONED": 9, "COUNT_NO_VERDICT": 10, "COUNT_RESCUED": 11, "COUNT_UNSEEN_LOST": 12, "COUNT_OUTCOME_SEEN": 13, "COUNT_OUTCOME_SENT": 14, "COUNT_OUTCOME_LOST": 15, "COUNT_EVENT_SEEN": 16, "COUNT_EVENT_SENT": 17, "COUNT_EVENT_LOST": 18, "COUNT_SEND_COUNTED": 19, "COUNT_ANSWER_SEEN": 20, "COUNT_ANSWER_SENT": 21, "COUNT_ANSWER_LOST": 22, "COUNTERS": 23},
	}
	for name, values := range want {
		var e *btf.Enum
		if err := spec.Types.TypeByName(name, &e); err != nil {
			t.Errorf("find enum %s in BTF: %v", name, err)
			continue
		}
		for _, v := range e.Values {
			if w, ok := values[v.Name]; !ok || w != v.Value {
				t.Errorf("enum %s: %s is %d, Go has %d (known: %v)", name, v.Name, v.Value, w, ok)
			}
			delete(values, v.Name)
		}
		for v := range values {
			t.Errorf("enum %s has no %s", name, v)
		}
	}
}
