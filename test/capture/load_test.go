package capture

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/store/escape"
)

// stopsWithin is how soon a recorder ends after SIGTERM, whatever it was doing. Its unit waits for longer.
const stopsWithin = 10 * time.Second

// TestMillionRefused: "how often" is exact, nothing stays behind in the kernel, and who is told to stop then stops.
func TestMillionRefused(t *testing.T) {
	dir := tempDir(t)
	tape := record(t, dir)
	n := 1_000_000
	if env.scale < 1 {
		n = scaled(100_000, 2000)
	}
	o := mustRun(t, "refused", fmt.Sprint(n), "2")
	if o.number("as_expected") != int64(n) {
		t.Fatalf("of %d connects, %d were refused", n, o.number("as_expected"))
	}
	told := time.Now()
	tape.end(t, syscall.SIGTERM)
	if took := time.Since(told); took > stopsWithin && env.scale == 1 {
		t.Errorf("the recorder ended %v after it was told to", took)
	}
	checkAccount(t, dir)

	got := rows(t, dir, `SELECT sum(count) AS n, count(*) AS stored, count(DISTINCT tid) AS threads, min(errno) AS low, max(errno) AS high
		FROM connections WHERE pid = ? AND remote_port = ?`, o.number("pid"), o.number("port"))[0]
	lost := readAccount(t, dir).lost
	t.Logf("%d refused at %.0f a second: %d rows for %d, %d lost", n, float64(n)/(float64(o.number("ns"))/1e9), got.int("stored"), got.int("n"), lost)
	if got.int("n")+lost != int64(n) {
		t.Errorf("the tape has %d and lost %d, want %d together", got.int("n"), lost, n)
	}
	match(t, "refused", got, want{"low": 111, "high": 111, "threads": 2})
	checkNothingInFlight(t, dir)
}

// checkNothingInFlight: the counters of the last run say what the kernel's map of running attempts held at the end.
func checkNothingInFlight(t *testing.T, dir string) {
	t.Helper()
	if n := number(t, dir, `SELECT count(*) FROM connections WHERE errno IS NULL AND via = 'connect' AND hook_errno IS NOT NULL`); n != 0 {
		t.Errorf("%d connects that returned have no errno", n)
	}
}

