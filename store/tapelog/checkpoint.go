package tapelog

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// originPrefix begins the first line of every checkpoint, before the log's id.
const originPrefix = "conntape/"

// Checkpoint is the head of a log at a given size.
type Checkpoint struct {
	Origin string
	Size   int64
	Root   tlog.Hash
}

// String returns the three signed lines (C2SP tlog-checkpoint).
func (c Checkpoint) String() string {
	return fmt.Sprintf("%s\n%d\n%s\n", c.Origin, c.Size, c.Root)
}

// All errors of ParseCheckpoint are errCheckpoint.
var errCheckpoint = errors.New("not a checkpoint")

// ParseCheckpoint parses the output of String and refuses any other form.
func ParseCheckpoint(text string) (Checkpoint, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 || lines[3] != "" {
		return Checkpoint{}, fmt.Errorf("%w: it has not three lines", errCheckpoint)
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 {
		return Checkpoint{}, fmt.Errorf("%w: bad size", errCheckpoint)
	}
	root, err := tlog.ParseHash(lines[2])
	if err != nil {
		return Checkpoint{}, fmt.Errorf("%w: bad root", errCheckpoint)
	}
	c := Checkpoint{lines[0], size, root}
	if !validOrigin(c.Origin) || c.String() != text {
		return Checkpoint{}, fmt.Errorf("%w: not written as it should be", errCheckpoint)
	}
	return c, nil
}

// validOrigin reports whether origin may be the first line of a checkpoint and a key's name.
func validOrigin(origin string) bool {
	id, ok := strings.CutPrefix(origin, originPrefix)
	if !ok || id == "" || len(id) > 64 {
		return false
	}
	for _, r := range id {
		if !strings.ContainsRune("0123456789abcdefghijklmnopqrstuvwxyz-", r) {
			return false
		}
	}
	return true
}

// ParseHead parses a signed checkpoint, as written by [Log.Head] and conntape checkpoint. It returns the leaf's
// signature without verifying it: the key is in the log. Other signatures may follow: of the stable key and of
// witnesses.
func ParseHead(text []byte) (c Checkpoint, signature []byte, err error) {
	if len(text) > maxLine {
		return c, nil, fmt.Errorf("%w: longer than %d bytes", errCheckpoint, maxLine)
	}
	body, rest, ok := strings.Cut(string(text), "\n\n")
	if !ok {
		return c, nil, fmt.Errorf("%w: it is not signed", errCheckpoint)
	}
	if c, err = ParseCheckpoint(body + "\n"); err != nil {
		return c, nil, err
	}
	lines, ok := strings.CutSuffix(rest, "\n")
	if !ok {
		return c, nil, fmt.Errorf("%w: it has no signature", errCheckpoint)
	}
	for line := range strings.SplitSeq(lines, "\n") {
		name, raw, err := parseSignature(line)
		switch {
		case err != nil:
			return c, nil, err
		case signature != nil: // the first one is the leaf's
		case name != c.Origin:
			return c, nil, fmt.Errorf("%w: its signature is of another origin", errCheckpoint)
		case len(raw) != 4+ed25519.SignatureSize:
			return c, nil, fmt.Errorf("%w: bad signature", errCheckpoint)
		default:
			signature = raw[4:]
		}
	}
	return c, signature, nil
}

// parseSignature parses a signature line: the key's name and its hash (four bytes), and the signature.
func parseSignature(line string) (name string, raw []byte, err error) {
	words := strings.Split(line, " ")
	if len(words) != 3 || words[0] != "—" || words[1] == "" {
		return "", nil, fmt.Errorf("%w: a signature is not written as it should be", errCheckpoint)
	}
	raw, err = base64.StdEncoding.Strict().DecodeString(words[2])
	if err != nil || len(raw) < 5 {
		return "", nil, fmt.Errorf("%w: bad signature", errCheckpoint)
	}
	return words[1], raw, nil
}

// verifierKey formats a public key as NAME+HASH+KEY, the encoding of golang.org/x/mod/sumdb/note.
func verifierKey(name string, key [ed25519.PublicKeySize]byte) string {
	text, err := note.NewEd25519VerifierKey(name, key[:])
	if err != nil {
		return "" // only a key of another length is refused
	}
	return text
}

// ParseKey parses the output of verifierKey and returns the origin of the key's log.
func ParseKey(text string) (origin string, key [ed25519.PublicKeySize]byte, err error) {
	errKey := errors.New("not a verifier key of a log")
	name, rest, ok := strings.Cut(text, "+")
	if !ok || !validOrigin(name) {
		return "", key, errKey
	}
	_, data, ok := strings.Cut(rest, "+")
	raw, err := base64.StdEncoding.Strict().DecodeString(data)
	if !ok || err != nil || len(raw) != 1+len(key) {
		return "", key, errKey
	}
	copy(key[:], raw[1:])
	if verifierKey(name, key) != text {
		return "", key, errKey
	}
	return name, key, nil
}

// formatHead returns the signed checkpoint, a note to be kept.
func formatHead(c Checkpoint, key [ed25519.PublicKeySize]byte, signature []byte) ([]byte, error) {
	verifier, err := note.NewVerifier(verifierKey(c.Origin, key))
	if err != nil {
		return nil, fmt.Errorf("format checkpoint: %w", err)
	}
	text := []byte(c.String())
	done := finished{name: c.Origin, hash: verifier.KeyHash(), signature: signature}
	signed, err := note.Sign(&note.Note{Text: string(text)}, &done)
	if err != nil {
		return nil, fmt.Errorf("format checkpoint: %w", err)
	}
	return signed, nil
}

// finished is a note.Signer for an existing signature.
type finished struct {
	name      string
	hash      uint32
	signature []byte
}

// Name returns the name of the key.
func (f *finished) Name() string { return f.name }

// KeyHash returns the key's hash in signature lines.
func (f *finished) KeyHash() uint32 { return f.hash }

// Sign returns the existing signature.
func (f *finished) Sign([]byte) ([]byte, error) { return f.signature, nil }
