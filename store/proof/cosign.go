package proof

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/tapedir"
	"github.com/conntape/conntape/store/tapelog"
)

// Types of package tapelog for callers: the answer of a witness, its cosignature, and refusals.
type (
	WitnessAnswer = tapelog.Answer
	Cosigned      = tapelog.Cosigned
	BehindError   = tapelog.BehindError
	NotCosigned   = tapelog.NotCosigned
)

// WitnessRequest says how to ask a witness: its verifier key, and who sends a request to its add-checkpoint.
type WitnessRequest struct {
	Key  string
	Post func([]byte) (WitnessAnswer, error)
}

// MostWitnesses limits the witnesses of a log.
const MostWitnesses = tapelog.MostWitnesses

// CosignTape asks witnesses, side by side, to cosign the head of the tape's log, and keeps that checkpoint with the
// cosignatures that came in the log. Of the others the error tells: with a *BehindError if the witness knows more leaves of
// this log, or other ones.
func CosignTape(dir string, witnesses []WitnessRequest) ([]Cosigned, error) {
	o := tapelog.CosignOptions{Give: tapedir.GiveToGroup}
	for _, request := range witnesses {
		w, err := tapelog.ParseWitness(request.Key)
		if err != nil {
			return nil, &failure.Error{Op: "read key of witness", Err: err, Hint: "give the key that the witness publishes: NAME+HASH+KEY"}
		}
		o.Witnesses = append(o.Witnesses, tapelog.Asked{Witness: w, Post: request.Post})
	}
	done, err := tapelog.Cosign(filepath.Join(dir, tapedir.LogDir), o)
	if err != nil {
		return done, &failure.Error{Op: "have checkpoint cosigned", Path: dir, Err: bareLog(err), Hint: cosignHint(dir, err)}
	}
	return done, nil
}

// StableKey returns the permanent verifier key of the tape in dir, for witnesses and for VerifyProof.
func StableKey(dir string) (string, error) {
	path := filepath.Join(dir, tapedir.LogDir)
	head, _, err := tapelog.Head(path)
	var c tapelog.Checkpoint
	if err == nil {
		c, _, err = tapelog.ParseHead(head)
	}
	key := ""
	if err == nil {
		key, err = tapelog.StableKey(path, c.Origin)
	}
	if err != nil {
		return "", &failure.Error{Op: "read stable key", Path: dir, Err: bareLog(err), Hint: cosignHint(dir, err)}
	}
	return key, nil
}

// bareLog is failure.Bare for an error about a log that may be missing. What went wrong with witnesses is not about the log.
func bareLog(err error) error {
	var refused tapelog.NotCosigned
	if errors.As(err, &refused) {
		return err
	}
	if errors.Is(err, tapelog.ErrNoLog) || errors.Is(err, fs.ErrNotExist) {
		return errors.New("there is no log here")
	}
	return failure.Bare(err)
}

func cosignHint(dir string, err error) string {
	var refused *tapelog.WitnessError
	switch {
	case errors.Is(err, tapelog.ErrNoLog), errors.Is(err, fs.ErrNotExist):
		return "record a tape with: conntape record --dir " + dir
	case errors.Is(err, fs.ErrPermission):
		return "the stable key is readable for the recorder's user alone: run it as root"
	case errors.Is(err, tapelog.ErrNoStableKey):
		return "the next conntape record makes it"
	case errors.Is(err, tapelog.ErrPruned):
		return "push at least once a week; this witness can only follow this tape again if its operator forgets what it has seen"
	case errors.As(err, &refused) && (refused.Status == 403 || refused.Status == 404):
		return fmt.Sprintf("give its operator the key of this log: conntape checkpoint --verifier-key --dir %s", dir)
	case errors.As(err, &refused):
		return "is that the address of a witness, and the key its own?"
	}
	return ""
}
