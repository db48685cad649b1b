package format

import "time"

// TapeTime is the format of times in the public views; zonedTime is the same in a zone.
// in a zone.
const (
	TapeTime  = "2006-01-02T15:04:05.000000000Z"
	zonedTime = "2006-01-02T15:04:05.000000000Z07:00"
)

// InZone returns a writer that converts the times of the public views to a zone and passes everything to next. A cell is
// a time if its column is time or ends in _time, and it has exactly the views' format.
func InZone(next RowWriter, zone *time.Location) RowWriter {
	if _, typed := next.(*parquetWriter); zone == nil || zone == time.UTC || typed { // its times are numbers
		return next
	}
	return &zonedWriter{RowWriter: next, zone: zone}
}

type zonedWriter struct {
	RowWriter
	zone  *time.Location
	texts [][]byte // a buffer for each column of times, nil for any other
}

// Begin finds the columns of times.
func (z *zonedWriter) Begin(columns []string) error {
	z.texts = make([][]byte, len(columns))
	for i, name := range columns {
		if isTimeColumn(name) {
			z.texts[i] = make([]byte, 0, len(zonedTime))
		}
	}
	return z.RowWriter.Begin(columns)
}

// Row rewrites the times of one row.
func (z *zonedWriter) Row(values []Value) error {
	for i := range values {
		values[i] = z.shift(i, values[i])
	}
	return z.RowWriter.Row(values)
}

// shift returns the value of a column, a time in the zone.
func (z *zonedWriter) shift(column int, v Value) Value {
	if z.texts[column] == nil || v.Kind != Text || len(v.Bytes) != len(TapeTime) {
		return v
	}
	t, err := time.Parse(TapeTime, string(v.Bytes))
	if err != nil {
		return v
	}
	z.texts[column] = t.In(z.zone).AppendFormat(z.texts[column][:0], zonedTime)
	v.Bytes = z.texts[column]
	return v
}

func (z *zonedWriter) cells() CellWriter {
	if next := CellsOf(z.RowWriter); next != nil {
		return &zonedCells{next, z}
	}
	return nil
}

// zonedCells are the cells of a zonedWriter.
type zonedCells struct {
	CellWriter
	zoned *zonedWriter
}

func (z *zonedCells) Begin(columns []string) error { return z.zoned.Begin(columns) }

func (z *zonedCells) Row(values []Value) error { return z.zoned.Row(values) }

func (z *zonedCells) AppendCell(dst []byte, column int, v Value) []byte {
	return z.CellWriter.AppendCell(dst, column, z.zoned.shift(column, v))
}

// WallText formats a time on the wall clock as the views do.
func WallText(ns int64) Value {
	return TextValue(WallString(ns))
}

func WallString(ns int64) string { return time.Unix(0, ns).UTC().Format(TapeTime) }
