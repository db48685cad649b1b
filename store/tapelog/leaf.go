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

// Kind is the kind of a leaf.
type Kind string

// Kinds of leaves.
const (
	KindStart      Kind = "start"      // a recorder started: who, where, with which limits
	KindSegment    Kind = "segment"    // a segment began
	KindCheckpoint Kind = "checkpoint" // state of the active segment, every 10 s
	KindSeal       Kind = "seal"       // a segment was sealed: its hash and size
	KindExpiry     Kind = "expiry"     // retention removed a segment
	KindHold       Kind = "hold"       // a segment was put under legal hold
	KindRelease    Kind = "release"    // a hold was released
	KindGap        Kind = "gap"        // a span of time in which connections were lost
	KindPrune      Kind = "prune"      // leaves From to To, except the first of each part, were removed: their segments have expired
	KindStop       Kind = "stop"       // the recorder stopped cleanly
)

func (k Kind) known() bool {
	switch k {
	case KindStart, KindSegment, KindCheckpoint, KindSeal, KindExpiry, KindHold, KindRelease, KindGap, KindPrune, KindStop:
		return true
	}
	return false
}

// Hash is a SHA-256 sum. The zero value means none.
type Hash [32]byte

// Leaf is one line of the log. Zero fields are not written. [Log.Append] sets Seq, Part and Next.
type Leaf struct {
	Seq  int64
	Kind Kind

	Boot uint64 // time: CLOCK_BOOTTIME, ns
	Real int64  // time: CLOCK_REALTIME at the same instant, ns since the Unix epoch
	Sync string // the kernel's clock state: synchronized, unsynchronized

	Suspended uint64 // time asleep since boot: CLOCK_BOOTTIME minus CLOCK_MONOTONIC, ns

	Tape, Host, Machine, BootID, Version, Backend string // start: who records

	MaxSize int64 // start, expiry: limit of the tape's size, bytes
	MaxAge  int64 // start: limit of a segment's age, ns

	Segment  int   // number of the leaf's segment
	Previous int   // segment: number of the previous one
	SHA256   Hash  // of the segment's file
	PageSums Hash  // seal: hash of the page sums of the segment's file
	Size     int64 // of the segment's file, bytes

	Batches int64 // commits of the segment so far
	Chain   Hash  // hash over these commits

	Seen, Stored, Coalesced, Lost uint64 // counters of the run; Lost of the gap

	Rows, Connects int64 // seal, expiry: rows of the segment, and their connects; -1: unknown

	From, To int64  // span: ns of CLOCK_BOOTTIME for a gap, leaves for prune, else ns since the Unix epoch
	Cause    string // reason, one word
	Detail   string // for people

	Part Hash                        // first leaf of a part: hash of the key that signs the next part's header
	Next [ed25519.PublicKeySize]byte // key of the next leaf
}

// maxLine limits a line of the log with its signature, in bytes.
const maxLine = 32 << 10

// All errors of ParseLeaf are errLeaf.
var errLeaf = errors.New("not a leaf of a log")

// field describes a field of a leaf. It is written as NAME=VALUE, or omitted if get returns "".
type field struct {
	name string
	get  func(*Leaf) string
	set  func(*Leaf, string) error
}

// fields returns the fields in writing order.
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

// String returns the leaf in its written and hashed form, one line of printable ASCII without line end:
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

// ParseLeaf parses the output of String and refuses any other form: a leaf has one form, and so one hash.
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

// escape writes every byte except printable ASCII, and blank and percent sign, as %XX.
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
