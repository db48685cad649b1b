package tapelog

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/conntape/conntape/store/tapelog/vault"
)

// A log consists of numbered parts. A part begins with a header that says where in the tree it begins, and has one line
// for each leaf: the leaf, a blank, "sig=" and the signature. A new part begins when the last is large enough or could
// not be written; then the failed line is repeated in the new part, byte for byte.

const (
	partMagic = "conntape log 1"
	// partLeaves is the number of leaves in a part: a week of checkpoints, some 18 MB.
	partLeaves = 1 << 16
)

// partName returns the file name of part n.
func partName(n int) string { return fmt.Sprintf("%08d.log", n) }

// parsePartName returns the number in a part's file name.
func parsePartName(name string) (int, bool) {
	digits, ok := strings.CutSuffix(name, ".log")
	n, err := strconv.Atoi(digits)
	return n, ok && err == nil && n > 0 && partName(n) == name
}

// partNumbers returns the numbers of the parts among names, in order.
func partNumbers(names []string) []int {
	var numbers []int
	for _, name := range names { // sorted, and so are numbers of eight digits
		if n, ok := parsePartName(name); ok {
			numbers = append(numbers, n)
		}
	}
	return numbers
}

// partHeader is the header of a part.
type partHeader struct {
	origin string
	tree   *tree                       // of the leaves before this part
	key    [ed25519.PublicKeySize]byte // of this part's first leaf

	// By the key announced in the first leaf of the previous part. So a part is linked to the one before even if that
	// one's other leaves are gone. Zeros in the first part of a log.
	signature []byte
}

func (h *partHeader) String() string {
	return fmt.Sprintf("%ssig %s\n\n", h.signed(), base64.StdEncoding.EncodeToString(h.signature))
}

// signed returns the signed lines.
func (h *partHeader) signed() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\norigin %s\nfirst %d\nkey %s\ntree", partMagic, h.origin, h.tree.size, verifierKey(h.origin, h.key))
	for _, hash := range h.tree.hashes {
		fmt.Fprintf(&b, " %s", hash)
	}
	b.WriteByte('\n')
	return b.String()
}

// sign signs the header with the part key of s.
func (h *partHeader) sign(s *state) {
	h.signature = make([]byte, ed25519.SignatureSize)
	if h.tree.size > 0 {
		h.signature = s.vault.Sign(s.slot(), vault.Part, []byte(h.signed()))
	}
}

// signedBy reports whether the signature is by this key.
func (h *partHeader) signedBy(key Hash) bool {
	if h.tree.size == 0 {
		return bytes.Equal(h.signature, make([]byte, ed25519.SignatureSize))
	}
	return ed25519.Verify(key[:], []byte(h.signed()), h.signature)
}

// errPart: the file has no header of a part.
var errPart = errors.New("not a part of a log")

// parsePartHeader parses a header at the start of text and returns its length.
func parsePartHeader(text []byte) (*partHeader, int, error) {
	end := bytes.Index(text[:min(len(text), maxLine)], []byte("\n\n"))
	if end < 0 {
		return nil, 0, errPart
	}
	lines := strings.Split(string(text[:end]), "\n")
	if len(lines) != 6 || lines[0] != partMagic {
		return nil, 0, errPart
	}
	var words [5][]string
	for i, name := range []string{"origin", "first", "key", "tree", "sig"} {
		all := strings.Split(lines[i+1], " ")
		if all[0] != name || i != 3 && len(all) != 2 {
			return nil, 0, errPart
		}
		words[i] = all[1:]
	}
	first, err := strconv.ParseInt(words[1][0], 10, 64)
	if err != nil {
		return nil, 0, errPart
	}
	h := &partHeader{origin: words[0][0]}
	var name string
	if name, h.key, err = ParseKey(words[2][0]); err != nil || name != h.origin {
		return nil, 0, errPart
	}
	if h.tree, err = parseTree(first, words[3]); err != nil {
		return nil, 0, errPart
	}
	h.signature, err = base64.StdEncoding.Strict().DecodeString(words[4][0])
	if err != nil || len(h.signature) != ed25519.SignatureSize || h.String() != string(text[:end+2]) {
		return nil, 0, errPart
	}
	return h, end + 2, nil
}

