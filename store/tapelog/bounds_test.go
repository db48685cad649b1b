package tapelog

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// within runs do, and fails if it takes more of the processors or of memory. Other tests may have the processors longer than any clock allows.
func within(t *testing.T, most time.Duration, mostBytes uint64, do func()) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	begun := usage(t)
	do()
	took := usage(t) - begun
	runtime.ReadMemStats(&after)
	bytes := after.TotalAlloc - before.TotalAlloc
	if took > most || bytes > mostBytes {
		t.Errorf("more than %v or %d MB", most, mostBytes>>20)
	}
	t.Logf("%v of the processors, %d MB of memory", took, bytes>>20)
}

// usage returns the time that the processors have given to this process.
func usage(t *testing.T) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// A process that can write to the log may make it very large. Open notices at once, and recording continues in a new
// part.
func TestNULsBehindTheLog(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	k := writeLog(t, dir, 20, 100)
	if err := os.Truncate(filepath.Join(dir, partName(1)), 8<<30); err != nil {
		t.Skip(err) // a file system without holes, or with smaller files
	}
	within(t, 2*time.Second, 32<<20, func() {
		r := mustVerify(t, dir, VerifyOptions{Key: k.key})
		if !strings.Contains(found(r), "from here on the file is no log") || r.Proven != 20 {
			t.Errorf("%+v", r)
		}
		if _, leaf, err := Head(dir); err != nil || leaf.Seq != 19 {
			t.Errorf("head: leaf %d, %v", leaf.Seq, err)
		}
		l, err := Open(dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Append(Leaf{Kind: KindCheckpoint, Boot: 21 * tick, Real: epoch}); err != nil {
			t.Error(err)
		}
		l.Close()
	})
	r := mustVerify(t, dir, VerifyOptions{Key: k.key})
	if r.Leaves != 21 || len(r.Findings) != 1 {
		t.Errorf("gone on: %d leaves, %+v", r.Leaves, r.Findings)
	}
}

func TestJunkBehindTheLog(t *testing.T) {
	for name, n := range map[string]int{"unsigned leaves": 1_500_000, "lines": 3_000_000} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "log")
			k := writeLog(t, dir, 20, 100)
			f, err := os.OpenFile(filepath.Join(dir, partName(1)), os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			out := bufio.NewWriter(f)
			leaf := Leaf{Kind: KindCheckpoint, Boot: 21 * tick, Real: epoch}
			signature := make([]byte, 64)
			for i := range n {
				if name == "lines" {
					fmt.Fprintln(out, i)
					continue
				}
				leaf.Seq = int64(20 + i)
				out.Write(formatEntry(leaf.String(), signature))
			}
			if err := out.Flush(); err != nil {
				t.Fatal(err)
			}
			f.Close()
			within(t, 20*time.Second, 2<<30, func() {
				r := mustVerify(t, dir, VerifyOptions{Key: k.key})
				if r.Proven != 20 || len(r.Findings) == 0 {
					t.Errorf("%+v", r)
				}
				if r.Leaves > mostLeaves {
					t.Errorf("%d leaves were read", r.Leaves)
				}
			})
		})
	}
}
