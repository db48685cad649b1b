package tapelog

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// A proof (C2SP tlog-proof) shows that a leaf is in a log, without the tape or its log. Its extra data is the leaf; the
// record hash is of the leaf.

const proofMagic = "c2sp.org/tlog-proof@v1"

// MostProof limits a proof, in bytes: a leaf in base64, 63 hashes, and a signed checkpoint with the cosignatures of 32
// witnesses.
const MostProof = 2*maxLine + 64*64

// ErrNotSealed means that the log has no seal of the segment.
var ErrNotSealed = errors.New("the log has no seal of that segment")

// Prove returns the seal of a segment and a proof of it. The proof has the newest later checkpoint cosigned by a
// witness; if there is none, the head of the log, signed by the stable key, which only its owner can read.
func Prove(dir string, segment int) ([]byte, *Leaf, error) {
	return prove(&directory{path: dir}, segment)
}

func prove(fsys files, segment int) ([]byte, *Leaf, error) {
	defer fsys.close()
	text, _, err := lastHead(fsys)
	if err != nil {
		return nil, nil, err
	}
	head, _, err := ParseHead(text)
	if err != nil {
		return nil, nil, err
	}
	leaf, err := sealOf(fsys, segment)
	if err != nil {
		return nil, nil, err
	}
	c, signatures, err := checkpointAfter(fsys, head, leaf.Seq)
	if err != nil {
		return nil, nil, err
	}
	h, err := readHistory(fsys, c.Origin, leaf.Seq, c.Size)
	if err != nil {
		return nil, nil, err
	}
	record, err := tlog.ProveRecord(c.Size, leaf.Seq, h)
	if err != nil {
		return nil, nil, fmt.Errorf("prove leaf %d: %w", leaf.Seq, err)
	}
	if err := tlog.CheckRecord(record, c.Size, c.Root, leaf.Seq, tlog.RecordHash([]byte(leaf.String()))); err != nil {
		return nil, nil, errNotThere
	}
	return formatProof(leaf.String(), leaf.Seq, record, c.String(), signatures), leaf, nil
}

// sealOf returns a segment's first seal.
func sealOf(fsys files, segment int) (*Leaf, error) {
	var seal *Leaf
	names, err := fsys.list()
	if err != nil {
		return nil, fmt.Errorf("list log: %w", err)
	}
	for _, n := range partNumbers(names) {
		f, err := fsys.read(partName(n))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("open log: %w", err)
		}
		err = scanPart(f, KindSeal, func(l Leaf) error {
			if seal == nil && l.Segment == segment {
				seal = &l
			}
			return nil
		})
		f.Close()
		if err != nil {
			return nil, err
		}
	}
	if seal == nil {
		return nil, ErrNotSealed
	}
	return seal, nil
}

// checkpointAfter returns a checkpoint that includes this leaf, with the signatures that can be verified without the
// log.
func checkpointAfter(fsys files, head Checkpoint, leaf int64) (c Checkpoint, signatures string, err error) {
	kept, err := readCosigned(fsys)
	if err != nil {
		return c, "", err
	}
	for _, signed := range kept {
		k, _, err := ParseHead(signed)
		if err == nil && k.Origin == head.Origin && leaf < k.Size && k.Size <= head.Size && k.Size > c.Size {
			_, below, _ := strings.Cut(string(signed), "\n\n")
			_, below, _ = strings.Cut(below, "\n") // the leaf's signature needs a key from the log
			c, signatures = k, below
		}
	}
	if signatures != "" {
		return c, signatures, nil
	}
	f, key, err := openStable(fsys, head.Origin)
	if err != nil {
		return c, "", err
	}
	defer f.Close()
	signed, err := note.Sign(&note.Note{Text: head.String()}, key)
	if err != nil {
		return c, "", fmt.Errorf("sign checkpoint: %w", err)
	}
	_, signatures, _ = strings.Cut(string(signed), "\n\n")
	return head, signatures, nil
}

func formatProof(leaf string, index int64, record tlog.RecordProof, checkpoint, signatures string) []byte {
	out := fmt.Appendf(nil, "%s\nextra %s\nindex %d\n", proofMagic, base64.StdEncoding.EncodeToString([]byte(leaf)), index)
	for _, h := range record {
		out = fmt.Appendf(out, "%s\n", h)
	}
	return fmt.Appendf(out, "\n%s\n%s", checkpoint, signatures)
}

// Proven is the statement of a proof, and its signers.
type Proven struct {
	Leaf       Leaf
	Checkpoint Checkpoint
	Signed     bool       // by the given stable key
	Cosigned   []Cosigned // by the given witnesses
}

