package format

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/conntape/conntape/query/coverage"
	"github.com/conntape/conntape/store/escape"
)

// jsonWriter writes either one object that holds the whole answer,
//
//	{"coverage": {…}, "columns": […], "rows": [{…}, …], "cut": null}
//
// with "left_out": […] at its end if segments were removed while it was read,
// or, as jsonl, one object a row. Integers and reals are numbers, NULL is null,
// a blob is text of the form x'0a0b'. An answer that failed half-way is not
// closed, and so is no valid JSON.
type jsonWriter struct {
	out      *bufio.Writer
	lines    bool
	coverage *coverage.Coverage
	keys     [][]byte // "name": of each column
	scratch  []byte
	rows     int64
}

func newJSON(w io.Writer, c *coverage.Coverage) *jsonWriter {
	return &jsonWriter{out: bufio.NewWriterSize(w, 64<<10), coverage: c}
}

func newJSONLines(w io.Writer) *jsonWriter {
	return &jsonWriter{out: bufio.NewWriterSize(w, 64<<10), lines: true}
}

// Begin writes the columns and opens the list of rows.
func (j *jsonWriter) Begin(columns []string) error {
	columns = uniqueNames(columns)
	for _, name := range columns {
		j.keys = append(j.keys, append(appendJSONText(nil, []byte(name)), ':', ' '))
	}
	if j.lines {
		return nil
	}
	coverage, err := json.Marshal(j.coverage)
	if err != nil {
		return fmt.Errorf("encode coverage: %w", err)
	}
	j.scratch = fmt.Appendf(j.scratch[:0], "{\n\"coverage\": %s,\n\"columns\": [", SafeJSON(coverage))
	for i, name := range columns {
		if i > 0 {
			j.scratch = append(j.scratch, ", "...)
		}
		j.scratch = appendJSONText(j.scratch, []byte(name))
	}
	j.scratch = append(j.scratch, "],\n\"rows\": ["...)
	_, err = j.out.Write(j.scratch)
	return err
}

// Row writes one object.
func (j *jsonWriter) Row(values []Value) error {
	j.scratch = AppendRow(j.scratch[:0], j, values)
	return j.WriteRows(1, j.scratch)
}

func (j *jsonWriter) Frame() (before, between, after string) {
	if j.lines {
		return "{", ", ", "}\n"
	}
	return ",\n{", ", ", "}"
}

func (j *jsonWriter) AppendCell(dst []byte, column int, v Value) []byte {
	return appendJSONValue(append(dst, j.keys[column]...), v)
}

// WriteRows leaves out the comma before the first row.
func (j *jsonWriter) WriteRows(n int64, text []byte) error {
	if !j.lines && j.rows == 0 {
		text = text[1:]
	}
	j.rows += n
	_, err := j.out.Write(text)
	return err
}

// End closes the object and flushes.
func (j *jsonWriter) End(cut string) error {
	if !j.lines {
		b := append(j.scratch[:0], "\n],\n\"cut\": "...)
		if cut == "" {
			b = append(b, "null"...)
		} else {
			b = appendJSONText(b, []byte(cut))
		}
		if j.coverage != nil {
			if late := j.coverage.LateLeftOut(); len(late) > 0 {
				text, err := json.Marshal(late)
				if err != nil {
					return fmt.Errorf("encode coverage: %w", err)
				}
				b = append(append(b, ",\n\"left_out\": "...), SafeJSON(text)...)
			}
		}
		if _, err := j.out.Write(append(b, "\n}\n"...)); err != nil {
			return err
		}
	}
	return j.out.Flush()
}

func appendJSONValue(dst []byte, v Value) []byte {
	switch v.Kind {
	case Null:
		return append(dst, "null"...)
	case Text:
		return appendJSONText(dst, v.Bytes)
	case Blob:
		return append(v.AppendPlain(append(dst, '"'), false), '"')
	}
	return v.AppendPlain(dst, false)
}

// appendJSONText appends a JSON string. It writes everything that a terminal could act upon as \uXXXX, which decodes to
// the same text. Only a byte that is not UTF-8, which JSON cannot have, becomes the text \xNN.
func appendJSONText(dst, text []byte) []byte {
	dst = append(dst, '"')
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		switch {
		case r == utf8.RuneError && size == 1:
			dst = fmt.Appendf(dst, `\\x%02x`, text[0])
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r == '\n':
			dst = append(dst, `\n`...)
		case r == '\t':
			dst = append(dst, `\t`...)
		case r >= ' ' && r <= '~' || r > '~' && escape.IsShowable(r):
			dst = append(dst, text[:size]...)
		case r > 0xFFFF:
			dst = fmt.Appendf(dst, `\u%04x\u%04x`, 0xD800+(r-0x10000)>>10, 0xDC00+(r-0x10000)&0x3FF)
		default:
			dst = fmt.Appendf(dst, `\u%04x`, r)
		}
		text = text[size:]
	}
	return append(dst, '"')
}

// SafeJSON makes encoding/json's output safe to show: characters in strings that a terminal could act upon become
// \uXXXX.
func SafeJSON(text []byte) []byte {
	var out []byte
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		if r == 0x7f || r > 0x7f && !escape.IsShowable(r) {
			quoted := appendJSONText(nil, text[:size])
			out = append(out, quoted[1:len(quoted)-1]...)
		} else {
			out = append(out, text[:size]...)
		}
		text = text[size:]
	}
	return out
}

// uniqueNames appends a number to repeated column names, so that no key hides another.
func uniqueNames(names []string) []string {
	seen := make(map[string]bool, len(names))
	unique := make([]string, len(names))
	for i, name := range names {
		candidate := name
		for n := 2; seen[candidate]; n++ {
			candidate = fmt.Sprintf("%s_%d", name, n)
		}
		seen[candidate] = true
		unique[i] = candidate
	}
	return unique
}
