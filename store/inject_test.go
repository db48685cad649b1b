package store

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/conntape/conntape/store/segment"
)

// injected are the system calls by which a tape changes, with how often about
// playTurn makes each.
var injected = []struct {
	name   string
	times  int
	sample []int
}{
	{"pwrite64", 600, []int{100, 60, 80, 17}}, {"fsync,fdatasync", 60, []int{20, 12, 16, 9}}, {"unlink,unlinkat", 30, []int{5, 9}},
	{"renameat,renameat2", 15, []int{1, 2}}, {"ftruncate", 20, []int{4}}, {"copy_file_range", 14, []int{1, 1}}, {"linkat", 7, []int{2}},
	{"fchmodat", 40, []int{9, 6}}, {"mkdirat", 4, []int{3}}, {"sync_file_range,fallocate", 1, nil},
}

// failures are an I/O error once and for good, a full disk, a file system that was
// remounted read-only, and an exhausted quota, which root has on XFS and over NFS.
var failures = []string{"EIO:when=%d", "EIO:when=%d+", "ENOSPC:when=%d+", "EROFS:when=%d+", "EDQUOT:when=%d+"}

// Every change of the tape fails in turn, once and from then on for good, with an
// I/O error and with a full disk. Recording goes on if it can. When the disk works
// again the tape opens clean, and has every batch that was acknowledged, once,
// without a hole. CONNTAPE_TEST_LONG tries each of the calls, else a few.
func TestEveryCallFails(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("needs strace")
	}
	aside := 0
	for _, call := range injected {
		t.Run(call.name, func(t *testing.T) {
			try := func(k int, how string) {
				aside += failAndRecover(t, strace, call.name, "error="+fmt.Sprintf(how, k))
			}
			for k := 1; k <= rounds(0, 0, call.times); k++ { // strace counts in each thread
				for _, how := range failures {
					try(k, how)
				}
			}
			for i, k := range call.sample[:min(len(call.sample), rounds(1, 9, 0))] {
				try(k, failures[i%len(failures)])
			}
		})
	}
	t.Logf("%d segments were set aside", aside)
}

// failAndRecover records with calls that fail, then without, and checks what there
// is. It returns how many segments were set aside.
func failAndRecover(t *testing.T, strace, calls, how string) (aside int) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tape")
	child := childCommand(t, "turn", dir, "16")
	cmd := exec.Command(strace, append([]string{"-f", "-qq", "-o", os.DevNull, "-e", "trace=" + calls,
		"-e", "inject=" + calls + ":" + how}, child.Args...)...)
	cmd.Env = child.Env
	var progress bytes.Buffer
	cmd.Stderr = &progress
	out, err := cmd.Output()
	if err != nil && !strings.Contains(string(out), "error: ") {
		t.Fatalf("%s %s: %v: %s %s", calls, how, err, out, progress.String())
	}
	first, last, ok := acknowledged(progress.String())
	if !ok {
		return 0
	}
	return recoverAndCheck(t, calls+" "+how, dir, first, last, !strings.Contains(how, "ENOSPC"))
}

// acknowledged reads what playTurn said was safe: the numbers of the first and the
// last connection; not ok when it said nothing.
func acknowledged(said string) (first, last uint64, ok bool) {
	for line := range strings.Lines(said) {
		var from, to uint64
		if _, err := fmt.Sscan(line, &from, &to); err == nil && strings.HasSuffix(line, "\n") {
			first, last, ok = from, to, true
		}
	}
	return first, last, ok
}

// recoverAndCheck starts a recorder on what one left that was stopped somehow, and
// checks what there is: all that was acknowledged, unless retention may have
// removed what is oldest, at most the one batch more that was open, and a gap. It
// returns how many segments were set aside.
func recoverAndCheck(t *testing.T, name, dir string, first, last uint64, whole bool) (aside int) {
	t.Helper()
	o := options(0)
	o.Now = Anchor{}
	w := mustOpenWriter(t, dir, o)
	waitSealed(t, w)
	if err := w.Close(Gap{}, nil); err != nil {
		t.Errorf("%s: %v", name, err)
	}
	tape := mustOpenTape(t, dir)
	defer tape.Close()
	if cov, err := tape.Coverage(); err != nil || len(cov.LeftOut) != 0 {
		t.Errorf("%s: %+v %v", name, cov.LeftOut, err)
	}
	for i, seg := range tape.segs {
		if got := rows(t, connOf(t, tape, i+1), "PRAGMA integrity_check"); len(got) != 1 || got[0] != "ok" {
			t.Errorf("%s: integrity of %s: %v", name, seg.Info.Path, got)
		}
		chainsOf(t, tape, i+1)
	}
	const query = "SELECT count(*) - count(DISTINCT cookie), sum(cookie BETWEEN ?1 AND ?2), coalesce(min(cookie), 0), coalesce(max(cookie), 0) FROM connections"
	var twice, there, from, to uint64
	fmt.Sscan(strings.ReplaceAll(one(t, tape.Conn(), query, int64(first), int64(last)), "|", " "), &twice, &there, &from, &to)
	kept := max(first, from)
	if twice != 0 || there != last-kept+1 || whole && from > first || to > last+turnBatch {
		t.Errorf("%s: %d twice, %d from %d to %d, acknowledged %d to %d", name, twice, there, from, to, first, last)
	}
	if got := one(t, tape.Conn(), "SELECT count(*) > 0 FROM gaps WHERE cause IN ('crash', 'stopped')"); got != "1" {
		t.Errorf("%s: no gap tells of the end", name)
	}
	return strings.Count(one(t, tape.Conn(), "SELECT coalesce(group_concat(cause), '') FROM gaps"), segment.CauseStorage)
}

// kill -9 while it records, closes, seals and removes segments, and while the next
// one recovers from that: nothing that was acknowledged is lost, and what is there
// can be read. 200 rounds with CONNTAPE_TEST_LONG.
func TestKillWhileRotating(t *testing.T) {
	sealedAtLast := 0
	for round := range rounds(4, 12, 200) {
		dir := filepath.Join(t.TempDir(), "tape")
		child := childCommand(t, "turn", dir, "400")
		var progress bytes.Buffer
		child.Stderr = &progress
		killAfter(t, child, 20+rand.IntN(1200))
		first, last, ok := acknowledged(progress.String())
		for range round % 3 { // killed while it recovers
			next := childCommand(t, "write", dir, "200")
			killAfter(t, next, rand.IntN(60))
		}
		if !ok {
			continue
		}
		whole := round%3 == 0
		if whole {
			recoverAndCheck(t, fmt.Sprint("round ", round), dir, first, last, false)
			continue
		}
		checkWhole(t, dir)
		sealedAtLast++
	}
	if sealedAtLast == 0 {
		t.Error("none of the rounds was one with a second recorder")
	}
}

// killAfter starts a command and kills it after so many milliseconds.
func killAfter(t *testing.T, cmd *exec.Cmd, ms int) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Duration(ms) * time.Millisecond)
	cmd.Process.Kill()
	cmd.Wait()
}