// TestFlood stops the recorder until the ring runs over: what did not fit is counted, in one gap.
func TestFlood(t *testing.T) {
	dir := tempDir(t)
	ring := 16 << 20
	if env.scale < 1 {
		ring = 1 << 20
	}
	tape := record(t, dir, "--ring", fmt.Sprint(ring))
	signal := func(s syscall.Signal) {
		if err := tape.cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	signal(syscall.SIGSTOP)
	n := int64(3 * ring / 128) // a record is larger than that
	o := mustRun(t, "flood", fmt.Sprint(n), "2")
	signal(syscall.SIGCONT)
	eventually(t, "the ring is drained", func() bool {
		a := readAccount(t, dir)
		return a.seen >= n && a.missing() == 0
	})
	after := mustRun(t, "flood", "1000", "1")
	tape.stop(t)

	a := readAccount(t, dir)
	flood := number(t, dir, `SELECT sum(count) FROM connections WHERE pid = ?`, o.number("pid"))
	t.Logf("%d connects: %d on the tape in %d rows, %d lost", n, flood,
		number(t, dir, `SELECT count(*) FROM connections WHERE pid = ?`, o.number("pid")), a.lost)
	if a.lost == 0 {
		t.Fatal("nothing was lost: the flood was too small for this test")
	}
	if flood+a.lost < n || flood+a.lost > n+50 { // others on this host may have lost some
		t.Errorf("on the tape %d + lost %d is not %d", flood, a.lost, n)
	}
	if got := number(t, dir, `SELECT sum(count) FROM connections WHERE pid = ?`, after.number("pid")); got != 1000 {
		t.Errorf("after the flood: %d of 1000 connects", got)
	}
	gaps := rows(t, dir, `SELECT * FROM gaps WHERE lost > 0`)
	if len(gaps) != 1 {
		t.Fatalf("one overflow, but %d gaps: %v", len(gaps), gaps)
	}
	match(t, "gap", gaps[0], want{"lost": a.lost, "from_ns": anything, "to_ns": test{says: "set", ok: func(v any) bool { return v != nil }}})
}

// TestShortLived: thousands of processes that live about a millisecond, each with its own program, argument and port.
func TestShortLived(t *testing.T) {
	dir, bin := tempDir(t), tempDir(t)
	var programs []string
	for i := range 7 {
		programs = append(programs, copyConnects(t, bin, fmt.Sprintf("program-%d", i)))
	}
	tape := record(t, dir)
	n := scaled(10_000, 200)
	o := mustRun(t, append([]string{"spawn", fmt.Sprint(n)}, programs...)...)
	if o.number("failed") != 0 {
		t.Fatalf("%d of %d lives failed", o.number("failed"), n)
	}
	tape.stop(t)

	all := rows(t, dir, `SELECT c.*, p.pid AS parent_pid, p.cmdline AS parent_cmdline FROM connections c
		LEFT JOIN processes p ON p.process_id = c.parent_id WHERE c.exe LIKE ? || '/program-%' ORDER BY c.time_ns`, escape.Bytes([]byte(bin)))
	if len(all) != n {
		t.Errorf("want %d rows, got %d", n, len(all))
	}
	seen, wrong, processes := map[string]bool{}, 0, map[int64]bool{}
	for _, r := range all {
		argv := strings.Fields(r.text("cmdline"))
		if len(argv) != 6 || seen[argv[5]] {
			t.Fatalf("command line %q is wrong or there twice", r.text("cmdline"))
		}
		seen[argv[5]] = true
		processes[r.int("process_id")] = true
		var life int
		fmt.Sscanf(argv[5], "life-%d", &life)
		program := programs[life%len(programs)]
		port := 1024 + life%60000
		good := match(t, argv[5], r, want{"exe": program, "comm": filepath.Base(program), "remote_port": port,
			"cmdline":    fmt.Sprintf("%s quick udp 127.0.0.1 %d life-%d", program, port, life),
			"parent_pid": o.number("pid"), "ppid": o.number("pid"), "parent_cmdline": has("connects"), "errno": 0})
		if !good {
			if wrong++; wrong > 5 {
				t.Fatal("and so on")
			}
		}
	}
	if len(processes) != len(all) {
		t.Errorf("%d lives are %d processes", len(all), len(processes))
	}
}

// TestRewrite: while a thread rewrites the address, the tape shows where each connect really went. A recorder that reads
// the caller's memory gets some percent wrong.
func TestRewrite(t *testing.T) {
	dir := tempDir(t)
	tape := record(t, dir)
	n := scaled(200_000, 2000)
	o := mustRun(t, "rewrite", fmt.Sprint(n))
	tape.stop(t)

	went := bytes.TrimSpace(o.rest)
	if len(went) != n {
		t.Fatalf("the program reported %d of %d", len(went), n)
	}
	turns := 0
	for i := 1; i < n; i++ {
		if went[i] != went[i-1] {
			turns++
		}
	}
	t.Logf("%d went to one address, %d to the other, in %d turns", bytes.Count(went, []byte("A")), bytes.Count(went, []byte("B")), turns)
	if lost := readAccount(t, dir).lost; lost != 0 {
		t.Fatalf("%d lost: rows cannot be told apart", lost)
	}
	all := rows(t, dir, `SELECT remote_address || ':' || remote_port AS peer, count, address_source FROM connections WHERE pid = ? ORDER BY time_ns`, o.number("pid"))
	i, wrong := 0, 0
	for _, r := range all {
		for range r.int("count") {
			if i < n && r.text("peer") != o.info[strings.ToLower(string(went[i]))] {
				wrong++
			}
			i++
		}
		if r.text("address_source") != "kernel" {
			t.Fatalf("an address comes from %s", r.text("address_source"))
		}
	}
	if i != n || wrong != 0 {
		t.Errorf("%d connects, %d on the tape, %d with another address than they went to", n, i, wrong)
	}
}

// TestBlocked5000: thousands that wait in connect at once are all there, while they wait and when they have returned.
func TestBlocked5000(t *testing.T) {
	dir := tempDir(t)
	tape := record(t, dir)
	var all []blocked
	for _, kind := range []string{"tcp", "unix"} {
		n := 5000
		if kind == "unix" || backendOf(t, dir) != "kprobe" { // a kretprobe has 4,096 instances: more than that must wait there
			n = scaled(n, 300)
		}
		all = append(all, runBlocked(t, dir, kind, n))
	}
	tape.stop(t)
	missed := missedProbes(t, dir)
	for _, b := range all {
		t.Run(b.kind, func(t *testing.T) { b.verify(t, dir, missed) })
	}
	if lost := readAccount(t, dir).lost; lost != missed {
		t.Errorf("%d lost, and the kernel left programs out %d times", lost, missed)
	}
}

// A blocked is a process of which n threads waited in connect.
type blocked struct {
	kind   string
	n, pid int
	errnos map[int]int64 // how many threads got which
}

// count counts the connects of its threads on the tape.
func (b blocked) count(t *testing.T, dir, where string) int64 {
	t.Helper()
	return number(t, dir, `SELECT count(*) FROM connections WHERE pid = ? AND tid <> pid AND `+where, b.pid)
}

// runBlocked has threads wait in connect until all are on the tape so, and then return.
func runBlocked(t *testing.T, dir, kind string, n int) blocked {
	cmd := exec.Command(env.connects, "blocked", kind, fmt.Sprint(n))
	cmd.Dir = tempDir(t)
	release, said := startWaiting(t, cmd)
	b := blocked{kind: kind, n: n, pid: cmd.Process.Pid}
	eventually(t, "every blocked connect is on the tape", func() bool { return b.count(t, dir, "errno IS NULL") >= int64(n) })
	if n > 4096 && env.kernel == [2]int{6, 12} {
		// The kretprobe sees no return of the recorder's own connects now, once a minute: it must not take the hooks for gone.
		own := counter(t, dir, "own")
		eventually(t, "the recorder looks for its hooks", func() bool { return counter(t, dir, "own") > own })
	}
	release()
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, said())
	}
	b.errnos = countByErrno(t, said())
	return b
}

