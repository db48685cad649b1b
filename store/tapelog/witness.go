package tapelog

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/note"
)

// A witness cosigns checkpoints of many logs, each only if it continues the last one that it cosigned (C2SP
// tlog-witness). Its signature is a cosignature/v1 of C2SP tlog-cosignature, over the checkpoint and the time.

// algorithmCosignature is the key type of cosignature/v1.
const algorithmCosignature = 4

// Witness is the verifier key of a witness. It is a note.Verifier.
type Witness struct {
	name   string
	hash   uint32
	public [ed25519.PublicKeySize]byte
}

var errWitness = errors.New("not a verifier key of a witness")

// ParseWitness parses a witness's published verifier key: NAME+HASH+KEY, with a key of type 4, Ed25519 for
// cosignature/v1.
func ParseWitness(text string) (*Witness, error) {
	name, rest, ok := strings.Cut(text, "+")
	hash, key, ok2 := strings.Cut(rest, "+")
	if !ok || !ok2 || !validName(name) {
		return nil, errWitness
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(key)
	if err != nil || len(raw) == 0 {
		return nil, errWitness
	}
	if raw[0] != algorithmCosignature || len(raw) != 1+ed25519.PublicKeySize {
		return nil, fmt.Errorf("%w: its key is of kind %d and %d bytes, and not of kind 4, for cosignature/v1", errWitness, raw[0], len(raw)-1)
	}
	sum := sha256.Sum256([]byte(name + "\n" + string(raw)))
	w := &Witness{name: name, hash: binary.BigEndian.Uint32(sum[:]), public: [ed25519.PublicKeySize]byte(raw[1:])}
	if hash != fmt.Sprintf("%08x", w.hash) {
		return nil, fmt.Errorf("%w: its hash does not fit its name and key", errWitness)
	}
	return w, nil
}

// validName reports whether name may be the name of a key (C2SP signed-note).
func validName(name string) bool {
	return name != "" && len(name) <= 256 && utf8.ValidString(name) && !strings.ContainsFunc(name, unicode.IsSpace) && !strings.Contains(name, "+")
}

// Name returns the name of the witness.
func (w *Witness) Name() string { return w.name }

// KeyHash returns the key's hash in signature lines.
func (w *Witness) KeyHash() uint32 { return w.hash }

// Verify reports whether signature is the witness's over a checkpoint.
func (w *Witness) Verify(checkpoint, signature []byte) bool {
	if len(signature) != 8+ed25519.SignatureSize {
		return false
	}
	seconds := binary.BigEndian.Uint64(signature)
	message := fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", seconds, checkpoint)
	return seconds <= math.MaxInt64 && ed25519.Verify(w.public[:], message, signature[8:])
}

// cosignature finds the witness's cosignature on a signed checkpoint. It returns the line and its time, by the witness's
// clock. ok reports whether the one found is valid.
func (w *Witness) cosignature(signed []byte) (line string, at time.Time, found, ok bool) {
	body, rest, _ := strings.Cut(string(signed), "\n\n")
	for line := range strings.Lines(rest) {
		name, raw, err := parseSignature(strings.TrimSuffix(line, "\n"))
		if err != nil || name != w.name || binary.BigEndian.Uint32(raw) != w.hash {
			continue
		}
		if !w.Verify([]byte(body+"\n"), raw[4:]) {
			found = true
			continue
		}
		return line, time.Unix(int64(binary.BigEndian.Uint64(raw[4:])), 0).UTC(), true, true
	}
	return "", time.Time{}, found, false
}

var _ note.Verifier = (*Witness)(nil)
