package format

import (
	"encoding/hex"
	"math"
	"strconv"

	"github.com/conntape/conntape/store/escape"
)

// Kind is SQLite's type of a value.
type Kind uint8

// The five types of SQLite.
const (
	Null Kind = iota
	Integer
	Real
	Text
	Blob
)

// Value is one cell of an answer. Bytes is a text or blob; it belongs to the runner and is valid until the next row.
type Value struct {
	Kind  Kind
	Int   int64
	Real  float64
	Bytes []byte
}

// IsNumber reports whether the value is an integer or a real.
func (v Value) IsNumber() bool { return v.Kind == Integer || v.Kind == Real }

// AppendPlain appends the value as one line of safe text: "" for NULL, x'0a0b' for a blob. With layout, text keeps
// newlines and tabs.
func (v Value) AppendPlain(dst []byte, layout bool) []byte {
	switch v.Kind {
	case Integer:
		return strconv.AppendInt(dst, v.Int, 10)
	case Real:
		return appendReal(dst, v.Real)
	case Text:
		return escape.AppendSafe(dst, v.Bytes, layout)
	case Blob:
		return append(hex.AppendEncode(append(dst, "x'"...), v.Bytes), '\'')
	}
	return dst
}

// appendReal appends a real that reads back as the same number, in JSON too: an infinity is a number that is too large,
// as in SQLite.
func appendReal(dst []byte, f float64) []byte {
	switch {
	case math.IsInf(f, 1):
		return append(dst, "9e999"...)
	case math.IsInf(f, -1):
		return append(dst, "-9e999"...)
	case f == math.Trunc(f) && math.Abs(f) < 1e15:
		return strconv.AppendFloat(dst, f, 'f', 1, 64)
	}
	return strconv.AppendFloat(dst, f, 'g', -1, 64)
}

func TextValue(s string) Value { return Value{Kind: Text, Bytes: []byte(s)} }

func IntValue(n int64) Value { return Value{Kind: Integer, Int: n} }

// Nullable is an integer or NULL.
type Nullable struct {
	Number int64
	Known  bool
}

func (n Nullable) Cell() Value {
	if !n.Known {
		return Value{}
	}
	return IntValue(n.Number)
}

func ZeroOrOne(b bool) int {
	if b {
		return 1
	}
	return 0
}
