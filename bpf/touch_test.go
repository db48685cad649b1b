package bpf

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// readsThread is the variable that has this test binary read memory of a thread of another process.
const readsThread = "CONNTAPE_TEST_READS_THREAD"

// TestThreadIsTouched: who reads the recorder's memory is noticed by whichever of its threads he names, at whatever turn the walk over
// them comes to it that looks at some at once; who reads that of another process is not.
func TestThreadIsTouched(t *testing.T) {
	if tid := os.Getenv(readsThread); tid != "" {
		readThread(t, tid)
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: loading programs takes root")
	}
	for _, backend := range Backends() {
		t.Run(string(backend), func(t *testing.T) {
			c, err := Open(Options{Backend: backend})
			attachedOrSkip(t, err)
			defer c.Close()
			if err := c.Snapshot(func(*Process) {}); err != nil {
				t.Fatal(err)
			}
			end := make(chan struct{})
			defer close(end)
			tids := []int{os.Getpid()}
			for range 50 {
				begun := make(chan int)
				go func() {
					runtime.LockOSThread()
					begun <- unix.Gettid()
					<-end
				}()
				tids = append(tids, <-begun)
			}
			other := exec.Command("/bin/sleep", "60")
			if err := other.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { other.Process.Kill(); other.Wait() }()
			touchedBy := func(tid int) (n uint64) {
				t.Helper()
				cmd := exec.Command(os.Args[0], "-test.run=^TestThreadIsTouched$")
				cmd.Env = append(os.Environ(), readsThread+"="+strconv.Itoa(tid))
				if text, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, text)
				}
				touches, err := c.Touched()
				if err != nil {
					t.Fatal(err)
				}
				for _, touch := range touches {
					n += touch.Count
				}
				return n
			}
			for i, tid := range tids {
				if i%5 == 0 && touchedBy(tid) != 1 {
					t.Errorf("thread %d of %d is not the recorder's", i, len(tids))
				}
			}
			if n := touchedBy(other.Process.Pid); n != 0 {
				t.Errorf("another process is the recorder's: %d", n)
			}
		})
	}
}

// readThread reads a few bytes of a process, named by one of its threads.
func readThread(t *testing.T, tid string) {
	pid, err := strconv.Atoi(tid)
	if err != nil {
		t.Fatal(err)
	}
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	var at uintptr
	if _, err := fmt.Sscanf(string(maps), "%x-", &at); err != nil {
		t.Fatal(err)
	}
	into := make([]byte, 4)
	local := []unix.Iovec{{Base: &into[0], Len: 4}}
	if n, err := unix.ProcessVMReadv(pid, local, []unix.RemoteIovec{{Base: at, Len: 4}}, 0); n != 4 {
		t.Fatal(n, err)
	}
}
