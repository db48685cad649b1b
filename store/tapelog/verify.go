package tapelog

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"
	"time"
)

// silence is how long the log may be without a leaf while the host is awake and a
// recorder runs, which writes one every 10 s: the disk may be slow.
const silence = time.Minute

// VerifyOptions are what the one who verifies knows from elsewhere.
type VerifyOptions struct {
	Key  string // the first verifier key, as it was printed; "" unknown
	Head []byte // a signed checkpoint that was kept; nil none

	Witnesses []string // verifier keys of witnesses, each of which must have cosigned the log

	// Leaf is called with each leaf in order, before it is known whether its
	// signature is good: Result.Proven tells afterwards. What pruning left of a part
	// is no news, and left out. May be nil.
	Leaf func(Leaf) error
	Now  time.Time // zero: now; for tests

	// Progress is called now and then with how many bytes were read. May be nil.
	Progress func(bytes int64)
}

// Finding is one thing that is wrong with a log.
type Finding struct {
	Leaf    int64     // number of the first leaf that is not as it was written; -1 none in particular
	Part    string    // file name, "" none in particular
	Since   time.Time // what was recorded until then is not touched by it; zero: nothing is sure
	Problem string
}

// Result is what Verify found out.
type Result struct {
	Origin string
	First  string // verifier key of the first leaf, as the log itself has it
	Leaves int64
	Last   Leaf   // the last leaf
	Head   []byte // signed checkpoint of the last leaf, nil when there is none
	Bytes  int64

	// Proven is the number of leaves, from the first on, that are signed each by
	// the key that the one before names.
	Proven int64
	// KeyMatched: the first of them is signed by the key that was given.
	// HeadMatched: the log is an extension of the head that was given.
	KeyMatched, HeadMatched bool
	HeadSize                int64

	Cosigned []Cosigned // by the witnesses that were named, and this is the log that they saw

	Pruned   int64 // leaves that retention removed from the log, with a leaf that says so
	Torn     bool  // the last line is cut short: a recorder was killed, or is writing
	Findings []Finding
}

// ErrNoLog is returned when there is no log in the directory.
var ErrNoLog = errors.New("no log here")

// Verify reads a log and checks every hash and signature in it. The error says
// that the log could not be read; what is wrong with it is in Result.Findings.
// A recorder may append to it meanwhile.
func Verify(dir string, o VerifyOptions) (*Result, error) {
	return verify(&directory{path: dir}, o)
}

func verify(fsys files, o VerifyOptions) (*Result, error) {
	defer fsys.close()
	v := &verifier{files: fsys, o: o, limit: make(chan struct{}, runtime.GOMAXPROCS(0)), lastBoot: -1}
	if err := v.prepare(); err != nil {
		return nil, err
	}
	numbers, err := v.list()
	if err != nil {
		return nil, err
	}
	if err := v.readMarks(); err != nil {
		return nil, err
	}
	for i, n := range numbers {
		if err := v.part(n, i == len(numbers)-1); err != nil {
			v.work.Wait()
			return nil, err
		}
	}
	if err := v.handOut(); err != nil {
		return nil, err
	}
	v.finish()
	return &v.result, nil
}

// verifier goes through a log from its first leaf to its last.
type verifier struct {
	files   files
	o       VerifyOptions
	head    Checkpoint // of o.Head
	headSig []byte
	key     [ed25519.PublicKeySize]byte // of o.Key
	keyOf   string                      // its origin
	marks   []*mark                     // what witnesses cosigned
	nexts   map[int]*partHeader         // headers of all parts, by number
	numbers []int

	tree   *tree // nil before the first part
	origin string
	next   [ed25519.PublicKeySize]byte // signs the next leaf
	signer Hash                        // signs the header of the next part; zero: unknown
	lost   bool                        // a leaf is missing or damaged: up to the next header nothing can be checked
	linked bool                        // every leaf so far hangs on the first one

	last     Leaf // the leaf before
	lastKey  [ed25519.PublicKeySize]byte
	lastSig  []byte
	lastBoot int64 // of that leaf, -1 none
	awake    int64 // awake time of that leaf, ns
	running  bool  // between start and stop

	first *Leaf // of the part, not handed out yet: it may be all that is left of it

	gone   []span // leaves that are not there, from a part to the next, which is signed
	pruned []span // leaves that the log says were removed

	jobs  []job
	work  sync.WaitGroup
	limit chan struct{}
	mu    sync.Mutex
	bad   []badSignature

	result Result
}

