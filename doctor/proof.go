package doctor

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/conntape/conntape/recorder"
	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/store/retain"
)

const (
	proofBatch  = 50 * time.Millisecond // the scratch recorder's batch age
	startWithin = time.Minute           // for the scratch recorder: loading is slow on a busy small machine
	proofWithin = 20 * time.Second      // for a connect to appear in the service's tape
)

// proveScratch records into a scratch tape, connects in every way, and looks for each of these connects.
func (o Options) proveScratch(ctx context.Context) []Finding {
	dir, err := os.MkdirTemp("", "conntape-doctor-")
	if err != nil {
		return []Finding{problem("proof", "make room in "+os.TempDir(), "no scratch tape: %v", err)}
	}
	defer os.RemoveAll(dir)
	tape := filepath.Join(dir, "tape")
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ready, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		ended <- recorder.Run(ctx, recorder.Options{Dir: tape, BatchAge: proofBatch, Limits: retain.Limits{MaxBytes: retain.MinMaxBytes},
			Service: recorder.Service{Ready: func(backend string) {
				select {
				case ready <- backend:
				default:
				}
			}}})
	}()
	select {
	case err := <-ended:
		return []Finding{problem("proof", "", "a recorder does not start: %v", err)}
	case <-time.After(startWithin):
		return []Finding{problem("proof", "try again when the host is less busy", "a recorder did not start within %v", startWithin)}
	case backend := <-ready:
		made, findings := connectAll()
		time.Sleep(4 * proofBatch)
		stop()
		if err := <-ended; err != nil {
			return append(findings, problem("proof", "", "the recorder ended with an error: %v", err))
		}
		found, err := o.Find(context.WithoutCancel(ctx), tape, cookiesOf(made))
		if err != nil {
			return append(findings, problem("proof", "", "the scratch tape cannot be read: %v", err))
		}
		return append(findings, judge("proof", "a scratch tape ("+backend+")", made, found)...)
	}
}

// proveService connects in every way, and looks for these connects in the tape of the running recorder.
func (o Options) proveService(ctx context.Context) []Finding {
	const name = "service"
	recording, err := isRecorded(ctx, o.Dir)
	switch {
	case errors.Is(err, os.ErrPermission):
		return []Finding{problem(name, "look as root, or as a member of the group "+readers, "%s may not be read", o.Dir)}
	case err != nil || !recording:
		return []Finding{note(name, "systemctl start conntape, or sudo conntape record", "no recorder writes to %s now", o.Dir)}
	}
	made, findings := connectAll()
	var found map[uint64]bool
	for until := time.Now().Add(proofWithin); time.Now().Before(until) && ctx.Err() == nil; time.Sleep(200 * time.Millisecond) {
		if found, err = o.Find(ctx, o.Dir, cookiesOf(made)); err == nil && len(found) == len(made) {
			break
		}
	}
	if err != nil {
		return append(findings, problem(name, "conntape verify "+o.Dir, "the tape cannot be read: %v", err))
	}
	return append(findings, judge(name, o.Dir, made, found)...)
}

// isRecorded reports whether a recorder writes to the tape.
func isRecorded(ctx context.Context, dir string) (bool, error) {
	tape, err := store.OpenTapeContext(ctx, dir)
	if err != nil {
		return false, err
	}
	defer tape.Close()
	covered, err := tape.Coverage()
	return covered.Recording, err
}

func cookiesOf(made []connect) (cookies []uint64) {
	for _, c := range made {
		cookies = append(cookies, c.cookie)
	}
	return cookies
}

// judge reports the connects that are not in the tape.
func judge(name, where string, made []connect, found map[uint64]bool) []Finding {
	var seen, missing []string
	for _, c := range made {
		if found[c.cookie] {
			seen = append(seen, c.kind)
		} else {
			missing = append(missing, c.kind)
		}
	}
	if len(missing) > 0 {
		return []Finding{problem(name, "this is a fault: please tell us, with conntape doctor --json", "connects missing in %s: %s", where, strings.Join(missing, ", "))}
	}
	return []Finding{fine(name, "every connect came back in %s: %s", where, strings.Join(seen, ", "))}
}

// connect is a connect of the doctor's own.
type connect struct {
	kind   string
	cookie uint64
}

// connectAll connects once in every way. A way that this host does not have is a note.
func connectAll() (made []connect, findings []Finding) {
	for _, way := range ways {
		cookie, err := way.connect()
		if err != nil {
			findings = append(findings, note("connect", "", "%s was not tried: %v", way.kind, err))
			continue
		}
		made = append(made, connect{way.kind, cookie})
	}
	return made, findings
}
