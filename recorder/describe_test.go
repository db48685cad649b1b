package recorder

import (
	"fmt"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/bpf"
	"github.com/conntape/conntape/store"
)

func TestConnectIsFullyDescribed(t *testing.T) {
	src, out := newScript(), newMemory()
	now := bootNow()
	initKey, shell, child := key(1, 5, 1), key(100, 1000, 3), key(200, now, 3)
	src.setAlive(aliveOf(initKey, bpf.ProcessKey{}, "/sbin/init"), aliveOf(shell, initKey, "/bin/bash"))
	fakeProc(t, procOf(t), 100, 1000, "bash\x00-l\x00")
	stop := start(t, src, out, quick(), Options{})

	curl := child
	curl.Exec++
	rec := execOf(curl, initKey, now+1, "/usr/bin/curl", "curl\x00http://a b\x00\x00")
	rec.Cgroup, rec.CgroupID = "/system.slice/docker-"+id64+".scope", 77
	rec.UID, rec.EUID, rec.LoginUID, rec.SessionID = 1000, 0, 1000, 4
	rec.NetNS, rec.ExeDev, rec.ExeIno = 11, 8<<20|1, 42
	src.process(forkOf(child, shell, now), rec)
	c := connectBy(curl, now+2)
	c.UID, c.CgroupID, c.NetNS, c.Tid, c.Errno, c.HookErrno = 1000, 77, 12, 201, int32(unix.EINPROGRESS), 0
	c.Local = ipv4(10, 9, 8, 7, 40000)
	src.connect(c)
	waitFor(t, "a row", func() bool { return out.count() == 1 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}

	row := out.rows[0]
	if row.BootTime != now+2 || row.FD != 3 || row.Cookie != now+2 || row.Update {
		t.Errorf("row %+v", row)
	}
	if row.Remote.Address != "10.0.0.1" || row.Remote.Port != 80 || row.Local == nil || row.Local.Port != 40000 {
		t.Errorf("remote %+v local %+v", row.Remote, row.Local)
	}
	wantShape := store.Shape{
		SocketFamily: unix.AF_INET, Type: unix.SOCK_STREAM, Protocol: unix.IPPROTO_TCP, Via: "connect", AddressSource: "kernel",
		Backend: "cgroup", HookErrno: 0, Errno: int32(unix.EINPROGRESS), Addrlen: 16,
	}
	if *row.Shape != wantShape {
		t.Errorf("shape %+v, want %+v", *row.Shape, wantShape)
	}
	task := row.Task
	if task.Tid != 201 || task.Comm != "comm" || task.User != "" || task.LoginUID != -1 || task.NetNS != 12 ||
		task.Container != "docker:"+id64 || task.Cgroup != rec.Cgroup {
		t.Errorf("task %+v", task)
	}
	p := task.Process
	if !slices.Equal(p.Argv, []string{"curl", "http://a b", ""}) || p.ArgvTruncated || p.Source != store.SourceExec ||
		p.User != "" || p.LoginUID != 1000 || p.SessionID != 4 || p.Unit != "docker-"+id64+".scope" || p.NetNS != 11 ||
		p.ExecBoot != now+1 || p.PPID != 100 || p.ExeIno != 42 {
		t.Errorf("process %+v", p)
	}
	if got, want := lineage(p), "curl#200 < bash#100 < init#1"; got != want {
		t.Errorf("lineage %s, want %s", got, want)
	}
	if bash := p.Parent; bash.Source != store.SourceSnapshot || !slices.Equal(bash.Argv, []string{"bash", "-l"}) || bash.ArgvTruncated {
		t.Errorf("parent %+v", bash)
	}
	accounted(t, out)
}

// Exec, connect and exit of a process can all be in the rings before anything is read, the exit too.
func TestShortLivedProcessesKeepTheirOwnDescription(t *testing.T) {
	src, out := newScript(), newMemory()
	now := bootNow()
	shell := key(100, 1000, 3)
	src.setAlive(aliveOf(shell, bpf.ProcessKey{}, "/bin/bash"))
	stop := start(t, src, out, quick(), Options{})
	const n = 2000
	for i := range uint64(n) {
		at := now + i*10
		// Only 50 pids: each is used by many processes, which differ in their start time alone.
		child := key(uint32(200+i%50), at, 3)
		exe := child
		exe.Exec++
		c := connectBy(exe, at+2)
		c.Remote = ipv4(10, 0, byte(i>>8), byte(i), 80)
		src.process(forkOf(child, shell, at), execOf(exe, shell, at+1, "/bin/same", fmt.Sprintf("same\x00%d\x00", i)))
		src.connect(c)
		src.process(exitOf(exe, at+3))
	}
	waitFor(t, "all rows", func() bool { return out.count() == n })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	accounted(t, out)
	for _, row := range out.rows {
		want := fmt.Sprintf("10.0.%d.%d", (row.BootTime-now)/10>>8, (row.BootTime-now)/10&255)
		p := row.Task.Process
		if row.Remote.Address != want || p.Key.StartBoot != row.BootTime-2 || !slices.Equal(p.Argv, []string{"same", fmt.Sprint((row.BootTime - now) / 10)}) {
			t.Fatalf("connect to %s (want %s) by %+v", row.Remote.Address, want, p)
		}
		if p.Parent == nil || p.Parent.Key.Tgid != 100 || p.Source != store.SourceExec {
			t.Fatalf("process %+v", p)
		}
	}
}

// A process whose exec record was lost must not pass for the program that it was before, nor take another's argv.
func TestLostExecIsUnknownNotTheProgramBefore(t *testing.T) {
	src, out := newScript(), newMemory()
	now := bootNow()
	shell, child := key(100, 1000, 3), key(200, now, 3)
	src.setAlive(aliveOf(shell, bpf.ProcessKey{}, "/bin/bash"))
	stop := start(t, src, out, quick(), Options{})
	waitFor(t, "the first walk", func() bool { src.mu.Lock(); defer src.mu.Unlock(); return src.walks > 0 })
	src.setAlive() // all gone when they are looked for
	lost := child
	lost.Exec++
	src.process(forkOf(child, shell, now))
	src.loseProcess()
	c := connectBy(lost, now+2)
	c.UID = 1000
	src.connect(connectBy(child, now+1), c)
	src.process(exitOf(lost, now+3))
	waitFor(t, "both rows", func() bool { return out.count() == 2 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	before, after := out.rows[0].Task.Process, out.rows[1].Task.Process
	if before.Source != store.SourceFork || before.Exe != "/bin/bash" {
		t.Errorf("before exec: %+v", before)
	}
	if after.Source != store.SourceUnknown || after.Exe != "" || after.Argv != nil || after.User != "alice" || after.Comm != "comm" {
		t.Errorf("after a lost exec: %+v", after)
	}
	if got, want := lineage(after), ".#200 < bash#100"; got != want {
		t.Errorf("lineage %s, want %s", got, want)
	}
	accounted(t, out)
	if i := slices.IndexFunc(out.gaps, func(g store.Gap) bool { return g.Cause == causeProcessRing }); i < 0 || out.gaps[i].Lost != 0 {
		t.Errorf("gaps %+v", out.gaps)
	}
}

// What was lost and is still alive is found again, and marked as found late.
func TestLostExecOfALivingProcessIsFound(t *testing.T) {
	src, out := newScript(), newMemory()
	now := bootNow()
	shell := key(100, 1000, 3)
	lost := key(200, now, 4)
	src.setAlive(aliveOf(shell, bpf.ProcessKey{}, "/bin/bash"))
	fakeProc(t, procOf(t), 200, now, "late\x00x\x00")
	stop := start(t, src, out, quick(), Options{})
	waitFor(t, "the first walk", func() bool { src.mu.Lock(); defer src.mu.Unlock(); return src.walks > 0 })
	src.setAlive(aliveOf(shell, bpf.ProcessKey{}, "/bin/bash"), aliveOf(lost, shell, "/bin/late"))
	src.loseProcess()
	src.connect(connectBy(lost, now+2))
	waitFor(t, "a row", func() bool { return out.count() == 1 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if p := out.rows[0].Task.Process; p.Source != store.SourceProc || !slices.Equal(p.Argv, []string{"late", "x"}) || lineage(p) != "late#200 < bash#100" {
		t.Errorf("%s: %+v", lineage(p), p)
	}
}

// What was lost and is ending when it is found has its program still, but no arguments: they are unknown, not empty.
func TestLostExecOfAnEndingProcessHasUnknownArguments(t *testing.T) {
	src, out := newScript(), newMemory()
	now := bootNow()
	shell, lost := key(100, 1000, 3), key(200, now, 4)
	src.setAlive(aliveOf(shell, bpf.ProcessKey{}, "/bin/bash"))
	fakeProc(t, procOf(t), 200, now, "")
	stop := start(t, src, out, quick(), Options{})
	waitFor(t, "the first walk", func() bool { src.mu.Lock(); defer src.mu.Unlock(); return src.walks > 0 })
	src.setAlive(aliveOf(shell, bpf.ProcessKey{}, "/bin/bash"), aliveOf(lost, shell, "/bin/late"))
	src.loseProcess()
	src.connect(connectBy(lost, now+2))
	waitFor(t, "a row", func() bool { return out.count() == 1 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if p := out.rows[0].Task.Process; p.Source != store.SourceProc || p.Exe != "/bin/late" || p.Argv != nil || !p.ArgvTruncated {
		t.Errorf("%+v", p)
	}
}

// While processes are listed one of them executes another program, so that /proc shows the argv of that one.
func TestArgvReadTooLateIsDropped(t *testing.T) {
	src, out := newScript(), newMemory()
	now := bootNow()
	server := key(100, 1000, 3)
	next := key(100, 1000, 4)
	src.setAlive(aliveOf(server, bpf.ProcessKey{}, "/bin/old"))
	fakeProc(t, procOf(t), 100, 1000, "new\x00")
	src.onWalk = func() {
		src.onWalk = nil
		src.process(forkOf(key(300, now, 3), server, now), execOf(next, bpf.ProcessKey{}, now+1, "/bin/new", "new\x00"))
	}
	stop := start(t, src, out, quick(), Options{})
	src.connect(connectBy(server, now), connectBy(key(300, now, 3), now+1), connectBy(next, now+2))
	waitFor(t, "rows", func() bool { return out.count() == 3 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct {
		exe  string
		argv []string
		cut  bool
	}{{"/bin/old", nil, true}, {"/bin/old", nil, true}, {"/bin/new", []string{"new"}, false}} {
		if p := out.rows[i].Task.Process; p.Exe != want.exe || !slices.Equal(p.Argv, want.argv) || p.ArgvTruncated != want.cut {
			t.Errorf("row %d: %s %q truncated %v, want %+v", i, p.Exe, p.Argv, p.ArgvTruncated, want)
		}
	}
}

// The same, and the record of that exec is lost: a second walk tells whose argv can be trusted.
func TestArgvIsConfirmedWhenRecordsAreLostMeanwhile(t *testing.T) {
	src, out := newScript(), newMemory()
	now := bootNow()
	server, next, quiet := key(100, 1000, 3), key(100, 1000, 4), key(101, 1000, 3)
	src.setAlive(aliveOf(server, bpf.ProcessKey{}, "/bin/old"), aliveOf(quiet, bpf.ProcessKey{}, "/bin/quiet"))
	fakeProc(t, procOf(t), 100, 1000, "new\x00")
	fakeProc(t, procOf(t), 101, 1000, "quiet\x00")
	src.onWalk = func() {
		src.onWalk = nil
		src.loseProcess()
		src.setAlive(aliveOf(next, bpf.ProcessKey{}, "/bin/new"), aliveOf(quiet, bpf.ProcessKey{}, "/bin/quiet"))
	}
	stop := start(t, src, out, quick(), Options{})
	src.connect(connectBy(server, now), connectBy(quiet, now+1))
	waitFor(t, "rows", func() bool { return out.count() == 2 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if p := out.rows[0].Task.Process; p.Exe != "/bin/old" || p.Argv != nil || !p.ArgvTruncated {
		t.Errorf("%+v", p)
	}
	if p := out.rows[1].Task.Process; !slices.Equal(p.Argv, []string{"quiet"}) || p.ArgvTruncated {
		t.Errorf("%+v", p)
	}
}

func TestExecRecordWinsOverSnapshot(t *testing.T) {
	src, out := newScript(), newMemory()
	now := bootNow()
	k := key(100, now, 4)
	src.setAlive(aliveOf(k, bpf.ProcessKey{}, "/bin/x"))
	fakeProc(t, procOf(t), 100, now, "title that it gave itself\x00")
	src.process(execOf(k, bpf.ProcessKey{}, now+1, "/bin/x", "x\x00secret\x00"))
	stop := start(t, src, out, quick(), Options{})
	src.connect(connectBy(k, now+2))
	waitFor(t, "a row", func() bool { return out.count() == 1 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if p := out.rows[0].Task.Process; p.Source != store.SourceExec || !slices.Equal(p.Argv, []string{"x", "secret"}) {
		t.Errorf("%+v", p)
	}
}
