package recorder

import (
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

// A sleeping recorder has neither the free part of its heap in memory, nor all of its program.
func TestSleepGivesMemoryBack(t *testing.T) {
	r := &recorder{log: slog.New(slog.DiscardHandler)}
	used := make([]byte, 64<<20)
	for i := range used {
		used[i] = byte(i)
	}
	sum := used[len(used)/2]
	heap, program := resident(t)
	used = nil
	r.giveBack(1)
	lessHeap, lessProgram := resident(t)
	if heap-lessHeap < 56<<10 {
		t.Errorf("%d KiB of anonymous memory before, %d after (%d)", heap, lessHeap, sum)
	}
	if lessProgram >= program-program/8 {
		t.Errorf("%d KiB of files in memory before, %d after", program, lessProgram)
	}
	regexp.MustCompile("(a|b)+").MatchString("the program runs, and its pages are mapped again")
	_, before := resident(t)
	r.giveBack(freeEvery)
	if r.freed != 1 {
		t.Errorf("the heap was given back again after less than %d ns", freeEvery)
	}
	if _, after := resident(t); after >= before {
		t.Errorf("%d KiB of files in memory before the next sleep, %d in it", before, after)
	}
}

// resident returns the anonymous memory and the mapped files of this process that are in memory, in KiB.
func resident(t *testing.T) (anonymous, files int) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]*int{"RssAnon": &anonymous, "RssFile": &files} {
		if *to, err = strconv.Atoi(regexp.MustCompile(name + `:\s+(\d+) kB`).FindStringSubmatch(string(text))[1]); err != nil {
			t.Fatal(err)
		}
	}
	return anonymous, files
}

// Every thread has coarse timers, also one that was started later. As root: others lack CAP_SYS_NICE.
func TestTimersAreCoarse(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: setting the timer slack of other threads needs CAP_SYS_NICE")
	}
	if err := coarseTimers(); err != nil {
		t.Fatal(err)
	}
	ready, end := make(chan struct{}), make(chan struct{})
	defer close(end)
	for range 8 { // more than there are threads
		go func() {
			runtime.LockOSThread()
			ready <- struct{}{}
			<-end
		}()
		<-ready
	}
	slacks, err := filepath.Glob("/proc/self/task/*")
	if err != nil || len(slacks) < 8 {
		t.Fatal(slacks, err)
	}
	for _, thread := range slacks {
		if is, err := os.ReadFile(filepath.Join("/proc", filepath.Base(thread), "timerslack_ns")); err != nil || strings.TrimSpace(string(is)) != strconv.Itoa(timerSlack) {
			t.Errorf("thread %s: %s %v", filepath.Base(thread), is, err)
		}
	}
}
