package recorder

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/bpf"
	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/store/segment"
)

// touches is what the recorder has noticed of what is done to itself.
type touches struct {
	stopped string // who asked it to stop, "" nobody
	moved   bool   // its directory or lock is not in its place, which was told
	tracer  string // who traces it, which was told
}

// lookAtTouches tells of what the hooks have seen somebody do to this process since the last look.
func (r *recorder) lookAtTouches(now uint64) {
	list, err := r.src.Touched()
	if err != nil {
		r.log.Warn("recorder not watched", "error", err)
		return
	}
	for i := range list {
		t := &list[i]
		by := toucher(t)
		switch {
		case t.Signal == unix.SIGTERM || t.Signal == unix.SIGINT: // as it is stopped every day
			r.touches.stopped = fmt.Sprintf(" by %s of %s", unix.SignalName(t.Signal), by)
		case t.Signal != 0:
			r.touched(t.Last, now, fmt.Sprintf("%s was sent to the recorder by %s", unix.SignalName(t.Signal), by))
		default:
			r.touched(t.Last, now, fmt.Sprintf("the memory of the recorder was opened, or it was traced, by %s", by))
		}
	}
}

// toucher names who touched.
func toucher(t *bpf.Touch) string {
	if t.Kernel {
		return "the kernel (a terminal, or no memory was left)"
	}
	by := fmt.Sprintf("pid %d (%s), uid %d", t.Tgid, t.Comm, t.UID)
	if t.Count > 1 {
		by = fmt.Sprintf("%s, the last of %d times", by, t.Count)
	}
	return by
}

// lookAround looks for what no hook tells: a tracer, and another directory or lock in the place of ours. Each is told once.
func (r *recorder) lookAround(now uint64) {
	tracer := r.proc.tracer()
	if tracer != "" && tracer != r.touches.tracer {
		r.touched(r.watch.proven, now, "the recorder is traced by "+tracer)
	}
	r.touches.tracer = tracer
	err := r.sink.CheckPlace()
	if err != nil && !r.touches.moved {
		r.touched(r.watch.proven, now, err.Error())
	}
	r.touches.moved = err != nil
}

// touched notes that somebody did something to the recorder between two times. No connect was lost by that alone; what
// the tape says from then on is as true as he wants it.
func (r *recorder) touched(from, now uint64, detail string) {
	r.log.Error("somebody is at the recorder", "detail", detail)
	r.ledger.gaps.tell(store.Gap{From: min(from, now-1), To: now, Cause: segment.CauseTouched, Detail: detail})
}

// tracer returns who traces one of our threads, as "pid 7 (NAME)", and "" if nobody does. It looks at each thread, since one
// can be traced alone.
func (p procfs) tracer() string {
	all, err := filepath.Glob(filepath.Join(p.root, "self/task/*/status"))
	if err != nil {
		return ""
	}
	for _, path := range all {
		thread := statusField(path, "TracerPid:") // a thread of the tracer
		if thread == "" || thread == "0" {
			continue
		}
		about := filepath.Join(p.root, thread, "status")
		return fmt.Sprintf("pid %s (%s)", cmp.Or(statusField(about, "Tgid:"), thread), statusField(about, "Name:"))
	}
	return ""
}

// statusField returns a field of a proc_pid_status(5), "" if there is none.
func statusField(path, name string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
