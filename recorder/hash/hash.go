// Package hash computes the digests of programs: of the file that a process executes, and of the script that its
// interpreter runs. It reads each file once for all three digests, slowly, and keeps whoever asks from waiting.
//
// It knows files and /proc. It knows nothing of tapes, of BPF, or of what made a program interesting.
package hash

import (
	"cmp"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"sync"
	"sync/atomic"
	"time"
)

// Identity is a file as it was at a moment. A file that is written, replaced, renamed or given another owner has another one.
type Identity struct {
	Device uint32 // major << 20 | minor, as the kernel's dev_t
	Inode  uint64
	Ctime  uint64 // ns since the epoch
	Size   uint64 // bytes
}

// Source tells how a digest came about, or why there is none.
type Source string

// Sources. Exec and Later have digests, the others have none.
const (
	Exec       Source = "exec"       // the bytes are those of the file that was executed: its identity was the same before and after it was read
	Later      Source = "later"      // it was read as it was later; it may have been changed since the exec
	Changed    Source = "changed"    // there is another file now, or it was changed while it was read
	Gone       Source = "gone"       // neither the process nor the file was there any more
	Large      Source = "large"      // it is larger than Options.MaxSize
	Remote     Source = "remote"     // it is on a network file system or a FUSE one, which may never answer
	Unreadable Source = "unreadable" // it is no regular file, may not be read, or its file system does not answer
	Skipped    Source = "skipped"    // too many files waited already
)

// Digests are those of one file.
type Digests struct {
	SHA256 [sha256.Size]byte
	SHA1   [sha1.Size]byte
	MD5    [md5.Size]byte
}

// Job is a file to read.
type Job struct {
	PID    uint32    // of the process that executes it
	Roots  []uint32  // processes that had the same mount namespace, nearest first: Path is looked up where they are
	Path   string    // absolute, in that mount namespace; "" unknown
	Script bool      // the file is at Path alone: PID executes its interpreter
	Want   *Identity // of the file at the exec; nil unknown
	FS     uint32    // magic number of its file system, 0 unknown

	Lane uint64 // whose it is: jobs of one lane do not keep those of another from being done
	Tag  any    // of the caller
}

// Result is what became of a Job.
type Result struct {
	Job
	Source  Source
	Found   Identity // of the file that was read; zero: none was
	Digests Digests  // zero unless Source is Exec or Later
}

// Known tells whether the result has digests.
func (r *Result) Known() bool { return r.Source == Exec || r.Source == Later }

// Options bound the work. Zero values are the defaults.
type Options struct {
	BytesPerSecond int64         // read at the most
	MaxSize        int64         // bytes of a file
	Waiting        int           // jobs
	Patience       time.Duration // without progress, after which a file system is given up
	Proc           string        // /proc
}

// Defaults of Options.
const (
	DefaultBytesPerSecond = 16 << 20
	DefaultMaxSize        = 512 << 20
	DefaultWaiting        = 4096
	DefaultPatience       = 10 * time.Second
)

// Counts is what was done so far.
type Counts struct {
	Reads   uint64 // files read to the end, each time that one was
	Bytes   uint64 // read
	Skipped uint64 // jobs that were refused
	Failed  uint64 // jobs without digests for another reason
}

// Hasher reads files on goroutines of its own. Its methods never wait for them, but for Close.
type Hasher struct {
	o     Options
	quit  chan struct{}
	done  sync.WaitGroup
	stuck atomic.Int32 // goroutines in a system call that does not return
	never atomic.Int64 // the progress of work that has none before its end

	mu      sync.Mutex
	lanes   lanes
	known   known
	results []Result
	counts  Counts
}

// New starts a Hasher.
func New(o Options) *Hasher {
	o.BytesPerSecond = cmp.Or(o.BytesPerSecond, DefaultBytesPerSecond)
	o.MaxSize = cmp.Or(o.MaxSize, DefaultMaxSize)
	o.Waiting = cmp.Or(o.Waiting, DefaultWaiting)
	o.Patience = cmp.Or(o.Patience, DefaultPatience)
	o.Proc = cmp.Or(o.Proc, "/proc")
	h := &Hasher{o: o, lanes: newLanes(o.Waiting), quit: make(chan struct{})}
	h.done.Go(h.openAll)
	h.done.Go(h.readAll)
	return h
}

