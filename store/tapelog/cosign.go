package tapelog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/sys/unix"
)

// Names of the file of cosigned checkpoints and of its replacement.
const (
	cosignedName    = "cosigned"
	newCosignedName = "cosigned.new"
)

// Limits of the file: the newest checkpoint of each of so many witnesses.
const (
	mostCosigned      = 32
	mostCosignedBytes = 1 << 20
)

// Answer is a witness's answer: HTTP status and body.
type Answer struct {
	Status int
	Body   []byte
}

// WitnessError is an answer without a cosignature.
type WitnessError struct {
	Status int    // HTTP status; 200 for an answer without a valid cosignature
	Why    string // for people
}

func (e *WitnessError) Error() string { return e.Why }

// BehindError means that the log does not continue the tree that the witness cosigned. Its end was cut off, the tape was
// rolled back, its history was rewritten, or somebody stole the stable key and showed the witness another log.
type BehindError struct {
	Witness   string
	Cosigned  int64 // leaves that the witness has cosigned; -1: unknown
	Leaves    int64 // leaves of the log
	Rewritten bool  // the log has other leaves than the cosigned ones
}

func (e *BehindError) Error() string {
	if e.Rewritten {
		return fmt.Sprintf("%s has cosigned another history than the %d leaves of this log: it was rewritten, or somebody else has its stable key", e.Witness, e.Leaves)
	}
	return fmt.Sprintf("%s has cosigned %d leaves, and the log has %d: its end was cut off, or the tape rolled back", e.Witness, e.Cosigned, e.Leaves)
}

// Cosigned is a checkpoint that a witness cosigned.
type Cosigned struct {
	Witness string
	Leaves  int64
	At      time.Time // by the witness's clock, to the second
	Note    []byte    // the checkpoint with the signatures of its leaf, the stable key and all witnesses that cosigned it with this one
}

// Asked is a witness to be asked.
type Asked struct {
	*Witness
	// Post sends a request to the add-checkpoint of the witness. Witnesses are asked side by side.
	Post func(request []byte) (Answer, error)
}

// CosignOptions say which witnesses to ask, and how.
type CosignOptions struct {
	Witnesses []Asked // different ones, at most MostWitnesses
	// Give is as in Options.
	Give func(path string, mode fs.FileMode) error
}

// MostWitnesses limits the witnesses of a log.
const MostWitnesses = mostCosigned

// NotCosigned has an error for each witness that did not cosign. Where several were asked, each begins with the name of its
// witness.
type NotCosigned []error

