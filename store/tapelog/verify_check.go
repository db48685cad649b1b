package tapelog

import (
	"crypto/ed25519"
	"slices"
	"time"
)

// checkTime checks the only clock that nobody can set. Realtime and the time asleep prove nothing.
func (v *verifier) checkTime(part string, l *Leaf) {
	awake := int64(l.Boot) - int64(l.Suspended)
	if l.Kind == KindStart {
		v.running, v.lastBoot = true, -1
	}
	if v.running && v.lastBoot >= 0 {
		switch {
		case int64(l.Boot) < v.lastBoot:
			v.find(l.Seq, part, v.since(), "leaf %d is older than the one before it", l.Seq)
		case awake-v.awake > int64(silence) && l.Kind != KindGap:
			v.find(l.Seq, part, v.since(), "nothing was written to the log for %v while the host was awake: the recorder was stopped from outside, or could not write",
				time.Duration(awake-v.awake).Round(time.Second))
		}
	}
	v.lastBoot, v.awake = int64(l.Boot), awake
	if l.Kind == KindStop {
		v.running = false
	}
}

// checkHead compares the tree with the given head, at the head's size.
func (v *verifier) checkHead(part string) {
	v.checkMarks()
	if v.o.Head == nil || v.origin != v.head.Origin || v.tree.size != v.head.Size {
		return
	}
	root, err := v.tree.root()
	if err != nil || root != v.head.Root {
		v.find(v.tree.size-1, part, time.Time{}, "the first %d leaves are not those that the kept head was made of: history was rewritten", v.head.Size)
		return
	}
	v.result.HeadMatched = true
	if v.lastSig != nil && !ed25519.Verify(v.lastKey[:], []byte(v.head.String()), v.headSig) {
		v.find(v.tree.size-1, part, time.Time{}, "the kept head has the right hash but not the right signature: the file that it was read from was altered")
	}
}

// jobsAtOnce is the number of signatures per goroutine.
const jobsAtOnce = 256

// submit passes a signature to another goroutine.
func (v *verifier) submit(j job) {
	v.jobs = append(v.jobs, j)
	if len(v.jobs) >= jobsAtOnce {
		v.flushJobs()
	}
}

func (v *verifier) flushJobs() {
	jobs := v.jobs
	v.jobs = nil
	if len(jobs) == 0 {
		return
	}
	v.limit <- struct{}{}
	v.work.Go(func() {
		defer func() { <-v.limit }()
		for _, j := range jobs {
			if v.moot(j) {
				return
			}
			if ed25519.Verify(j.key[:], []byte(j.text), j.signature) {
				continue
			}
			v.mu.Lock()
			v.bad = append(v.bad, badSignature{j.seq, j.part, j.since})
			v.mu.Unlock()
			return // the later ones depend on it
		}
	})
}

// moot reports whether an earlier leaf of the same part has a wrong signature.
func (v *verifier) moot(j job) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.ContainsFunc(v.bad, func(b badSignature) bool { return b.part == j.part && b.seq < j.seq })
}

// finish waits for the signatures and completes the result.
func (v *verifier) finish() {
	v.flushJobs()
	v.work.Wait()
	slices.SortFunc(v.bad, func(a, b badSignature) int { return int(a.seq - b.seq) })
	reported := map[string]bool{}
	for i, b := range v.bad {
		if i == 0 {
			v.result.Proven = min(v.result.Proven, b.seq)
		}
		if reported[b.part] { // after a wrong leaf the tree is wrong up to the next part
			continue
		}
		reported[b.part] = true
		v.find(b.seq, b.part, b.since, "leaf %d is not signed by the key that the leaf before it names: it was altered, or a leaf before it", b.seq)
	}
	r := &v.result
	r.Origin, r.Last = v.origin, v.last
	if v.lastSig != nil && !v.lost {
		if root, err := v.tree.root(); err == nil {
			r.Head, _ = formatHead(Checkpoint{v.origin, v.tree.size, root}, v.lastKey, v.lastSig)
		}
	}
	v.comparePruned()
	v.compareKey()
	v.compareHead()
	v.compareMarks()
}

// comparePruned checks that the missing leaves were announced as pruned.
func (v *verifier) comparePruned() {
	now := v.o.Now
	if now.IsZero() {
		now = time.Now()
	}
	for _, g := range v.gone {
		if age := now.Sub(g.since); age >= 0 && age < pruneAge {
			v.find(g.from, g.part, g.since, "leaves %d to %d are missing, and are younger than what is ever removed", g.from, g.to)
			continue
		}
		if slices.ContainsFunc(v.pruned, func(p span) bool { return p.from <= g.from && g.to <= p.to }) {
			v.result.Pruned += g.to - g.from + 1
			continue
		}
		v.find(g.from, g.part, g.since, "leaves %d to %d are missing", g.from, g.to)
	}
}

func (v *verifier) compareKey() {
	if v.o.Key == "" {
		return
	}
	switch {
	case v.result.First == v.o.Key:
		v.result.KeyMatched = true
	default:
		v.find(0, "", time.Time{}, "the log does not begin with the key that was given: it is another log, or was made anew from its first leaf on")
	}
}

func (v *verifier) compareHead() {
	r := &v.result
	switch {
	case v.o.Head == nil || r.HeadMatched:
	case v.origin != v.head.Origin:
		v.find(-1, "", time.Time{}, "the kept head is of %s, and this log is %s", v.head.Origin, v.origin)
	case v.head.Size > v.tree.size && !v.lost:
		v.find(v.tree.size, "", v.since(), "the log ends with leaf %d, and the kept head has %d leaves: the end was cut off, or the tape rolled back", v.tree.size-1, v.head.Size)
	case slices.ContainsFunc(v.gone, func(g span) bool { return g.from < v.head.Size && v.head.Size <= g.to+1 }):
		v.find(-1, "", time.Time{}, "the kept head of %d leaves lies in what retention has removed from the log: it proves nothing any more, and a newer one would", v.head.Size)
	case len(r.Findings) == 0:
		v.find(-1, "", time.Time{}, "the log does not reach the kept head of %d leaves", v.head.Size)
	}
}
