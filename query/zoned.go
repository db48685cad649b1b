package query

import "time"

// tapeTime is the form of every time text of the public views.
const tapeTime = "2006-01-02T15:04:05.000000000Z"

// InZone returns a writer that shows the times of the public views in another
// zone and hands everything to next. A cell is taken for a time when its column
// is called time, or something that ends in _time, and it has exactly the form
// of the views.
func InZone(next RowWriter, zone *time.Location) RowWriter {
	if zone == nil || zone == time.UTC {
		return next
	}
	return &zonedWriter{RowWriter: next, zone: zone}
}

type zonedWriter struct {
	RowWriter
	zone  *time.Location
	times []int
	texts [][]byte // one buffer for each of times
}

// Begin finds the columns of times.
func (z *zonedWriter) Begin(columns []string) error {
	for i, name := range columns {
		if isTimeColumn(name) {
			z.times = append(z.times, i)
			z.texts = append(z.texts, nil)
		}
	}
	return z.RowWriter.Begin(columns)
}

// Row rewrites the times of one row.
func (z *zonedWriter) Row(values []Value) error {
	for n, i := range z.times {
		v := values[i]
		if v.Kind != Text || len(v.Bytes) != len(tapeTime) {
			continue
		}
		t, err := time.Parse(tapeTime, string(v.Bytes))
		if err != nil {
			continue
		}
		z.texts[n] = t.In(z.zone).AppendFormat(z.texts[n][:0], "2006-01-02T15:04:05.000000000Z07:00")
		values[i].Bytes = z.texts[n]
	}
	return z.RowWriter.Row(values)
}