// span is a range of leaves.
type span struct {
	from, to int64
	part     string
	since    time.Time
}

type job struct {
	seq       int64
	text      string
	key       [ed25519.PublicKeySize]byte
	signature []byte
	part      string
	since     time.Time
}

type badSignature struct {
	seq   int64
	part  string
	since time.Time
}

func (v *verifier) prepare() error {
	if v.o.Key != "" {
		var err error
		if v.keyOf, v.key, err = ParseKey(v.o.Key); err != nil {
			return err
		}
	}
	if v.o.Head != nil {
		var err error
		if v.head, v.headSig, err = ParseHead(v.o.Head); err != nil {
			return err
		}
		v.result.HeadSize = v.head.Size
	}
	return nil
}

func (v *verifier) find(leaf int64, part string, since time.Time, format string, args ...any) {
	v.result.Findings = append(v.result.Findings, Finding{Leaf: leaf, Part: part, Since: since, Problem: fmt.Sprintf(format, args...)})
}

// since is the time of the last leaf that was read.
func (v *verifier) since() time.Time {
	if v.last.Real == 0 {
		return time.Time{}
	}
	return time.Unix(0, v.last.Real).UTC()
}

// part goes through one part.
func (v *verifier) part(n int, last bool) error {
	name := partName(n)
	f, err := v.files.read(name)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer f.Close()
	p, err := readPart(&sequential{f: f})
	if err != nil {
		return fmt.Errorf("read part %s: %w", name, err)
	}
	v.enter(name, p.header)
	if err := v.handOut(); err != nil {
		return err
	}
	begins := true
	end := int64(-1) // where the next part takes over
	if i := slices.Index(v.numbers, n); i+1 < len(v.numbers) {
		if next := v.nexts[v.numbers[i+1]]; next.origin == v.origin {
			end = next.tree.size
		}
	}
	damaged := 0 // lines that were not understood, reported when a leaf follows
	before := v.result.Bytes
	for {
		e, err := p.next()
		if errors.Is(err, io.EOF) {
			break
		}
		v.result.Bytes = before + p.at
		if errors.Is(err, errLine) {
			damaged++
			continue
		}
		if errors.Is(err, errJunk) {
			v.lose(name, "from here on the file is no log: its lines are longer, or more, than a recorder writes")
			continue
		}
		if err != nil {
			return err
		}
		if end >= 0 && e.leaf.Seq >= end && !v.lost {
			if e.leaf.Seq > end {
				v.find(e.leaf.Seq, name, v.since(), "leaf %d is followed by a part that begins before it", e.leaf.Seq)
			}
			continue // written again in the next part, since here it failed
		}
		if damaged > 0 {
			v.lose(name, "a line of the log is damaged, and what follows cannot be proven")
			damaged = 0
		}
		if err := v.leaf(name, &e, begins); err != nil {
			return err
		}
		begins = false
	}
	if damaged > 0 {
		switch {
		case last && damaged == 1:
			v.result.Torn = true
		case end >= 0 && v.tree.size == end: // a write that failed, and was done again in the next part
		default:
			v.lose(name, "a line of the log is damaged, and what follows cannot be proven")
		}
	}
	if v.o.Progress != nil {
		v.o.Progress(v.result.Bytes)
	}
	return nil
}

