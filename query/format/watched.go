package format

// Watched returns a writer that passes everything to next. It calls begin before the first write, and rows with the
// number of further rows.
func Watched(next RowWriter, begin func(), rows func(n int64)) RowWriter {
	return &watchedWriter{next, begin, rows}
}

type watchedWriter struct {
	RowWriter
	begin func()
	rows  func(int64)
}

// Begin tells that the answer begins.
func (w *watchedWriter) Begin(columns []string) error {
	w.begin()
	return w.RowWriter.Begin(columns)
}

// Row tells of one row.
func (w *watchedWriter) Row(values []Value) error {
	w.rows(1)
	return w.RowWriter.Row(values)
}

func (w *watchedWriter) cells() CellWriter {
	if next := CellsOf(w.RowWriter); next != nil {
		return &watchedCells{next, w}
	}
	return nil
}

// watchedCells is a watchedWriter with cells.
type watchedCells struct {
	CellWriter
	watched *watchedWriter
}

func (w *watchedCells) Begin(columns []string) error {
	w.watched.begin()
	return w.CellWriter.Begin(columns)
}

func (w *watchedCells) Row(values []Value) error { return w.watched.Row(values) }

func (w *watchedCells) WriteRows(n int64, text []byte) error {
	w.watched.rows(n)
	return w.CellWriter.WriteRows(n, text)
}
