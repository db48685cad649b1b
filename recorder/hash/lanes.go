package hash

import "slices"

// Bounds of the files that are open and wait to be read: a file that is open outlives its name and its process.
const (
	mostOpen     = 64
	mostLaneOpen = 16
)

// lanes are the jobs that wait, by whose they are. Each lane comes in turn; whoever has many fills his own.
type lanes struct {
	of      map[uint64]*lane
	turns   []uint64 // lanes that have something, the next one first
	most    int      // jobs
	queued  int      // jobs whose file is not open
	open    int      // files
	waiting int      // jobs without result

	toOpen, toRead chan struct{} // hold a token when there may be something to do
}

type lane struct {
	jobs []Job
	open []openFile
	held int // files that are open, or are being opened
}

func newLanes(most int) lanes {
	return lanes{of: map[uint64]*lane{}, most: most, toOpen: make(chan struct{}, 1), toRead: make(chan struct{}, 1)}
}

// add takes a job. A lane may have as many as there is room left for the others.
func (l *lanes) add(j Job) bool {
	in := l.of[j.Lane]
	if in == nil {
		in = &lane{}
	}
	if len(in.jobs) >= l.most-l.queued {
		return false
	}
	if l.of[j.Lane] == nil {
		l.of[j.Lane] = in
		l.turns = append(l.turns, j.Lane)
	}
	in.jobs = append(in.jobs, j)
	l.queued++
	l.waiting++
	wake(l.toOpen)
	return true
}

// nextJob takes the job of the lane whose turn it is, if one more file may be open.
func (l *lanes) nextJob() (j Job, ok bool) {
	if l.open >= mostOpen {
		return j, false
	}
	for i, id := range l.turns {
		in := l.of[id]
		if len(in.jobs) == 0 || in.held >= mostLaneOpen {
			continue
		}
		j, in.jobs = in.jobs[0], in.jobs[1:]
		in.held++
		l.open++
		l.queued--
		l.turns = append(slices.Delete(l.turns, i, i+1), id)
		return j, true
	}
	return j, false
}

// addOpen takes the open file of a job.
func (l *lanes) addOpen(f openFile) {
	in := l.of[f.job.Lane]
	in.open = append(in.open, f)
	wake(l.toRead)
}

// nextOpen takes an open file of the lane whose turn it is.
func (l *lanes) nextOpen() (f openFile, ok bool) {
	for i, id := range l.turns {
		in := l.of[id]
		if len(in.open) == 0 {
			continue
		}
		f, in.open = in.open[0], in.open[1:]
		l.turns = append(slices.Delete(l.turns, i, i+1), id)
		l.release(id)
		return f, true
	}
	return f, false
}

// release gives back the place of a file that is not open any more, or never was.
func (l *lanes) release(id uint64) {
	in := l.of[id]
	in.held--
	l.open--
	if in.held == 0 && len(in.jobs) == 0 {
		delete(l.of, id)
		l.turns = slices.DeleteFunc(l.turns, func(other uint64) bool { return other == id })
	}
	wake(l.toOpen)
}

// finish counts a job that has its result.
func (l *lanes) finish() { l.waiting-- }

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// mostKnown is how many files the digests are remembered of.
const mostKnown = 1024

// known remembers the digests of files that were read, in two generations: when the young one is full, the old one goes.
type known struct{ young, old map[Identity]Digests }

func (k *known) get(id Identity) (Digests, bool) {
	d, ok := k.young[id]
	if ok {
		return d, true
	}
	if d, ok = k.old[id]; ok {
		k.put(id, d)
	}
	return d, ok
}

func (k *known) put(id Identity, d Digests) {
	if k.young == nil || len(k.young) >= mostKnown/2 {
		k.old, k.young = k.young, map[Identity]Digests{}
	}
	k.young[id] = d
}
