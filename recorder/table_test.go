package recorder

import (
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/conntape/conntape/bpf"
	"github.com/conntape/conntape/store"
)

func tableOf(t testing.TB, list ...bpf.Process) *table {
	t.Helper()
	tab := newTable(newUsers(filepath.Join(t.TempDir(), "none")), newCgroups(""), newShares(DefaultBuffer))
	for i := range list {
		tab.apply(&list[i])
	}
	return tab
}

func TestExecsOfOneProcessAreTwoWithTheSameParent(t *testing.T) {
	shell, child := key(100, 1, 1), key(200, 5, 1)
	first, second := key(200, 5, 2), key(200, 5, 3)
	tab := tableOf(t,
		execOf(shell, bpf.ProcessKey{}, 1, "/bin/bash", "bash\x00"),
		forkOf(child, shell, 5),
		execOf(first, shell, 6, "/bin/sh", "sh\x00"),
		// By now the reaper has taken over, as the kernel says. The fork stays what it was.
		execOf(second, key(1, 1, 1), 7, "/usr/bin/curl", "curl\x00"),
	)
	for k, want := range map[bpf.ProcessKey]string{
		child: "bash#200 < bash#100", first: "sh#200 < bash#100", second: "curl#200 < bash#100",
	} {
		p := tab.find(k)
		if p == nil || lineage(p) != want || p.PPID != 100 || p.ParentKey != storeKey(shell) {
			t.Errorf("%v: %s, want %s: %+v", k, lineage(p), want, p)
		}
	}
	// What was replaced can be named until everything up to then has been read.
	tab.forget(6)
	if tab.find(child) == nil {
		t.Error("forgotten too early")
	}
	tab.forget(8)
	if tab.find(child) != nil || tab.find(first) != nil || tab.find(second) == nil {
		t.Error("the wrong executions are forgotten")
	}
	tab.apply(ptr(exitOf(second, 9)))
	tab.forget(10)
	if len(tab.lives) != 1 {
		t.Errorf("%d processes are left", len(tab.lives))
	}
}

func TestParentsOutliveTheirEntry(t *testing.T) {
	a, b, c := key(1, 1, 1), key(2, 2, 1), key(3, 3, 1)
	tab := tableOf(t,
		execOf(a, bpf.ProcessKey{}, 1, "/bin/a", "a\x00"),
		forkOf(b, a, 2), forkOf(c, b, 3), exitOf(b, 4), exitOf(a, 5),
	)
	tab.forget(100)
	if p := tab.find(c); lineage(p) != "a#3 < a#2 < a#1" {
		t.Errorf("lineage %s", lineage(p))
	}
}

func TestReusedPidIsAnotherProcess(t *testing.T) {
	old, young := key(7, 10, 1), key(7, 20, 1)
	tab := tableOf(t, execOf(old, bpf.ProcessKey{}, 10, "/bin/old", "old\x00"), exitOf(old, 15),
		execOf(young, bpf.ProcessKey{}, 20, "/bin/young", "young\x00"))
	if tab.find(old).Exe != "/bin/old" || tab.find(young).Exe != "/bin/young" || tab.find(key(7, 30, 1)) != nil {
		t.Error("mixed up")
	}
	tab.forget(16)
	if tab.find(old) != nil || tab.find(young) == nil {
		t.Error("the wrong one is forgotten")
	}
}

// A process that forks itself and exits, for ever, must not be kept for ever.
func TestEndlessForkingKeepsABoundedChain(t *testing.T) {
	tab := tableOf(t, execOf(key(1, 1, 1), bpf.ProcessKey{}, 1, "/bin/bomb", "bomb\x00"))
	for i := range uint64(10_000) {
		parent, child := key(uint32(i+1), i+1, 1), key(uint32(i+2), i+2, 1)
		tab.apply(ptr(forkOf(child, parent, i+2)))
		tab.apply(ptr(exitOf(parent, i+3)))
		tab.forget(i + 4)
		n := 0
		for p := tab.find(child); p != nil; p = p.Parent {
			n++
		}
		if n > maxGenerations+1 || n < min(int(i)+2, keptGenerations) {
			t.Fatalf("generation %d has a chain of %d", i, n)
		}
	}
	if len(tab.lives) > 2 {
		t.Errorf("%d processes are left", len(tab.lives))
	}
}