// Add gives a job. It returns false if too many wait; the job is counted as skipped then, and has no result.
func (h *Hasher) Add(j Job) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.lanes.add(j) {
		h.counts.Skipped++
		return false
	}
	return true
}

// Results calls fn for each result since the last call.
func (h *Hasher) Results(fn func(*Result)) {
	h.mu.Lock()
	results := h.results
	h.results = nil
	h.mu.Unlock()
	for i := range results {
		fn(&results[i])
	}
}

// Waiting returns the number of jobs that have no result yet.
func (h *Hasher) Waiting() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lanes.waiting
}

// Counts returns what was done so far.
func (h *Hasher) Counts() Counts {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.counts
}

// Close ends the work. Jobs that wait have no result.
func (h *Hasher) Close() {
	close(h.quit)
	h.done.Wait()
	for f, ok := h.lanes.nextOpen(); ok; f, ok = h.lanes.nextOpen() {
		f.close()
	}
}

// tell stores a result.
func (h *Hasher) tell(r Result) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lanes.finish()
	if r.Known() {
		h.known.put(r.Found, r.Digests)
	} else {
		h.counts.Failed++
	}
	h.results = append(h.results, r)
}

// wait returns false when the Hasher ends.
func (h *Hasher) wait(news chan struct{}) bool {
	select {
	case <-h.quit:
		return false
	case <-news:
		return true
	}
}

// openAll opens the files of jobs as they come, before those ahead are read: what runs only for a moment is gone then.
func (h *Hasher) openAll() {
	for h.wait(h.lanes.toOpen) {
		for {
			h.mu.Lock()
			j, ok := h.lanes.nextJob()
			h.mu.Unlock()
			if !ok || h.ended() {
				break
			}
			f, ok := guard(h, &h.never, func() openFile { return h.open(j) }, openFile.close)
			if !ok {
				f = openFile{source: Unreadable}
			}
			f.job = j
			if f.file == nil {
				h.drop(j)
				h.tell(Result{Job: j, Source: f.source, Found: f.found})
			} else if !h.tellKnown(f) {
				h.mu.Lock()
				h.lanes.addOpen(f)
				h.mu.Unlock()
			} else {
				h.drop(j)
			}
		}
	}
}

// drop notes that a job of a lane has no file to read.
func (h *Hasher) drop(j Job) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lanes.release(j.Lane)
}

// tellKnown gives the result of a file that was read before, and closes it.
func (h *Hasher) tellKnown(f openFile) bool {
	h.mu.Lock()
	d, ok := h.known.get(f.found)
	h.mu.Unlock()
	if ok {
		f.close()
		h.tell(Result{Job: f.job, Source: f.source, Found: f.found, Digests: d})
	}
	return ok
}

// readAll reads one open file after the other.
func (h *Hasher) readAll() {
	for h.wait(h.lanes.toRead) {
		for {
			h.mu.Lock()
			f, ok := h.lanes.nextOpen()
			h.mu.Unlock()
			if !ok || h.ended() {
				f.close()
				break
			}
			if h.tellKnown(f) {
				continue
			}
			progress := new(atomic.Int64)
			r, ok := guard(h, progress, func() Result { return h.read(f, progress) }, nil)
			if !ok {
				r = Result{Job: f.job, Source: Unreadable, Found: f.found}
			}
			h.tell(r)
		}
	}
}

func (h *Hasher) ended() bool {
	select {
	case <-h.quit:
		return true
	default:
		return false
	}
}

// mostStuck bounds the goroutines that are given up in a system call: each keeps a thread. With that many, no file is
// opened any more until one returns.
const mostStuck = 4

// guard does work that may hang, on a goroutine of its own, and gives it up when nothing has moved for Options.Patience.
// What it returns after that goes to late.
func guard[T any](h *Hasher, progress *atomic.Int64, work func() T, late func(T)) (result T, ok bool) {
	if h.stuck.Load() >= mostStuck {
		return result, false
	}
	done := make(chan T, 1)
	go func() { done <- work() }()
	timer := time.NewTimer(h.o.Patience)
	defer timer.Stop()
	for {
		before := progress.Load()
		select {
		case result = <-done:
			return result, true
		case <-timer.C:
		}
		if progress.Load() != before {
			timer.Reset(h.o.Patience)
			continue
		}
		h.stuck.Add(1)
		go func() {
			result := <-done
			h.stuck.Add(-1)
			if late != nil {
				late(result)
			}
		}()
		return result, false
	}
}
