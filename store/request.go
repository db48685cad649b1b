package store

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/tapedir"
)

// Other processes make requests to the recorder by files: NAME.request in the directory requests, which only the owner
// can enter. The recorder sleeps until there is one, and writes NAME.answer.

const (
	requestDir    = "requests"
	requestSuffix = ".request"
	answerSuffix  = ".answer"
)

// Request is a request to a tape's recorder.
type Request struct {
	Do     string    `json:"do"`               // rotate, hold, release
	Since  time.Time `json:"since,omitzero"`   // hold: first moment, zero from the beginning
	Until  time.Time `json:"until,omitzero"`   // hold: end, zero without one
	Reason string    `json:"reason,omitempty"` // hold, release
	Hold   string    `json:"hold,omitempty"`   // release: id
}

// Values of Request.Do.
const (
	DoRotate  = "rotate"
	DoHold    = "hold"
	DoRelease = "release"
)

// Answer is the result of a request.
type Answer struct {
	Error string        `json:"error,omitempty"`
	Hint  string        `json:"hint,omitempty"`
	File  string        `json:"file,omitempty"` // rotate: the segment that was closed, "" none: it is empty
	Hold  *tapedir.Hold `json:"hold,omitempty"` // hold, release
}

// answerPatience limits Ask's wait for a recorder that does not take the request.
const answerPatience = 30 * time.Second

// staleAnswer is the age of answers that nobody waits for any more.
const staleAnswer = time.Hour

// Ask sends a request to a tape's recorder, or executes it itself, with o, if there is none. Only the tape's owner can.
// stop ends the wait.
func Ask(dir string, r Request, o WriterOptions, stop <-chan struct{}) (Answer, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return Answer{}, &failure.Error{Op: "open tape", Path: dir, Err: err}
	}
	numbers, _, err := tapedir.List(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Answer{}, &failure.Error{Op: "open tape", Path: dir, Err: failure.Bare(err), Hint: "only the owner of the tape may: run it as root"}
	}
	if len(numbers) == 0 {
		return Answer{}, &failure.Error{Op: "open tape", Path: dir, Err: failure.ErrNoTape, Hint: "name the directory of the tape with --dir"}
	}
	a, err := maintain(dir, r, o)
	if errors.Is(err, failure.ErrLocked) {
		a, err = askRecorder(dir, r, stop)
	}
	if err != nil {
		return Answer{}, err
	}
	if a.Error != "" {
		return a, &failure.Error{Op: r.Do, Path: dir, Err: errors.New(a.Error), Hint: a.Hint}
	}
	return a, nil
}

// askRecorder writes the request and waits for the answer.
func askRecorder(dir string, r Request, stop <-chan struct{}) (Answer, error) {
	requests := filepath.Join(dir, requestDir)
	var id [8]byte
	rand.Read(id[:]) // never fails
	name := filepath.Join(requests, hex.EncodeToString(id[:]))
	text, err := json.Marshal(r)
	if err != nil {
		return Answer{}, fmt.Errorf("write request: %w", err)
	}
	if err := tapedir.WriteWhole(name+requestSuffix, text, tapedir.BirthMode); err != nil {
		return Answer{}, &failure.Error{Op: "write request", Path: requests, Err: failure.Bare(err), Hint: "only the owner of the tape may: run it as root"}
	}
	defer os.Remove(name + answerSuffix)
	start := time.Now()
	for {
		text, err := tapedir.ReadUpTo(name+answerSuffix, tapedir.MostHold) // it may have a hold of all segments
		if err == nil {
			var a Answer
			if err := json.Unmarshal(text, &a); err != nil {
				return a, fmt.Errorf("read answer: %w", err)
			}
			return a, nil
		}
		waiting := tapedir.IsThere(name + requestSuffix) // not taken yet
		switch {
		case !errors.Is(err, fs.ErrNotExist):
			return Answer{}, &failure.Error{Op: "read answer", Path: name + answerSuffix, Err: failure.Bare(err)}
		case waiting && time.Since(start) > answerPatience:
			os.Remove(name + requestSuffix)
			return Answer{}, &failure.Error{Op: r.Do, Path: dir, Err: errors.New("the recorder does not answer"), Hint: "look whether it runs: conntape status"}
		}
		select {
		case <-stop:
			os.Remove(name + requestSuffix)
			return Answer{}, &failure.Error{Op: r.Do, Path: dir, Err: errors.New("stopped before the recorder answered")}
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// startServing starts answering requests. Recording continues if that fails.
func (w *Writer) startServing() {
	w.served = make(chan struct{})
	requests := filepath.Join(w.dir, requestDir)
	err := w.withRoom(func() error { return os.Mkdir(requests, 0o700) })
	if err == nil {
		err = os.Chmod(requests, 0o700) // whatever the umask is
	}
	if errors.Is(err, fs.ErrExist) {
		err = tapedir.CheckOwn(requests, 0o077)
	}
	var watched *os.File
	if err == nil {
		watched, err = watchDir(requests)
	}
	if err != nil {
		w.log.Warn("requests are not answered", "path", requests, "error", err)
		close(w.served)
		return
	}
	w.requests = watched
	go func() {
		defer close(w.served)
		buffer := make([]byte, 4096)
		for {
			w.serve(requests)
			if _, err := watched.Read(buffer); err != nil {
				return // closed
			}
		}
	}()
}

// stopServing ends it.
func (w *Writer) stopServing() {
	if w.requests != nil {
		w.requests.Close()
	}
	<-w.served
	os.Remove(filepath.Join(w.dir, requestDir)) // fails while an answer waits in it
}

// watchDir returns a file that becomes readable when a file is moved into dir.
func watchDir(dir string) (*os.File, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch directory: %w", err)
	}
	f := os.NewFile(uintptr(fd), "inotify")
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_MOVED_TO); err != nil {
		f.Close()
		return nil, fmt.Errorf("watch directory: %w", err)
	}
	return f, nil
}

// serve answers all requests.
func (w *Writer) serve(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		w.log.Warn("requests not read", "path", dir, "error", err)
		return
	}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), requestSuffix)
		path := filepath.Join(dir, name)
		if !ok {
			if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > staleAnswer {
				os.Remove(filepath.Join(dir, e.Name()))
			}
			continue
		}
		text, err := tapedir.ReadSmall(path + requestSuffix)
		if rerr := os.Remove(path + requestSuffix); err != nil || rerr != nil {
			w.log.Warn("request not read", "path", path, "error", errors.Join(err, rerr))
			continue
		}
		var r Request
		var a Answer
		if err := json.Unmarshal(text, &r); err != nil {
			a.Error = "the request is not understood"
		} else {
			a = w.do(r)
		}
		text, err = json.Marshal(a)
		if err == nil {
			err = tapedir.WriteWhole(path+answerSuffix, text, tapedir.BirthMode)
		}
		if err != nil {
			w.log.Warn("request not answered", "path", path, "error", err)
		}
	}
}

