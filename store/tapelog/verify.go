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

// silence is the longest time without a leaf while the host is awake and a recorder runs. It writes one every 10 s, but
// the disk may be slow.
const silence = time.Minute

// VerifyOptions are facts that the verifier knows from elsewhere.
type VerifyOptions struct {
	Key  string // first verifier key, as printed; "": unknown
	Head []byte // a kept signed checkpoint; nil: none

	Witnesses []string // verifier keys of witnesses; each must have cosigned the log

	// Leaf gets each leaf in order, before its signature is checked: see Result.Proven afterwards. It does not get the
	// remaining first leaves of pruned parts. May be nil.
	Leaf func(Leaf) error
	Now  time.Time // zero: now; for tests

	// Progress gets the number of bytes read, from time to time. May be nil.
	Progress func(bytes int64)
}

// Finding is one problem of a log.
type Finding struct {
	Leaf    int64     // number of the first affected leaf; -1: none in particular
	Part    string    // file name; "": none in particular
	Since   time.Time // records until then are not affected; zero: all may be
	Problem string
}

// Result is the result of Verify.
type Result struct {
	Origin string
	First  string // verifier key of the first leaf, from the log itself
	Leaves int64
	Last   Leaf   // the last leaf
	Head   []byte // signed checkpoint of the last leaf; nil: none
	Bytes  int64

	// Proven is the number of leaves, from the first on, that are signed with the key announced by the previous leaf.
	Proven int64
	// KeyMatched: the first leaf is signed with the given key. HeadMatched: the log extends the given head.
	KeyMatched, HeadMatched bool
	HeadSize                int64

	Cosigned []Cosigned // by the given witnesses, of this very log

	Pruned   int64 // leaves that retention removed, announced by a leaf
	Torn     bool  // the last line is unfinished: a recorder was killed, or is writing
	Findings []Finding
}

// ErrNoLog is returned if the directory has no log.
var ErrNoLog = errors.New("no log here")

// Verify reads a log and checks all hashes and signatures. The error means that the log could not be read;
// Result.Findings has its problems. A recorder may append meanwhile.
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

// verifier reads a log from the first leaf to the last.
type verifier struct {
	files   files
	o       VerifyOptions
	head    Checkpoint // of o.Head
	headSig []byte
	key     [ed25519.PublicKeySize]byte // of o.Key
	keyOf   string                      // its origin
	marks   []*mark                     // cosigned checkpoints
	nexts   map[int]*partHeader         // headers of all parts, by number
	numbers []int

	tree   *tree // nil before the first part
	origin string
	next   [ed25519.PublicKeySize]byte // signs the next leaf
	signer Hash                        // signs the header of the next part; zero: unknown
	lost   bool                        // a leaf is missing or damaged: the next header continues the check
	linked bool                        // all leaves so far are linked to the first

	last     Leaf // previous leaf
	lastKey  [ed25519.PublicKeySize]byte
	lastSig  []byte
	lastBoot int64 // of the previous leaf; -1: none
	awake    int64 // awake time of the previous leaf, ns
	running  bool  // between start and stop

	first *Leaf // of the part, not passed to Leaf yet: the rest may be pruned

	gone   []span // missing leaves between a part and the next, which is signed
	pruned []span // leaves removed according to the log

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

// since returns the time of the last leaf read.
func (v *verifier) since() time.Time {
	if v.last.Real == 0 {
		return time.Time{}
	}
	return time.Unix(0, v.last.Real).UTC()
}

// part checks one part.
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
	end := int64(-1) // first leaf of the next part
	if i := slices.Index(v.numbers, n); i+1 < len(v.numbers) {
		if next := v.nexts[v.numbers[i+1]]; next.origin == v.origin {
			end = next.tree.size
		}
	}
	damaged := 0 // lines not understood, reported if a leaf follows
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
			continue // the write failed here and was repeated in the next part
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
		case end >= 0 && v.tree.size == end: // a failed write, repeated in the next part
		default:
			v.lose(name, "a line of the log is damaged, and what follows cannot be proven")
		}
	}
	if v.o.Progress != nil {
		v.o.Progress(v.result.Bytes)
	}
	return nil
}

// lose reports that the next leaf is missing or altered. Nothing more can be checked until the next part gives its place
// in the tree.
func (v *verifier) lose(part, problem string) {
	if v.lost {
		return
	}
	v.find(v.tree.size, part, v.since(), "%s", problem)
	v.lost = true
	v.linked = false
}

// enter compares the header of a part with the log so far.
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
	case v.lost: // already reported
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
	v.checkHead(name) // a pruned log may begin at the head
}

// leaf checks one leaf; begins: it is the first of its part.
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

// handOut passes the first leaf of a part to Leaf when others follow.
func (v *verifier) handOut() error {
	l := v.first
	v.first = nil
	if l == nil || v.o.Leaf == nil {
		return nil
	}
	return v.o.Leaf(*l)
}