func (b blocked) verify(t *testing.T, dir string, missed int64) {
	t.Logf("%d rows, %d distinct threads, %d without errno", b.count(t, dir, "true"),
		number(t, dir, `SELECT count(DISTINCT tid) FROM connections WHERE pid = ? AND tid <> pid`, b.pid), b.count(t, dir, "errno IS NULL"))
	if got := b.count(t, dir, "true"); got > int64(b.n) || got < int64(b.n)-missed {
		t.Errorf("want %d rows, got %d; the kernel left programs out %d times", b.n, got, missed)
	}
	returns := int64(counter(t, dir, "missed_return")) // those cost no row, but what connect returned
	for errno, want := range b.errnos {
		if got := b.count(t, dir, fmt.Sprintf("errno IN (%d, %d)", errno, inKernel(errno))); got > want || got < want-missed-returns {
			t.Errorf("want %d rows with errno %d, got %d; the kernel left programs out %d times, and at the return %d", want, errno, got, missed, returns)
		}
	}
}

// missedProbes is how often the kernel ran no program, as the tape says: it does not tell whose event was missed. Where its code can be
// preempted, and with thousands of threads at once, that may be more than never.
func missedProbes(t *testing.T, dir string) int64 {
	t.Helper()
	missed := int64(0)
	for _, g := range rows(t, dir, `SELECT * FROM gaps WHERE cause = 'missed probes' AND to_ns IS NOT NULL`) {
		missed += g.int("lost")
		t.Logf("programs left out: %v: %s", g["lost"], g.text("detail"))
	}
	return missed
}

// countByErrno reads what program connects says at its end: how many of its threads got which errno.
func countByErrno(t *testing.T, said string) map[int]int64 {
	t.Helper()
	counts := map[int]int64{}
	for line := range strings.Lines(said) {
		var end struct{ Info struct{ Errno, Count int64 } }
		if err := json.Unmarshal([]byte(line), &end); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if end.Info.Count > 0 {
			counts[int(end.Info.Errno)] = end.Info.Count
		}
	}
	if len(counts) == 0 {
		t.Fatalf("no counts in %q", said)
	}
	t.Logf("errno: %v", counts)
	return counts
}

// inKernel is the errno that the kernel has inside for one that a program gets.
func inKernel(errno int) int {
	if errno == int(unix.EINTR) {
		return 512 // ERESTARTSYS
	}
	return errno
}