// do executes a request.
func (w *Writer) do(r Request) (a Answer) {
	var err error
	switch r.Do {
	case DoRotate:
		a.File, err = w.rotateNow()
	case DoHold:
		a.Hold, err = w.hold(r)
	case DoRelease:
		a.Hold, err = w.release(r)
	default:
		err = fmt.Errorf("there is no request %q", r.Do)
	}
	if err != nil {
		var e *failure.Error
		if errors.As(err, &e) {
			err = fmt.Errorf("%w", e.Err)
		}
		a.Error, a.Hint = err.Error(), failure.HintOf(err)
		if e != nil {
			a.Hint = e.Hint
		}
		w.log.Warn("request refused", "do", r.Do, "error", err)
	}
	return a
}

// maintain executes a request on a tape without a recorder. It works like a recorder, but without an active segment.
func maintain(dir string, r Request, o WriterOptions) (Answer, error) {
	w, err := newWriter(dir, o)
	if err != nil {
		return Answer{}, err
	}
	numbers, newest, err := w.findSegments()
	if err != nil {
		return Answer{}, errors.Join(err, w.lock.Release())
	}
	w.loadCatalog(numbers, newest)
	w.tapeID = w.lookAtEnd(filepath.Join(w.dir, tapedir.SegmentName(newest))).tapeID
	w.tell(RunStarted{TapeID: w.tapeID, Segment: newest, BootID: o.BootID, At: w.o.Now})
	empty := newest == 0 || w.isEmpty(filepath.Join(w.dir, tapedir.SegmentName(newest)))
	if !empty && r.Do != DoRelease {
		w.addToCatalog(newest) // and so it is closed
	}
	w.makeRoom(growth{})
	w.startKeeper()
	var a Answer
	if r.Do == DoRotate {
		if !empty {
			a.File = tapedir.SegmentName(newest)
		}
		w.waitForKeeper(nil)
	} else {
		a = w.do(r)
	}
	w.waitForRemovals()
	w.stopKeeper()
	w.tell(RunStopped{Segment: newest, Now: w.o.Now.Boot})
	return a, w.lock.Release()
}

// waitForKeeper waits until no segment selected by among (nil: any) is to be sealed, or the writer closes.
func (w *Writer) waitForKeeper(among func(*stored) bool) {
	w.awaited.Add(1)
	defer w.awaited.Add(-1)
	for ; ; time.Sleep(10 * time.Millisecond) {
		w.mu.Lock()
		busy := false
		for _, s := range w.catalog.list {
			busy = busy || s.state == unsealed && !s.notBefore.After(time.Now()) && (among == nil || among(s))
		}
		hurry := w.hurry
		w.mu.Unlock()
		if !busy || hurry || w.ending.Load() {
			return
		}
	}
}
