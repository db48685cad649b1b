package capture

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// touchedGap waits for a gap that says what was done to the recorder.
func touchedGap(t *testing.T, dir, what string) {
	t.Helper()
	eventually(t, "a gap says: "+what, func() bool {
		for _, gap := range rows(t, dir, `SELECT lost, detail FROM gaps WHERE cause = 'recorder touched'`) {
			if strings.Contains(gap.text("detail"), what) {
				return gap["lost"] == int64(0)
			}
		}
		return false
	})
}

// trace is a tracer of a process while it runs do: it lets every signal pass.
func trace(t *testing.T, pid int, do func()) {
	t.Helper()
	end, ended := make(chan struct{}), make(chan error)
	go func() {
		runtime.LockOSThread() // a tracer is a thread
		defer runtime.UnlockOSThread()
		ended <- func() error {
			if err := unix.PtraceSeize(pid); err != nil {
				return err
			}
			defer unix.PtraceDetach(pid)
			for {
				var status unix.WaitStatus
				switch at, err := unix.Wait4(pid, &status, unix.WALL|unix.WNOHANG, nil); {
				case err != nil:
					return err
				case at != 0 && status.Stopped():
					select {
					case <-end: // only a tracee that has stopped can be left
						return nil
					default:
					}
					if err := unix.PtraceCont(pid, int(status.StopSignal())); err != nil {
						return err
					}
				default:
					time.Sleep(10 * time.Millisecond)
				}
				select {
				case <-end:
					_ = unix.PtraceInterrupt(pid)
				default:
				}
			}
		}()
	}()
	do()
	close(end)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

// touchedGaps is how often the tape says what was done to the recorder.
func touchedGaps(t *testing.T, dir, what string) (n int) {
	for _, gap := range rows(t, dir, `SELECT detail FROM gaps WHERE cause = 'recorder touched'`) {
		if strings.Contains(gap.text("detail"), what) {
			n++
		}
	}
	return n
}

// attach traces a process by PTRACE_ATTACH, which stops it, and lets go of it.
func attach(t *testing.T, pid int) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.PtraceAttach(pid); err != nil {
		t.Fatal(err)
	}
	for { // who leaves it at another signal leaves it with SIGSTOP pending, which then stops it for good
		var status unix.WaitStatus
		if _, err := unix.Wait4(pid, &status, unix.WALL, nil); err != nil {
			t.Fatal(err)
		}
		if status.StopSignal() == unix.SIGSTOP {
			break
		}
		if err := unix.PtraceCont(pid, int(status.StopSignal())); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.PtraceDetach(pid); err != nil {
		t.Fatal(err)
	}
}

// lastThread is the thread of a process that was begun last.
func lastThread(t *testing.T, pid int) int {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	last := 0
	for _, path := range threads {
		n, err := strconv.Atoi(filepath.Base(path))
		if err != nil {
			t.Fatal(err)
		}
		last = max(last, n)
	}
	return last
}

// readMemory reads a few bytes of a process by process_vm_readv(2).
func readMemory(t *testing.T, pid int) {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	var at uintptr
	if _, err := fmt.Sscanf(string(maps), "%x-", &at); err != nil {
		t.Fatal(err)
	}
	into := make([]byte, 4)
	local := []unix.Iovec{{Base: &into[0]}}
	local[0].SetLen(len(into))
	if n, err := unix.ProcessVMReadv(pid, local, []unix.RemoteIovec{{Base: at, Len: len(into)}}, 0); err != nil || n != len(into) {
		t.Fatal(n, err)
	}
}

// TestTouched does to a recorder what somebody does who wants to stop or to change it.
func TestTouched(t *testing.T) {
	dir := tempDir(t)
	tape := record(t, dir)
	pid, self := tape.cmd.Process.Pid, fmt.Sprintf("by pid %d (", os.Getpid())
	backend := backendOf(t, dir)

	signal(t, tape, syscall.SIGSTOP)
	signal(t, tape, syscall.SIGCONT)
	touchedGap(t, dir, "SIGSTOP was sent to the recorder "+self)

	if backend != "cgroup" {
		memory, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
		if err != nil {
			t.Fatal(err)
		}
		memory.Close()
		touchedGap(t, dir, "the memory of the recorder was opened, or it was traced, "+self)
	}

	const memory, stop = "the memory of the recorder was opened, or it was traced, ", "SIGSTOP was sent to the recorder "
	for _, touch := range []struct {
		what, told string
		do         func()
	}{
		{"traced for a few milliseconds", memory, func() { trace(t, lastThread(t, pid), func() {}) }},
		{"read", memory, func() { readMemory(t, lastThread(t, pid)) }},
		{"attached to", stop, func() { attach(t, pid) }},
	} {
		before := touchedGaps(t, dir, touch.told+self)
		touch.do()
		eventually(t, "a gap says that it was "+touch.what, func() bool { return touchedGaps(t, dir, touch.told+self) > before })
	}

	trace(t, pid, func() { touchedGap(t, dir, fmt.Sprintf("the recorder is traced by pid %d (", os.Getpid())) })

	if err := os.Remove(filepath.Join(dir, "lock")); err != nil {
		t.Fatal(err)
	}
	touchedGap(t, dir, "the lock of the tape was removed or replaced")
	tape.end(t, syscall.SIGTERM)
	stopped := rows(t, dir, `SELECT detail FROM gaps WHERE cause = 'stopped'`)
	if len(stopped) != 1 || !strings.Contains(stopped[0].text("detail"), "told to stop by SIGTERM of pid "+strings.TrimPrefix(self, "by pid ")) {
		t.Errorf("the end says %v", stopped)
	}
}
