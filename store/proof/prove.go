package proof

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/tapedir"
	"github.com/conntape/conntape/store/tapelog"
)

// ProofOptions are the keys that a proof is verified with. Each must have signed.
type ProofOptions = tapelog.ProofOptions

// ErrUnproven means that a proof is invalid, or is of another file.
var ErrUnproven = tapelog.ErrUnproven

// mostProof is the longest proof, in bytes.
const mostProof = tapelog.MostProof

// ProvenSegment is the statement of a proof about a segment.
type ProvenSegment struct {
	File     string      `json:"file"`
	Segment  int         `json:"segment"`
	SHA256   string      `json:"sha256"`
	Bytes    int64       `json:"bytes"`
	Rows     int64       `json:"rows"`
	From     time.Time   `json:"from,omitzero"`
	To       time.Time   `json:"to,omitzero"`
	SealedAt time.Time   `json:"sealed_at,omitzero"` // by the recorder's wall clock
	Log      string      `json:"log"`
	Leaf     int64       `json:"leaf"`
	Leaves   int64       `json:"leaves"` // of the log, when the proof was signed
	Signed   bool        `json:"signed"` // by the log's stable key
	Cosigned []Witnessed `json:"cosigned"`
}

// ProveSegment returns a proof (C2SP tlog-proof) that a segment of the tape in dir is as it was sealed. VerifyProof
// needs neither the tape nor its log. The segment's file may be missing; if it exists and differs from its seal, that is
// an error.
func ProveSegment(ctx context.Context, dir string, number int) ([]byte, error) {
	fail := func(err error, hint string) ([]byte, error) {
		return nil, &failure.Error{Op: "prove segment", Path: filepath.Join(dir, tapedir.SegmentName(number)), Err: bareLog(err), Hint: hint}
	}
	proof, seal, err := tapelog.Prove(filepath.Join(dir, tapedir.LogDir), number)
	switch {
	case errors.Is(err, tapelog.ErrNotSealed):
		return fail(err, "only sealed segments can be proven; conntape rotate seals the one that is recorded")
	case errors.Is(err, fs.ErrPermission):
		return fail(err, "run it as root, or after conntape checkpoint --push to a witness: the stable key is readable for the recorder's user alone")
	case errors.Is(err, tapelog.ErrPruned):
		return fail(err, "")
	case err != nil:
		return fail(err, cosignHint(dir, err))
	}
	err = isSealed(ctx, filepath.Join(dir, tapedir.SegmentName(number)), seal)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fail(err, "conntape verify tells what is wrong with the tape")
	}
	return proof, nil
}

// VerifyProof verifies a proof by ProveSegment, and that the file at path is the proven segment. If not, the error is
// ErrUnproven.
func VerifyProof(ctx context.Context, proof []byte, path string, o ProofOptions) (*ProvenSegment, error) {
	p, err := tapelog.VerifyProof(proof, o)
	if errors.Is(err, ErrUnproven) {
		return nil, err
	}
	if err != nil {
		return nil, &failure.Error{Op: "verify proof", Err: err, Hint: "give the key that conntape checkpoint --verifier-key printed with --key, or that of a witness with --witness"}
	}
	if err := isSealed(ctx, path, &p.Leaf); err != nil {
		if errors.Is(err, ErrUnproven) {
			return nil, err
		}
		return nil, &failure.Error{Op: "verify segment", Path: path, Err: failure.Bare(err), Hint: "name the file of the segment that the proof is of"}
	}
	out := &ProvenSegment{File: path, Segment: p.Leaf.Segment, SHA256: hex.EncodeToString(p.Leaf.SHA256[:]), Bytes: p.Leaf.Size, Rows: p.Leaf.Rows,
		From: segment.WallTime(p.Leaf.From), To: segment.WallTime(p.Leaf.To), SealedAt: segment.WallTime(p.Leaf.Real),
		Log: p.Checkpoint.Origin, Leaf: p.Leaf.Seq, Leaves: p.Checkpoint.Size, Signed: p.Signed, Cosigned: []Witnessed{}}
	for _, c := range p.Cosigned {
		out.Cosigned = append(out.Cosigned, Witnessed{c.Witness, c.Leaves, c.At})
	}
	return out, nil
}

// ReadProof reads a proof from a file.
func ReadProof(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, &failure.Error{Op: "read proof", Path: path, Err: failure.Bare(err)}
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, mostProof+1))
	if err != nil {
		return nil, &failure.Error{Op: "read proof", Path: path, Err: failure.Bare(err)}
	}
	return text, nil
}

// isSealed compares a file with its seal. The error is ErrUnproven if they differ.
func isSealed(ctx context.Context, path string, seal *tapelog.Leaf) error {
	f, err := tapedir.OpenForCopy(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() != seal.Size { // too large or small: it is not read
		return fmt.Errorf("%w: the file has %d bytes, and segment %d had %d when it was sealed", ErrUnproven, info.Size(), seal.Segment, seal.Size)
	}
	hash := sha256.New()
	if _, err := io.Copy(hash, &contextReader{ctx, f}); err != nil {
		return err
	}
	if tapelog.Hash(hash.Sum(nil)) != seal.SHA256 {
		return fmt.Errorf("%w: the file is not what was sealed as segment %d", ErrUnproven, seal.Segment)
	}
	return nil
}

// contextReader reads until ctx is done.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(b)
}