func TestForkIntoAnotherCgroup(t *testing.T) {
	parent, child, other := key(1, 1, 1), key(2, 2, 1), key(3, 3, 1)
	p := execOf(parent, bpf.ProcessKey{}, 1, "/bin/a", "a\x00")
	p.Cgroup, p.CgroupID = "/system.slice/a.service", 10
	q := execOf(other, bpf.ProcessKey{}, 1, "/bin/b", "b\x00")
	q.Cgroup, q.CgroupID = "/docker/"+id64, 20
	f := forkOf(child, parent, 2)
	f.CgroupID = 20
	tab := tableOf(t, p, q, f)
	if got := tab.find(child); got.Cgroup != "/docker/"+id64 || got.Container != "docker:"+id64 || got.Unit != "" || got.Exe != "/bin/a" {
		t.Errorf("%+v", got)
	}
}

func TestCopyOfAProcessIsWhole(t *testing.T) {
	var p store.Process
	v := reflect.ValueOf(&p).Elem()
	for i := range v.NumField() {
		f := v.Field(i)
		if !f.CanSet() {
			continue
		}
		switch f.Kind() {
		case reflect.String:
			f.SetString("x")
		case reflect.Bool:
			f.SetBool(true)
		case reflect.Int8, reflect.Int64:
			f.SetInt(int64(i) + 1)
		case reflect.Uint32, reflect.Uint64:
			f.SetUint(uint64(i) + 1)
		case reflect.Slice:
			f.Set(reflect.ValueOf([]string{"x"}))
		case reflect.Pointer:
			f.Set(reflect.New(f.Type().Elem()))
		case reflect.Struct:
			f.Field(0).SetUint(uint64(i) + 1)
		default:
			t.Fatalf("field %s", v.Type().Field(i).Name)
		}
	}
	if q := copyProcess(&p); !reflect.DeepEqual(&p, q) {
		t.Errorf("copied %+v\n    of %+v", *q, p)
	}
}

func TestScriptPath(t *testing.T) {
	for _, c := range []struct{ filename, cwd, want string }{
		{"/opt/x.sh", "/home", "/opt/x.sh"},
		{"./x.sh", "/home/a", "/home/a/x.sh"},
		{"x.sh", "/", "/x.sh"},
		{".//./x.sh", "/a", "/a/x.sh"},
		{"../x.sh", "/a/b", "/a/b/../x.sh"},
		{"x.sh", "", "x.sh"},
		{"", "/a", ""},
		{"/dev/fd/3/x", "/a", "/dev/fd/3/x"},
	} {
		rec := bpf.Process{Filename: c.filename, Cwd: c.cwd}
		if got := scriptPath(&rec); got != c.want {
			t.Errorf("scriptPath(%q in %q) = %q, want %q", c.filename, c.cwd, got, c.want)
		}
	}
	if got := scriptPath(&bpf.Process{Filename: "x", Cwd: "/cut", Flags: bpf.CwdTruncated}); got != "x" {
		t.Errorf("in a directory that is not known whole: %q", got)
	}
}

func TestExecArgv(t *testing.T) {
	whole := bpf.Process{Argv: []byte("a\x00b\x00"), ArgvTotal: 4}
	cut := bpf.Process{Argv: []byte("a\x00b"), ArgvTotal: 400}
	fault := bpf.Process{Flags: bpf.ArgvFault, ArgvTotal: 4}
	none := bpf.Process{}
	for i, c := range []struct {
		rec  bpf.Process
		argv []string
		cut  bool
	}{{whole, []string{"a", "b"}, false}, {cut, []string{"a", "b"}, true}, {fault, nil, true}, {none, nil, false}} {
		if argv, truncated := execArgv(&c.rec); !slices.Equal(argv, c.argv) || truncated != c.cut {
			t.Errorf("%d: %q, %v", i, argv, truncated)
		}
	}
}

// Processes whose exit record was lost go after two walks that did not meet them.
func TestProcessesThatAreGoneWithoutARecord(t *testing.T) {
	gone, here, later := key(1, 1, 1), key(2, 2, 1), key(3, 300, 1)
	tab := tableOf(t)
	for _, k := range []bpf.ProcessKey{gone, here, later} {
		tab.apply(ptr(execOf(k, bpf.ProcessKey{}, k.Start, "/bin/x", "x\x00")))
	}
	alive := map[lifeKey]struct{}{lifeOf(here): {}}
	tab.miss(alive, 100)
	tab.forget(1000)
	if len(tab.lives) != 3 {
		t.Fatal("gone after one walk")
	}
	tab.miss(alive, 200)
	tab.forget(1000)
	if tab.find(gone) != nil || tab.find(here) == nil || tab.find(later) == nil {
		t.Errorf("left: %v", tab.lives)
	}
}

