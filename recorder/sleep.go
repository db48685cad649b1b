package recorder

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// pollUntil returns when to look into the ring again at the latest.
func (r *recorder) pollUntil(now uint64) (time.Time, error) {
	before := r.drowsy
	r.drowsy = r.maySleep(now)
	if r.drowsy {
		if err := r.src.Sleep(); err != nil {
			return time.Time{}, err
		}
		r.nextTick = now
		// An attempt that began at that moment may have woken nobody: it shows at the next poll, so that must come first.
		if before {
			r.giveBack(now)
			return time.Now().Add(time.Duration(r.pushed + uint64(r.config.heartbeat) - now)), nil
		}
	}
	wait := pollActive
	if r.received+idleAfter < now {
		wait = pollIdle
	}
	if r.opened != 0 {
		soon := time.Millisecond
		if !r.queue.idle() { // what is due has to wait for the writer
			soon = pollBusy
		}
		due := time.Duration(r.opened+uint64(r.config.batchAge)) - time.Duration(now)
		wait = min(wait, max(due, soon))
	}
	return time.Now().Add(min(wait, r.config.tick, r.config.batchAge)), nil
}

// maySleep tells whether nothing will be due before the next heartbeat unless an attempt begins.
func (r *recorder) maySleep(now uint64) bool {
	k := r.ledger.kernel
	return now >= r.received+uint64(r.config.sleepAfter) && now < r.pushed+uint64(r.config.heartbeat) &&
		k.Seen == k.Sent+k.LostRing && len(r.flight.written) == 0 && !r.fates.waits() && len(r.watch.out) == 0 && r.relearnAlive == 0 &&
		len(r.queue.open.Connections)+len(r.queue.open.Endings)+len(r.queue.open.Namings)+len(r.lookups.hellos.waiting)+len(r.queue.open.Sockets)+len(r.inbound.fresh)+len(r.lookups.folds.fresh)+len(r.lookups.waiting) == 0 && !r.ledger.gaps.pending() && !r.anchors.pending() && !r.table.hashes.pending()
}

// timerSlack is how late the kernel may fire a timer of the recorder, in nanoseconds. The runtime's monitor sleeps for 20 µs at a time
// while any goroutine runs or waits in a system call, each fsync included: nine tenths of the wakeups of a recorder with little to do.
// With slack it sleeps until there is an interrupt anyway. Nothing here needs a timer of less than a millisecond.
const timerSlack = 1_000_000

// coarseTimers sets the slack of all threads of this process; those that they start later inherit it. Other threads than the caller's
// need CAP_SYS_NICE (timerslack_ns_write, fs/proc/base.c): the unit, which does not have it, sets TimerSlackNSec, which execve keeps.
func coarseTimers() error {
	if is, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0); err == nil && is == timerSlack {
		return nil
	}
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, thread := range threads {
		name := filepath.Join("/proc", thread.Name(), "timerslack_ns")
		err := os.WriteFile(name, []byte(strconv.Itoa(timerSlack)), 0)
		if err != nil && !errors.Is(err, os.ErrNotExist) { // a thread that has ended
			return err
		}
	}
	return nil
}

// freeEvery is how often a recorder that sleeps gives back the free part of its heap, which costs a garbage collection of half a
// megabyte. Otherwise 6 MB of garbage gather in ten minutes.
const freeEvery = uint64(time.Minute)

// giveBack returns to the kernel the memory that a sleeping recorder does not need: the pages of the program, each time that it falls
// asleep, and now and then free pages of the heap. The program's pages stay in the page cache, and the next heartbeat maps those again that
// it runs. Until then a recorder that does nothing holds a quarter less.
func (r *recorder) giveBack(now uint64) {
	if r.freed == 0 || now >= r.freed+freeEvery {
		r.freed = now
		debug.FreeOSMemory()
	}
	if err := r.program.drop(); err != nil {
		r.log.Debug("pages of the program not given back", "error", err)
	}
}

// programPages are the parts of this process that are the program's and cannot be written; nil before they are looked up.
type programPages []struct{ from, to uintptr }

// drop takes them out of this process.
func (p *programPages) drop() error {
	if *p == nil {
		if err := p.find(); err != nil {
			return err
		}
	}
	for _, part := range *p {
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, part.from, part.to-part.from, unix.MADV_DONTNEED); errno != 0 {
			return errno
		}
	}
	return nil
}

func (p *programPages) find() error {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return err
	}
	defer maps.Close()
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		var from, to uintptr
		var mode string
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &mode); err != nil {
			return err
		}
		if strings.HasSuffix(lines.Text(), " "+self) && !strings.Contains(mode, "w") {
			*p = append(*p, struct{ from, to uintptr }{from, to})
		}
	}
	return lines.Err()
}