// ProofOptions are the verifier's keys, from elsewhere. Each given key must have signed; at least one is required.
type ProofOptions struct {
	Key       string   // stable key of the log, "" unknown
	Witnesses []string // verifier keys of witnesses
}

// ErrUnproven is what all errors of VerifyProof about the proof are; errors about the keys are not.
var ErrUnproven = errors.New("nothing is proven")

// VerifyProof verifies a proof by Prove with only the keys. It refuses additional lines and any other form.
func VerifyProof(text []byte, o ProofOptions) (*Proven, error) {
	if o.Key == "" && len(o.Witnesses) == 0 {
		return nil, errors.New("a proof is verified with the stable key of the log, or the key of a witness")
	}
	p, record, signatures, err := parseProof(string(text))
	if err != nil {
		return nil, err
	}
	hash := tlog.RecordHash([]byte(p.Leaf.String()))
	if err := tlog.CheckRecord(record, p.Checkpoint.Size, p.Checkpoint.Root, p.Leaf.Seq, hash); err != nil {
		return nil, fmt.Errorf("%w: the seal is not in the log of this checkpoint, so the proof was altered", ErrUnproven)
	}
	if err := p.checkKey(o.Key, signatures); err != nil {
		return nil, err
	}
	for _, key := range o.Witnesses {
		w, err := ParseWitness(key)
		if err != nil {
			return nil, err
		}
		_, at, _, ok := w.cosignature([]byte(p.Checkpoint.String() + "\n" + signatures))
		if !ok {
			return nil, fmt.Errorf("%w: %s has not cosigned this proof, or it was altered", ErrUnproven, w.Name())
		}
		p.Cosigned = append(p.Cosigned, Cosigned{Witness: w.Name(), Leaves: p.Checkpoint.Size, At: at})
	}
	return p, nil
}

// checkKey verifies the signature of the stable key.
func (p *Proven) checkKey(key, signatures string) error {
	if key == "" {
		return nil
	}
	origin, _, err := ParseKey(key)
	if err != nil {
		return err
	}
	if origin != p.Checkpoint.Origin {
		return fmt.Errorf("%w: the proof is of %s, and the key of %s", ErrUnproven, p.Checkpoint.Origin, origin)
	}
	verifier, err := note.NewVerifier(key)
	if err != nil {
		return fmt.Errorf("read key: %w", err)
	}
	if _, err := note.Open([]byte(p.Checkpoint.String()+"\n"+signatures), note.VerifierList(verifier)); err != nil {
		return fmt.Errorf("%w: the proof is not signed by that key, or it was altered", ErrUnproven)
	}
	p.Signed = true
	return nil
}

// parseProof parses the output of formatProof and refuses any other form.
func parseProof(text string) (*Proven, tlog.RecordProof, string, error) {
	refuse := func(why string) (*Proven, tlog.RecordProof, string, error) {
		return nil, nil, "", fmt.Errorf("%w: this is no proof of a segment: %s", ErrUnproven, why)
	}
	if len(text) > MostProof {
		return refuse("it is too long")
	}
	blocks := strings.Split(text, "\n\n")
	if len(blocks) != 3 {
		return refuse("it has not three blocks of lines")
	}
	lines := strings.Split(blocks[0], "\n")
	if len(lines) < 3 || lines[0] != proofMagic {
		return refuse("it does not begin with " + proofMagic)
	}
	extra, ok := strings.CutPrefix(lines[1], "extra ")
	raw, err := base64.StdEncoding.Strict().DecodeString(extra)
	if !ok || err != nil {
		return refuse("it has no seal")
	}
	p := &Proven{}
	if p.Leaf, err = ParseLeaf(string(raw)); err != nil || p.Leaf.Kind != KindSeal || lines[2] != "index "+strconv.FormatInt(p.Leaf.Seq, 10) {
		return refuse("it has no seal")
	}
	if p.Checkpoint, err = ParseCheckpoint(blocks[1] + "\n"); err != nil {
		return refuse(err.Error())
	}
	var record tlog.RecordProof
	for _, line := range lines[3:] {
		h, err := tlog.ParseHash(line)
		if err != nil || len(record) == 63 {
			return refuse("bad hash")
		}
		record = append(record, h)
	}
	signatures, ok := strings.CutSuffix(blocks[2], "\n")
	if !ok {
		return refuse("it is cut short")
	}
	for line := range strings.SplitSeq(signatures, "\n") {
		if _, _, err := parseSignature(line); err != nil {
			return refuse(err.Error())
		}
	}
	if string(formatProof(p.Leaf.String(), p.Leaf.Seq, record, p.Checkpoint.String(), signatures+"\n")) != text {
		return refuse("it is not written as it should be")
	}
	return p, record, signatures + "\n", nil
}
