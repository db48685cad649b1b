package table

import "github.com/conntape/conntape/query/format"

// streamWriter assembles rows.
type streamWriter struct {
	*stream
	out        format.RowWriter
	cells      format.CellWriter // nil: out takes rows
	begun      bool
	values     []format.Value
	text       []byte
	time, last timeText
}

func newStreamWriter(s *stream, out format.RowWriter) *streamWriter {
	cells, _ := out.(format.CellWriter)
	return &streamWriter{stream: s, out: out, cells: cells, values: make([]format.Value, len(s.columns))}
}

// begin begins the answer, once.
func (w *streamWriter) begin() error {
	if w.begun {
		return nil
	}
	w.begun = true
	return w.out.Begin(w.columns)
}

// write writes rows.
func (w *streamWriter) write(rows []streamRow) error {
	if err := w.begin(); err != nil {
		return err
	}
	if w.cells == nil {
		for i := range rows {
			if err := w.out.Row(w.rowOf(&rows[i])); err != nil {
				return err
			}
		}
		return nil
	}
	w.text = w.text[:0]
	for i := range rows {
		w.appendRow(&rows[i])
	}
	return w.cells.WriteRows(int64(len(rows)), w.text)
}

// rowOf returns the values of a row.
func (w *streamWriter) rowOf(row *streamRow) []format.Value {
	if row.whole != nil {
		return row.whole
	}
	for _, run := range w.runs {
		if run.origin == ofRow {
			w.values[run.first] = w.valueOf(row, run.first)
		} else {
			copy(w.values[run.first:], row.from[run.origin].values[run.firstValue:][:run.count])
		}
	}
	return w.values
}

// appendRow appends a row to the text.
func (w *streamWriter) appendRow(row *streamRow) {
	if row.whole != nil {
		w.text = format.AppendRow(w.text, w.cells, row.whole)
		return
	}
	before, between, after := w.cells.Frame()
	w.text = append(w.text, before...)
	for i, run := range w.runs {
		if i > 0 {
			w.text = append(w.text, between...)
		}
		if run.origin == ofRow {
			w.text = w.cells.AppendCell(w.text, run.first, w.valueOf(row, run.first))
			continue
		}
		k := row.from[run.origin]
		if k.texts == nil {
			w.encode(run.origin, k)
		}
		w.text = append(w.text, k.texts[run.textOfIt]...)
	}
	w.text = append(w.text, after...)
}

// encode formats the kept cells.
func (w *streamWriter) encode(o origin, k *kept) {
	_, between, _ := w.cells.Frame()
	for _, run := range w.runs {
		if run.origin != o {
			continue
		}
		var text []byte
		for i, v := range k.values[run.firstValue:][:run.count] {
			if i > 0 {
				text = append(text, between...)
			}
			text = w.cells.AppendCell(text, run.first+i, v)
		}
		k.texts = append(k.texts, text)
	}
	k.values = nil
}

// valueOf returns one of the row's own cells.
func (w *streamWriter) valueOf(row *streamRow, column int) format.Value {
	switch name := w.columns[column]; name {
	case "time":
		return format.Value{Kind: format.Text, Bytes: w.time.of(row.wall)}
	case "last_time":
		return format.Value{Kind: format.Text, Bytes: w.last.of(row.lastWall)}
	default:
		return row.own(name)
	}
}

// own returns one of the row's own cells that is no wall clock time.
func (row *streamRow) own(column string) format.Value {
	switch column {
	case "count":
		return format.IntValue(row.count)
	case "fd":
		return row.fd.Cell()
	case "cookie":
		return row.cookie.Cell()
	case "id", "time_ns":
		return format.IntValue(row.id)
	case "outcome_source":
		return row.source
	}
	return row.fate.value(column)
}

// timeText formats wall clock times as the views do. Within a second only the decimals change.
type timeText struct {
	second int64
	text   []byte
}

// of returns a time, valid until the next.
func (t *timeText) of(ns int64) []byte {
	if ns < 0 { // before 1970, on an altered tape
		return format.WallText(ns).Bytes
	}
	second, rest := ns/1_000_000_000, ns%1_000_000_000
	if second != t.second || t.text == nil {
		t.second, t.text = second, format.WallText(ns).Bytes
	}
	for i := len(format.TapeTime) - 2; i > len(format.TapeTime)-11; i-- {
		t.text[i] = byte('0' + rest%10)
		rest /= 10
	}
	return t.text
}