func TestGenerationsKeepWhatIsUsed(t *testing.T) {
	g := newGenerations[int, string](10)
	g.put(0, "hot")
	for i := 1; i < 1000; i++ {
		g.put(i, "cold")
		if v, ok := g.get(0); !ok || v != "hot" {
			t.Fatalf("lost after %d", i)
		}
		if n := len(g.young) + len(g.old); n > 21 {
			t.Fatalf("%d entries", n)
		}
	}
	if _, ok := g.get(1); ok {
		t.Error("what is not used stays")
	}
}

func TestGapsAreCorrected(t *testing.T) {
	l := newLedger(0, 10)
	l.observe(100, bpf.Counters{Seen: 5, LostRing: 3})
	if g := l.gaps.take(); len(g) != 1 || g[0] != (store.Gap{From: 0, To: 100, Cause: causeRing, Lost: 3, Detail: g[0].Detail}) {
		t.Fatalf("gaps %+v", g)
	}
	l.recovered = 2
	l.observe(200, bpf.Counters{Seen: 5, LostRing: 3})
	if g := l.gaps.take(); len(g) != 1 || g[0].From != 0 || g[0].To != 100 || g[0].Lost != 1 {
		t.Fatalf("corrected to %+v", g)
	}
	l.observe(300, bpf.Counters{Seen: 6, LostRing: 4})
	if g := l.gaps.take(); len(g) != 1 || g[0].From != 200 || g[0].Lost != 1 {
		t.Fatalf("next %+v", g)
	}
	if l.gaps.pending() {
		t.Error("still pending")
	}
}

func TestGrouped(t *testing.T) {
	for n, want := range map[uint64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		if got := grouped(n); got != want {
			t.Errorf("grouped(%d) = %s", n, got)
		}
	}
}

func ptr[T any](v T) *T { return &v }

func BenchmarkFork(b *testing.B) {
	parent := key(1, 1, 1)
	tab := tableOf(b, execOf(parent, bpf.ProcessKey{}, 1, "/bin/a", "a\x00b\x00"))
	b.ReportAllocs()
	for i := range uint64(b.N) {
		child := key(uint32(i)+2, i+2, 1)
		tab.apply(ptr(forkOf(child, parent, i+2)))
		child.Exec++
		tab.apply(ptr(execOf(child, parent, i+2, "/bin/b", fmt.Sprintf("b\x00%d\x00", i))))
		tab.apply(ptr(exitOf(child, i+3)))
		tab.forget(i)
	}
}

// TestMemoryForArgumentsIsBounded: any number of processes with long arguments lives at once. Their arguments are cut, and
// nobody else's.
func TestMemoryForArgumentsIsBounded(t *testing.T) {
	const n = 20_000
	tab := newTable(newUsers(filepath.Join(t.TempDir(), "none")), newCgroups(""), newShares(DefaultBuffer))
	long := strings.Repeat("x", 3000) + "\x00" + strings.Repeat("y", 1000) + "\x00"
	for i := range uint32(n) {
		tab.apply(ptr(execOf(key(100+i, 1, 1), key(50, 1, 1), 1, "/bin/bomb", long)))
	}
	other := key(60, 1, 1)
	tab.apply(ptr(execOf(other, key(40, 1, 1), 1, "/bin/other", long)))
	if used := tab.shares.all.used; used > tableBytes || used < tableBytes/4 {
		t.Errorf("%d bytes of arguments", used)
	}
	if p := tab.find(other); p.ArgvTruncated || len(p.Argv) != 2 {
		t.Errorf("the arguments of another process were cut to %d bytes", len(strings.Join(p.Argv, " ")))
	}
	last := tab.find(key(100+n-1, 1, 1))
	if !last.ArgvTruncated || len(last.Argv) != 1 || last.Argv[0] != strings.Repeat("x", keptArgv-argBytes) || tab.cut == 0 {
		t.Errorf("of the arguments of the last one are left %d bytes", len(strings.Join(last.Argv, " ")))
	}
	for i := range uint32(n) {
		tab.apply(ptr(exitOf(key(100+i, 1, 1), 2)))
	}
	tab.apply(ptr(exitOf(other, 2)))
	tab.forget(3)
	if tab.shares.all.used != 0 {
		t.Errorf("%d bytes are charged to nobody", tab.shares.all.used)
	}
}
