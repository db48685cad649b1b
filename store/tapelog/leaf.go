package tapelog

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Kind says what a leaf records.
type Kind string

// The kinds of leaves.
const (
	KindStart      Kind = "start"      // a recorder began; who, where and with what limits
	KindSegment    Kind = "segment"    // a segment was begun
	KindCheckpoint Kind = "checkpoint" // all is well: the state of the active segment, every 10 s
	KindSeal       Kind = "seal"       // a segment is finished: its hash and size
	KindExpiry     Kind = "expiry"     // retention removed a segment
	KindHold       Kind = "hold"       // a segment was set aside for good
	KindRelease    Kind = "release"    // a hold was lifted
	KindGap        Kind = "gap"        // a span of time in which connections were lost
	KindPrune      Kind = "prune"      // leaves From to To, but for the first of each part, were removed: all they told of has expired
	KindStop       Kind = "stop"       // the recorder ended as it should
)

func (k Kind) known() bool {
	switch k {
	case KindStart, KindSegment, KindCheckpoint, KindSeal, KindExpiry, KindHold, KindRelease, KindGap, KindPrune, KindStop:
		return true
	}
	return false
}

// Hash is a SHA-256 sum. The zero value stands for none.
type Hash [32]byte

// Leaf is one line of the log. Fields that are zero are not written. Seq,
// Part and Next are the log's own: [Log.Append] sets them.
type Leaf struct {
	Seq  int64
	Kind Kind

	Boot uint64 // when: ns of CLOCK_BOOTTIME
	Real int64  // when: ns since the Unix epoch, CLOCK_REALTIME at the same instant
	Sync string // what the kernel said of its clock: synchronized, unsynchronized

	Suspended uint64 // ns that the host has slept since it was started: CLOCK_BOOTTIME minus CLOCK_MONOTONIC

	Tape, Host, Machine, BootID, Version, Backend string // start: who records

	MaxSize int64 // start, expiry: the most that the tape may take, bytes
	MaxAge  int64 // start: how long a segment is kept, ns

	Segment  int   // the segment it is about
	Previous int   // segment: the one before it
	SHA256   Hash  // of the segment's file
	PageSums Hash  // seal: of the sums of the pages of the segment's file
	Size     int64 // of the segment's file, bytes

	Batches int64 // commits of the segment so far
	Chain   Hash  // over those commits

	Seen, Stored, Coalesced, Lost uint64 // counters of the run, or Lost of the gap

	Rows, Connects int64 // seal, expiry: connections that the segment holds, and connects that they stand for; -1 unknown

	From, To int64  // the span it is about: ns of CLOCK_BOOTTIME for a gap, leaves for prune, else ns since the Unix epoch
	Cause    string // one word: why
	Detail   string // for people

	Part Hash                        // first leaf of a part: the key that signs how the next part begins
	Next [ed25519.PublicKeySize]byte // the key that the next leaf is signed with
}

// maxLine bounds a line of the log, signature included, bytes.
const maxLine = 32 << 10

// errLeaf is what every error of ParseLeaf is.
var errLeaf = errors.New("not a leaf of a log")

// field is how one field of a leaf is written: after its name and "=", or not at
// all when get returns "".
type field struct {
	name string
	get  func(*Leaf) string
	set  func(*Leaf, string) error
}

// fields returns the fields in the order in which they are written.
func fields() []field {
	return []field{
		number("boot", func(l *Leaf) *uint64 { return &l.Boot }),
		integer("real", func(l *Leaf) *int64 { return &l.Real }),
		number("suspended", func(l *Leaf) *uint64 { return &l.Suspended }),
		text("sync", func(l *Leaf) *string { return &l.Sync }),
		text("tape", func(l *Leaf) *string { return &l.Tape }),
		text("host", func(l *Leaf) *string { return &l.Host }),
		text("machine", func(l *Leaf) *string { return &l.Machine }),
		text("boot_id", func(l *Leaf) *string { return &l.BootID }),
		text("version", func(l *Leaf) *string { return &l.Version }),
		text("backend", func(l *Leaf) *string { return &l.Backend }),
		integer("max_size", func(l *Leaf) *int64 { return &l.MaxSize }),
		integer("max_age", func(l *Leaf) *int64 { return &l.MaxAge }),
		integer("segment", func(l *Leaf) *int { return &l.Segment }),
		integer("previous", func(l *Leaf) *int { return &l.Previous }),
		sum("sha256", func(l *Leaf) *Hash { return &l.SHA256 }),
		sum("page_sums", func(l *Leaf) *Hash { return &l.PageSums }),
		integer("size", func(l *Leaf) *int64 { return &l.Size }),
		integer("batches", func(l *Leaf) *int64 { return &l.Batches }),
		sum("chain", func(l *Leaf) *Hash { return &l.Chain }),
		number("seen", func(l *Leaf) *uint64 { return &l.Seen }),
		number("stored", func(l *Leaf) *uint64 { return &l.Stored }),
		number("coalesced", func(l *Leaf) *uint64 { return &l.Coalesced }),
		number("lost", func(l *Leaf) *uint64 { return &l.Lost }),
		integer("rows", func(l *Leaf) *int64 { return &l.Rows }),
		integer("connects", func(l *Leaf) *int64 { return &l.Connects }),
		integer("from", func(l *Leaf) *int64 { return &l.From }),
		integer("to", func(l *Leaf) *int64 { return &l.To }),
		text("cause", func(l *Leaf) *string { return &l.Cause }),
		text("detail", func(l *Leaf) *string { return &l.Detail }),
		sum("part", func(l *Leaf) *Hash { return &l.Part }),
	}
}

