package tapelog

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// A witness knows one key per log, but ours changes with every leaf. So a log has a second, stable key. It signs the
// checkpoints for witnesses and the proofs of conntape prove, beside the leaf's key. Verify never uses it. A thief of it
// can make a witness follow another log, but cannot rewrite cosigned history.

// Names of the file of the stable key and of its replacement.
const (
	stableName    = "stable"
	newStableName = "stable.new"
)

// ErrNoStableKey means that the log has no stable key yet. The next recorder makes it.
var ErrNoStableKey = errors.New("the log has no stable key")

// keepStable makes the stable key unless it exists. A failure does not stop recording: only witnesses and proofs of
// single segments need the key.
func (l *Log) keepStable() {
	err := l.findStable()
	if err == nil {
		return
	}
	if !errors.Is(err, fs.ErrNotExist) {
		l.logger.Warn("stable key of the log made anew: witnesses have to be told of it", "reason", err)
	}
	if err := l.makeStable(); err != nil {
		l.logger.Error("stable key of the log not made: it cannot be shown to witnesses", "error", err)
	}
}

// findStable returns nil if the log has a stable key of its own.
func (l *Log) findStable() error {
	f, err := l.files.read(stableName)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = readStable(f, l.state.origin)
	return err
}

func (l *Log) makeStable() error {
	private, _, err := note.GenerateKey(rand.Reader, l.state.origin)
	if err != nil {
		return fmt.Errorf("make key: %w", err)
	}
	return replaceFile(l.files, stableName, newStableName, []byte(private+"\n"))
}

// replaceFile replaces a file atomically and durably.
func replaceFile(fsys files, name, newName string, text []byte) error {
	if err := fsys.remove(newName); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", newName, err)
	}
	f, err := fsys.create(newName)
	if err != nil {
		return fmt.Errorf("create %s: %w", newName, err)
	}
	_, err = f.WriteAt(text, 0)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		fsys.remove(newName) // else the next call does
		return fmt.Errorf("write %s: %w", newName, err)
	}
	if err := fsys.rename(newName, name); err != nil {
		return fmt.Errorf("rename %s: %w", newName, err)
	}
	if err := fsys.syncDir(); err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	return nil
}

// stableKey is the stable private key.
type stableKey struct {
	note.Signer
	verifier string // public half, as NAME+HASH+KEY
}

// readStable reads the file of a stable key, which must be of this log.
func readStable(f io.ReaderAt, origin string) (*stableKey, error) {
	text := make([]byte, maxLine)
	n, err := f.ReadAt(text, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read stable key: %w", err)
	}
	line, ok := strings.CutSuffix(string(text[:n]), "\n")
	signer, err := note.NewSigner(line)
	if !ok || err != nil {
		return nil, errors.New("the file of the stable key is damaged")
	}
	if signer.Name() != origin {
		return nil, errors.New("the stable key is of another log")
	}
	// NewSigner has checked the form: PRIVATE+KEY+NAME+HASH+ and the algorithm with the seed.
	seed, err := base64.StdEncoding.DecodeString(strings.SplitN(line, "+", 5)[4])
	if err != nil || len(seed) != 1+ed25519.SeedSize {
		return nil, errors.New("the file of the stable key is damaged")
	}
	public := ed25519.NewKeyFromSeed(seed[1:]).Public().(ed25519.PublicKey)
	return &stableKey{signer, verifierKey(origin, [ed25519.PublicKeySize]byte(public))}, nil
}

// StableKey returns the public half of the stable key of the log in dir, whose origin is given. The error is
// ErrNoStableKey if there is none.
func StableKey(dir, origin string) (verifier string, err error) {
	d := &directory{path: dir}
	f, key, err := openStable(d, origin)
	defer d.close()
	if err != nil {
		return "", err
	}
	defer f.Close()
	return key.verifier, nil
}

// openStable opens the file of the stable key and reads it.
func openStable(fsys files, origin string) (file, *stableKey, error) {
	f, err := fsys.read(stableName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, ErrNoStableKey
	}
	if err != nil {
		return nil, nil, fmt.Errorf("open stable key: %w", err)
	}
	key, err := readStable(f, origin)
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, key, nil
}