// entry is one line of a part.
type entry struct {
	leaf      Leaf
	text      string // of the leaf, as hashed
	signature []byte
	end       int64 // offset of the next line
}

const signatureWord = " sig="

// formatEntry returns the line of a leaf.
func formatEntry(leaf string, signature []byte) []byte {
	line := append([]byte(leaf), signatureWord...)
	line = base64.StdEncoding.AppendEncode(line, signature)
	return append(line, '\n')
}

// parseEntry reads a line without its end.
func parseEntry(line []byte) (e entry, err error) {
	at := bytes.LastIndex(line, []byte(signatureWord))
	if at < 0 {
		return e, fmt.Errorf("%w: no signature", errLeaf)
	}
	e.text = string(line[:at])
	e.signature, err = base64.StdEncoding.Strict().DecodeString(string(line[at+len(signatureWord):]))
	if err != nil || len(e.signature) != ed25519.SignatureSize {
		return e, fmt.Errorf("%w: bad signature", errLeaf)
	}
	e.leaf, err = ParseLeaf(e.text)
	return e, err
}

// partReader reads a part's lines.
type partReader struct {
	header *partHeader
	in     *bufio.Reader
	at     int64 // offset of the next line
	leaves int   // read so far
	errors int   // damaged lines so far
	junk   bool  // the rest cannot be a log and is not read
}

// next returns errLine for a line that is no leaf, finished or not. It returns errJunk once for content that no recorder
// and no crash leaves: a line longer than possible, or more leaves or damaged lines than a part can have. After that it
// returns io.EOF, because somebody may have made the file arbitrarily large.
var (
	errLine = errors.New("damaged line")
	errJunk = errors.New("no log from here on")
)

// Limits of a part: leaves, and lines that are no leaves.
const (
	mostLeaves = 2 * partLeaves
	mostErrors = 1000
)

// readPart reads the header of a part; the error is errPart if there is none.
func readPart(r io.Reader) (*partReader, error) {
	p := &partReader{in: bufio.NewReaderSize(r, 2*maxLine)}
	start, err := p.in.Peek(maxLine)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read log: %w", err)
	}
	var n int
	if p.header, n, err = parsePartHeader(start); err != nil {
		return nil, err
	}
	if _, err := p.in.Discard(n); err != nil {
		return nil, fmt.Errorf("read log: %w", err)
	}
	p.at = int64(n)
	return p, nil
}

// next returns the next line. At the end the error is io.EOF; for a line that is no leaf it is errLine.
func (p *partReader) next() (entry, error) {
	if p.junk {
		return entry{}, io.EOF
	}
	line, err := p.in.ReadSlice('\n')
	p.at += int64(len(line))
	switch {
	case errors.Is(err, bufio.ErrBufferFull), err == nil && (p.leaves == mostLeaves || p.errors == mostErrors):
		p.junk = true
		return entry{}, errJunk
	case errors.Is(err, io.EOF) && len(line) == 0:
		return entry{}, io.EOF
	case errors.Is(err, io.EOF):
		return entry{}, errLine // cut short
	case err != nil:
		return entry{}, fmt.Errorf("read log: %w", err)
	}
	e, err := parseEntry(line[:len(line)-1])
	if err != nil {
		p.errors++
		return entry{}, errLine
	}
	e.end = p.at
	p.leaves++
	return e, nil
}

// tail describes the end of a part.
type tail struct {
	first   *entry // the first leaf; nil: none
	last    *entry // the last leaf
	end     int64  // offset after it, or after the header
	damaged bool   // before it are lines that are no leaves, or not in sequence
}

// readTail reads a part to its end.
func (p *partReader) readTail() (tail, error) {
	t := tail{end: p.at}
	want, bad := p.header.tree.size, false
	for {
		e, err := p.next()
		switch {
		case errors.Is(err, io.EOF):
			return t, nil
		case errors.Is(err, errLine):
			bad = true
			continue
		case errors.Is(err, errJunk):
			t.damaged = true
			continue
		case err != nil:
			return tail{}, err
		}
		if bad || e.leaf.Seq != want {
			t.damaged = true
		}
		want = e.leaf.Seq + 1
		if t.first == nil {
			t.first = &e
		}
		t.last, t.end = &e, e.end
	}
}