func number(name string, at func(*Leaf) *uint64) field {
	return field{name,
		func(l *Leaf) string {
			if *at(l) == 0 {
				return ""
			}
			return strconv.FormatUint(*at(l), 10)
		},
		func(l *Leaf, s string) (err error) { *at(l), err = strconv.ParseUint(s, 10, 64); return err }}
}

func integer[T int | int64](name string, at func(*Leaf) *T) field {
	return field{name,
		func(l *Leaf) string {
			if *at(l) == 0 {
				return ""
			}
			return strconv.FormatInt(int64(*at(l)), 10)
		},
		func(l *Leaf, s string) error {
			n, err := strconv.ParseInt(s, 10, 64)
			*at(l) = T(n)
			return err
		}}
}

func text(name string, at func(*Leaf) *string) field {
	return field{name,
		func(l *Leaf) string { return escape(*at(l)) },
		func(l *Leaf, s string) (err error) { *at(l), err = unescape(s); return err }}
}

func sum(name string, at func(*Leaf) *Hash) field {
	return field{name,
		func(l *Leaf) string {
			if *at(l) == (Hash{}) {
				return ""
			}
			return hex.EncodeToString(at(l)[:])
		},
		func(l *Leaf, s string) error {
			raw, err := hex.DecodeString(s)
			if err == nil && len(raw) != len(Hash{}) {
				err = errLeaf
			}
			copy(at(l)[:], raw)
			return err
		}}
}

// String returns the leaf as it is written and hashed: one line of printable
// ASCII without its end, the words parted by single blanks:
//
//	SEQ KIND NAME=VALUE … next=KEY
func (l *Leaf) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s", l.Seq, l.Kind)
	for _, f := range fields() {
		if value := f.get(l); value != "" {
			fmt.Fprintf(&b, " %s=%s", f.name, value)
		}
	}
	fmt.Fprintf(&b, " next=%s", base64.StdEncoding.EncodeToString(l.Next[:]))
	return b.String()
}

// ParseLeaf reads what String wrote. It takes nothing that String would not
// write: a leaf has one form, and so one hash.
func ParseLeaf(line string) (Leaf, error) {
	var l Leaf
	if len(line) > maxLine {
		return Leaf{}, fmt.Errorf("%w: longer than %d bytes", errLeaf, maxLine)
	}
	words := strings.Split(line, " ")
	if len(words) < 3 {
		return Leaf{}, errLeaf
	}
	var err error
	if l.Seq, err = strconv.ParseInt(words[0], 10, 64); err != nil || l.Seq < 0 {
		return Leaf{}, fmt.Errorf("%w: no number", errLeaf)
	}
	if l.Kind = Kind(words[1]); !l.Kind.known() {
		return Leaf{}, fmt.Errorf("%w: unknown kind %q", errLeaf, words[1])
	}
	last := words[len(words)-1]
	key, ok := strings.CutPrefix(last, "next=")
	raw, err := base64.StdEncoding.Strict().DecodeString(key)
	if !ok || err != nil || len(raw) != len(l.Next) {
		return Leaf{}, fmt.Errorf("%w: no key", errLeaf)
	}
	copy(l.Next[:], raw)
	rest := words[2 : len(words)-1]
	for _, f := range fields() {
		if len(rest) == 0 {
			break
		}
		name, value, ok := strings.Cut(rest[0], "=")
		if !ok || name != f.name {
			continue
		}
		if err := f.set(&l, value); err != nil {
			return Leaf{}, fmt.Errorf("%w: bad %s", errLeaf, f.name)
		}
		rest = rest[1:]
	}
	if len(rest) > 0 {
		return Leaf{}, fmt.Errorf("%w: unexpected %q", errLeaf, rest[0])
	}
	if l.String() != line {
		return Leaf{}, fmt.Errorf("%w: not written as it should be", errLeaf)
	}
	return l, nil
}

// escape writes every byte that is not printable ASCII, a blank or a percent
// sign, as %XX.
func escape(s string) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c > '~' || c == '%' {
			b.WriteByte('%')
			b.WriteByte(digits[c>>4])
			b.WriteByte(digits[c&15])
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

func unescape(s string) (string, error) {
	if !strings.Contains(s, "%") {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", errLeaf
		}
		raw, err := hex.DecodeString(s[i+1 : i+3])
		if err != nil {
			return "", errLeaf
		}
		b.WriteByte(raw[0])
		i += 2
	}
	return b.String(), nil
}
