package recorder

import (
	"cmp"
	"os"
	"time"

	"github.com/conntape/conntape/bpf"
	"github.com/conntape/conntape/recorder/hash"
	"github.com/conntape/conntape/store"
)

// hashes has the programs of processes that connect read, and gives the tape their digests. It belongs to the draining
// goroutine, which never waits for a file: the hasher has goroutines of its own. A nil one does nothing.
type hashes struct {
	hasher  *hash.Hasher
	files   *generations[fileKey, *store.File]
	asked   map[*store.File]struct{}               // that have a job
	looked  *generations[*store.Process, struct{}] // for the scripts of these
	news    []*store.File                          // for the next batch
	scripts []store.Script
}

// fileKey is what makes one file of several processes.
type fileKey struct {
	hash.Identity
	later bool
	none  hash.Source // why there is no file
}

const (
	fileCache = 4096
	// hashesEndWithin is how long the last batch waits for files that are being read. Whoever stops a service waits for it.
	hashesEndWithin = 300 * time.Millisecond
	// mostRoots bounds the processes by whose mount namespace a path is looked up.
	mostRoots = 8
)

func newHashes(o hash.Options, proc string) *hashes {
	o.Proc = cmp.Or(o.Proc, proc)
	return &hashes{hasher: hash.New(o), files: newGenerations[fileKey, *store.File](fileCache), asked: map[*store.File]struct{}{}, looked: newGenerations[*store.Process, struct{}](fileCache)}
}

// fileOf returns the file that a process executes, nil if the kernel has not said. Only at an exec is it the one that was
// executed: later, it may have been changed.
func (h *hashes) fileOf(rec *bpf.Process, source string) *store.File {
	if h == nil || rec.ExeIno == 0 || rec.ExeCtime == 0 {
		return nil
	}
	f := h.file(fileKey{Identity: hash.Identity{Device: rec.ExeDev, Inode: rec.ExeIno, Ctime: rec.ExeCtime, Size: rec.ExeSize}, later: source != store.SourceExec})
	f.FileSystem = rec.ExeFS
	return f
}

func (h *hashes) file(k fileKey) *store.File {
	f, ok := h.files.get(k)
	if !ok {
		f = &store.File{Device: k.Device, Inode: k.Inode, Ctime: k.Ctime, Size: k.Size, Later: k.later}
		h.files.put(k, f)
	}
	return f
}

// want has the program and the script of a process read, unless they were.
func (h *hashes) want(p *store.Process) {
	if h == nil || p.ExeFile == nil {
		return
	}
	f := p.ExeFile
	if _, asked := h.asked[f]; !asked && again(f.Digests()) {
		j := jobOf(p, p.Exe)
		j.Want, j.FS, j.Tag = &hash.Identity{Device: f.Device, Inode: f.Inode, Ctime: f.Ctime, Size: f.Size}, f.FileSystem, f
		if h.hasher.Add(j) {
			h.asked[f] = struct{}{}
		} else {
			h.tell(f, &store.Digests{Source: string(hash.Skipped)})
		}
	}
	if _, looked := h.looked.get(p); looked || p.Script == "" {
		return
	}
	h.looked.put(p, struct{}{})
	j := jobOf(p, p.Script)
	j.Script, j.Tag = true, p
	if !h.hasher.Add(j) {
		h.script(p, h.missing(hash.Skipped))
	}
}

// again tells whether another process may lead to a file that was not read.
func again(d *store.Digests) bool {
	if d == nil {
		return true
	}
	switch hash.Source(d.Source) {
	case hash.Skipped, hash.Gone, hash.Changed:
		return !d.Known
	}
	return false
}

// jobOf returns the job to read a file of a process.
func jobOf(p *store.Process, path string) hash.Job {
	j := hash.Job{PID: p.Key.Tgid, Path: path, Lane: uint64(p.LoginUID)}
	if p.LoginUID < 0 { // of a service or a container: nobody else makes its cgroup
		j.Lane = p.CgroupID | 1<<63
	}
	if p.Mounts == store.MountsHost {
		j.Roots = []uint32{1, uint32(os.Getpid())} // ours, where that of process 1 may not be looked into
	}
	for q := p; q != nil && q.MntNS == p.MntNS && len(j.Roots) < mostRoots; q = q.Parent {
		j.Roots = append(j.Roots, q.Key.Tgid)
	}
	return j
}

// collect takes the results that there are. It tells whether the tape waits for any.
func (h *hashes) collect() bool {
	if h == nil {
		return false
	}
	h.hasher.Results(func(r *hash.Result) {
		d := &store.Digests{Known: r.Known(), SHA256: r.Digests.SHA256, SHA1: r.Digests.SHA1, MD5: r.Digests.MD5, Source: string(r.Source)}
		switch to := r.Tag.(type) {
		case *store.File:
			delete(h.asked, to)
			if to.Later && r.Source == hash.Exec {
				d.Source = string(hash.Later)
			}
			h.tell(to, d)
		case *store.Process:
			if !r.Known() {
				h.script(to, h.missing(r.Source))
				return
			}
			f := h.file(fileKey{Identity: r.Found, later: true})
			if known := f.Digests(); known == nil || !known.Known {
				h.tell(f, d)
			}
			h.script(to, f)
		}
	})
	return len(h.news)+len(h.scripts) > 0
}

// missing returns what stands for files that were not read, for one reason.
func (h *hashes) missing(why hash.Source) *store.File {
	f := h.file(fileKey{none: why, later: true})
	if f.Digests() == nil {
		f.SetDigests(&store.Digests{Source: string(why)})
	}
	return f
}

func (h *hashes) script(p *store.Process, f *store.File) {
	h.scripts = append(h.scripts, store.Script{Process: p, File: f})
}

func (h *hashes) tell(f *store.File, d *store.Digests) {
	f.SetDigests(d)
	h.news = append(h.news, f)
}

// pending tells whether files are being read, or the tape waits for what was.
func (h *hashes) pending() bool {
	return h != nil && (h.collect() || h.hasher.Waiting() > 0)
}

// take returns what there is for a batch.
func (h *hashes) take() ([]*store.File, []store.Script) {
	if h == nil {
		return nil, nil
	}
	h.collect()
	files, scripts := h.news, h.scripts
	h.news, h.scripts = nil, nil
	return files, scripts
}

func (h *hashes) counts() hash.Counts {
	if h == nil {
		return hash.Counts{}
	}
	return h.hasher.Counts()
}

// finish waits for what is being read, and ends it.
func (h *hashes) finish(within time.Duration) {
	if h == nil {
		return
	}
	for until := time.Now().Add(within); h.hasher.Waiting() > 0 && time.Now().Before(until); {
		time.Sleep(5 * time.Millisecond)
	}
	h.hasher.Close()
	h.collect()
}