// lose reports that the next leaf is not there as it was written. Until the next
// part says where in the tree it is, nothing more can be checked.
func (v *verifier) lose(part, problem string) {
	if v.lost {
		return
	}
	v.find(v.tree.size, part, v.since(), "%s", problem)
	v.lost = true
	v.linked = false
}

// enter compares the header of a part with where the log has come to.
func (v *verifier) enter(name string, h *partHeader) {
	switch {
	case v.tree == nil:
		v.linked = h.tree.size == 0
		if v.linked && !h.signedBy(Hash{}) {
			v.find(0, name, time.Time{}, "the beginning of the log was altered")
		}
		v.result.First = verifierKey(h.origin, h.key)
		if !v.linked {
			v.find(0, name, time.Time{}, "the log begins at leaf %d: what was before is missing", h.tree.size)
		}
	case h.origin != v.origin:
		v.find(-1, name, v.since(), "the log was begun anew, with a key that the log before does not name: its key was lost, or somebody put another log here")
		v.linked = false
		v.running = false
		v.lastBoot = -1
		v.signer = Hash{}
	case v.lost: // said already
	case h.tree.size > v.tree.size && v.signer != Hash{} && h.signedBy(v.signer):
		v.gone = append(v.gone, span{v.tree.size, h.tree.size - 1, name, v.since()})
		v.first, v.lastBoot = nil, -1
	case h.tree.size > v.tree.size:
		v.find(v.tree.size, name, v.since(), "leaves %d to %d are missing", v.tree.size, h.tree.size-1)
		v.linked = false
	case h.tree.size < v.tree.size || !slices.Equal(h.tree.hashes, v.tree.hashes) || h.key != v.next:
		v.find(h.tree.size, name, v.since(), "the part does not fit to the end of the one before")
		v.linked = false
	case !h.signedBy(v.signer):
		v.find(h.tree.size, name, v.since(), "the beginning of the part is not signed by the key that the one before it names")
		return
	default:
		return
	}
	v.flushJobs()
	v.tree, v.origin, v.next, v.lost = h.tree, h.origin, h.key, false
	v.checkHead(name) // a log that was pruned may begin at the head
}

// leaf takes one leaf; begins says that its part begins with it.
func (v *verifier) leaf(part string, e *entry, begins bool) error {
	if !v.lost && e.leaf.Seq != v.tree.size {
		v.lose(part, fmt.Sprintf("leaf %d stands where leaf %d should be", e.leaf.Seq, v.tree.size))
	}
	if !v.lost {
		t, err := v.tree.appended(e.text)
		if err != nil {
			return err
		}
		root, err := t.root()
		if err != nil {
			return err
		}
		v.submit(job{e.leaf.Seq, Checkpoint{v.origin, t.size, root}.String(), v.next, e.signature, part, v.since()})
		v.tree = t
		v.lastKey, v.next, v.lastSig = v.next, e.leaf.Next, e.signature
		if e.leaf.Part != (Hash{}) {
			v.signer = e.leaf.Part
		}
		if e.leaf.Kind == KindPrune {
			v.pruned = append(v.pruned, span{from: e.leaf.From, to: e.leaf.To})
		}
		if v.linked {
			v.result.Proven = t.size
		}
		v.checkHead(part)
	}
	v.checkTime(part, &e.leaf)
	v.last = e.leaf
	v.result.Leaves++
	if v.result.Leaves%1024 == 0 && v.o.Progress != nil {
		v.o.Progress(v.result.Bytes)
	}
	if begins {
		v.first = &e.leaf
		return nil
	}
	if err := v.handOut(); err != nil || v.o.Leaf == nil {
		return err
	}
	return v.o.Leaf(e.leaf)
}

// handOut hands out the first leaf of a part, now that others follow.
func (v *verifier) handOut() error {
	l := v.first
	v.first = nil
	if l == nil || v.o.Leaf == nil {
		return nil
	}
	return v.o.Leaf(*l)
}