// Error returns all of them.
func (e NotCosigned) Error() string {
	texts := make([]string, len(e))
	for i, err := range e {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

// Unwrap returns each.
func (e NotCosigned) Unwrap() []error { return e }

// Cosign asks witnesses to cosign the head of the log in dir, all of them the same checkpoint, and keeps it beside the log
// with the cosignatures that came, whatever became of the others. The error is ErrNoStableKey, ErrNoLog, or of type
// NotCosigned: with a *BehindError if the log does not continue the tree that the witness cosigned before, a *WitnessError
// for any other answer without a valid cosignature, or ErrPruned.
func Cosign(dir string, o CosignOptions) ([]Cosigned, error) {
	return cosign(&directory{path: dir, give: o.Give}, o)
}

func cosign(fsys files, o CosignOptions) ([]Cosigned, error) {
	defer fsys.close()
	// The origin is not known before; the head is read under the lock.
	lock, err := lockStable(fsys)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	signed, c, err := signedHead(fsys, lock)
	if err != nil {
		return nil, err
	}
	kept, err := readCosigned(fsys)
	if err != nil {
		return nil, err
	}
	lines, times, errs := make([]string, len(o.Witnesses)), make([]time.Time, len(o.Witnesses)), make([]error, len(o.Witnesses))
	var all sync.WaitGroup
	var reading sync.Mutex
	for i, w := range o.Witnesses {
		s := &submission{files: fsys, reading: &reading, asked: w, signed: signed, c: c}
		all.Go(func() { lines[i], times[i], errs[i] = s.submit(cosignedBy(kept, w.Witness, c.Origin)) })
	}
	all.Wait()
	var done []Cosigned
	var signers []*Witness
	var refused NotCosigned
	for i, w := range o.Witnesses {
		if errs[i] != nil {
			refused = append(refused, aboutWitness(w, len(o.Witnesses), errs[i]))
			continue
		}
		signed = append(signed, lines[i]...)
		signers = append(signers, w.Witness)
		done = append(done, Cosigned{Witness: w.Name(), Leaves: c.Size, At: times[i]})
	}
	for i := range done {
		done[i].Note = slices.Clone(signed)
	}
	if len(done) > 0 {
		err = keepCosigned(fsys, kept, signed, signers)
	}
	if len(refused) > 0 {
		err = errors.Join(refused, err)
	}
	return done, err
}

// aboutWitness names the witness of an error that does not, where there are several.
func aboutWitness(w Asked, of int, err error) error {
	var behind *BehindError
	if of == 1 || errors.As(err, &behind) {
		return err
	}
	return fmt.Errorf("%s: %w", w.Name(), err)
}

// lockStable opens and locks the stable key, so that one process at a time asks witnesses and writes the file.
func lockStable(fsys files) (file, error) {
	f, err := fsys.read(stableName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNoStableKey
	}
	if err != nil {
		return nil, fmt.Errorf("open stable key: %w", err)
	}
	if locked, ok := f.(osFile); ok {
		err = unix.Flock(int(locked.Fd()), unix.LOCK_EX)
		for errors.Is(err, unix.EINTR) {
			err = unix.Flock(int(locked.Fd()), unix.LOCK_EX)
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock stable key: %w", err)
	}
	return f, nil
}

// signedHead returns the head of the log with the signatures of the leaf and, below, of the stable key.
func signedHead(fsys files, stable file) ([]byte, Checkpoint, error) {
	text, _, err := lastHead(fsys)
	if err != nil {
		return nil, Checkpoint{}, err
	}
	c, _, err := ParseHead(text)
	if err != nil {
		return nil, c, err
	}
	key, err := readStable(stable, c.Origin)
	if err != nil {
		return nil, c, err
	}
	signature, err := note.Sign(&note.Note{Text: c.String()}, key)
	if err != nil {
		return nil, c, fmt.Errorf("sign checkpoint: %w", err)
	}
	_, line, _ := strings.Cut(string(signature), "\n\n")
	return append(text, line...), c, nil
}

// submission is a checkpoint to be cosigned by one witness.
type submission struct {
	files   files
	reading *sync.Mutex // of files
	asked   Asked
	signed  []byte
	c       Checkpoint
}

// submit sends the checkpoint. old is the number of leaves that the witness probably cosigned; submit tries again if the
// witness names another number.
func (s *submission) submit(old int64) (line string, at time.Time, err error) {
	for range 3 {
		request, err := s.request(old)
		if err != nil {
			return "", at, err
		}
		answer, err := s.asked.Post(request)
		if err != nil {
			return "", at, err
		}
		if answer.Status != 409 {
			return s.read(answer)
		}
		has, err := strconv.ParseInt(strings.TrimSuffix(string(answer.Body), "\n"), 10, 64)
		switch {
		case err != nil || has < 0:
			return "", at, &WitnessError{409, "the witness has cosigned something else, and does not say how many leaves"}
		case has > s.c.Size:
			return "", at, &BehindError{Witness: s.asked.Name(), Cosigned: has, Leaves: s.c.Size}
		case has == old && old < s.c.Size:
			return "", at, &WitnessError{409, "the witness refuses what continues the leaves that it says it has cosigned"}
		case has == old:
			return "", at, &BehindError{Witness: s.asked.Name(), Cosigned: has, Leaves: s.c.Size, Rewritten: true}
		}
		old = has
	}
	return "", at, &WitnessError{409, "the witness cosigns other checkpoints of this log meanwhile"}
}

// request returns the body of add-checkpoint.
func (s *submission) request(old int64) ([]byte, error) {
	s.reading.Lock()
	proof, err := proveTree(s.files, s.c, old)
	s.reading.Unlock()
	if err != nil {
		return nil, fmt.Errorf("prove to the witness what followed leaf %d: %w", old, err)
	}
	request := fmt.Appendf(nil, "old %d\n", old)
	for _, h := range proof {
		request = fmt.Appendf(request, "%s\n", h)
	}
	return append(append(request, '\n'), s.signed...), nil
}

// read reads the cosignature from an answer other than 409.
func (s *submission) read(a Answer) (line string, at time.Time, err error) {
	w := s.asked.Witness
	switch a.Status {
	case 200:
	case 422:
		return "", at, &BehindError{Witness: w.Name(), Cosigned: -1, Leaves: s.c.Size, Rewritten: true}
	case 403:
		return "", at, &WitnessError{403, "the witness does not know the key of this log"}
	case 404:
		return "", at, &WitnessError{404, "the witness does not know this log"}
	default:
		return "", at, &WitnessError{a.Status, fmt.Sprintf("the witness answered with status %d", a.Status)}
	}
	line, at, found, ok := w.cosignature([]byte(s.c.String() + "\n" + string(a.Body)))
	switch {
	case ok:
		return line, at, nil
	case found:
		return "", at, &WitnessError{200, "the witness did not cosign this checkpoint: its signature is of something else"}
	}
	return "", at, &WitnessError{200, "the answer has no cosignature of " + w.Name()}
}

// readCosigned returns the kept checkpoints. It leaves out invalid ones.
func readCosigned(fsys files) ([][]byte, error) {
	f, err := fsys.read(cosignedName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open cosigned checkpoints: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(&sequential{f: f}, mostCosignedBytes))
	if err != nil {
		return nil, fmt.Errorf("read cosigned checkpoints: %w", err)
	}
	return splitCosigned(string(text)), nil
}

// splitCosigned splits notes separated by an empty line.
func splitCosigned(text string) [][]byte {
	var notes [][]byte
	blocks := strings.Split(strings.TrimSuffix(text, "\n"), "\n\n")
	for i := 0; i+1 < len(blocks) && len(notes) < mostCosigned; i += 2 {
		signed := []byte(blocks[i] + "\n\n" + blocks[i+1] + "\n")
		if _, _, err := ParseHead(signed); err == nil {
			notes = append(notes, signed)
		}
	}
	return notes
}

// cosignedBy returns the number of a log's leaves that a witness cosigned; 0: none.
func cosignedBy(notes [][]byte, w *Witness, origin string) int64 {
	most := int64(0)
	for _, signed := range notes {
		if c, _, err := ParseHead(signed); err == nil && c.Origin == origin {
			if _, _, _, ok := w.cosignature(signed); ok {
				most = max(most, c.Size)
			}
		}
	}
	return most
}

// keepCosigned writes a checkpoint in place of what its witnesses cosigned before. Older ones stay for other witnesses.
func keepCosigned(fsys files, kept [][]byte, signed []byte, by []*Witness) error {
	text := slices.Clone(signed)
	notes := 1
	for _, older := range kept {
		if older = withoutCosignatures(older, by); older != nil && notes < mostCosigned {
			text = append(append(text, '\n'), older...)
			notes++
		}
	}
	if err := replaceFile(fsys, cosignedName, newCosignedName, text); err != nil {
		return fmt.Errorf("keep cosignature: %w", err)
	}
	return nil
}

// withoutCosignatures removes the signatures of some witnesses from a checkpoint. It returns nil if none of another witness is
// left.
func withoutCosignatures(signed []byte, by []*Witness) []byte {
	body, rest, _ := strings.Cut(string(signed), "\n\n")
	origin, _, _ := strings.Cut(body, "\n")
	left, others := []byte(body+"\n\n"), false
	for line := range strings.Lines(rest) {
		name, raw, err := parseSignature(strings.TrimSuffix(line, "\n"))
		if err == nil && slices.ContainsFunc(by, func(w *Witness) bool { return w.name == name && w.hash == binary.BigEndian.Uint32(raw) }) {
			continue
		}
		others = others || name != origin
		left = append(left, line...)
	}
	if !others {
		return nil
	}
	return left
}
