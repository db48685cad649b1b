package query

// Watched returns a writer that hands everything to next, and tells of it: begin is
// called before anything is written, and rows with how many more were.
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

func (w *watchedWriter) cells() cellWriter {
	if next := cellsOf(w.RowWriter); next != nil {
		return &watchedCells{next, w}
	}
	return nil
}

// watchedCells are the cells of a watchedWriter.
type watchedCells struct {
	cellWriter
	watched *watchedWriter
}

func (w *watchedCells) Begin(columns []string) error {
	w.watched.begin()
	return w.cellWriter.Begin(columns)
}

func (w *watchedCells) Row(values []Value) error { return w.watched.Row(values) }

func (w *watchedCells) writeRows(n int64, text []byte) error {
	w.watched.rows(n)
	return w.cellWriter.writeRows(n, text)
}
