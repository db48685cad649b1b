package format

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/conntape/conntape/query/parquet"
	"github.com/conntape/conntape/store/segment"
)

// Identity is what a file says of where its rows are from.
type Identity struct{ TapeID, Host, MachineID string }

// pairs returns it by name, in the order of the columns that it has in an export.
func (i *Identity) pairs() []parquet.Pair {
	return []parquet.Pair{{Key: "tape_id", Value: i.TapeID}, {Key: "host", Value: i.Host}, {Key: "machine_id", Value: i.MachineID}}
}

// parquetWriter writes rows as Parquet.
type parquetWriter struct {
	out    io.Writer
	of     *Identity // nil: nothing is said of the tape
	named  bool      // each row has the identity
	writer *parquet.Writer
	kinds  []parquet.Kind // of the answer's columns
	before int            // columns before these
	times  []parsedTime
}

func newParquet(w io.Writer, o Options) *parquetWriter {
	return &parquetWriter{out: w, of: o.Identity, named: o.Identity != nil && o.Identified}
}

// filtered are the columns of texts that Bloom filters are made of.
var filtered = []string{"remote_address", "remote_ip", "exe", "comm", "user", "container"}

// ascending are the columns that grow from row to row, nearly.
var ascending = []string{"id", "time", "time_ns", "last_time"}

// Begin learns the columns.
func (p *parquetWriter) Begin(columns []string) (err error) {
	var about []parquet.Pair
	var all []parquet.Column
	if p.of != nil {
		for _, pair := range p.of.pairs() {
			about = append(about, parquet.Pair{Key: "conntape." + pair.Key, Value: pair.Value})
			if p.named {
				all = append(all, parquet.Column{Name: pair.Key})
			}
		}
	}
	p.before, p.kinds, p.times = len(all), nil, make([]parsedTime, len(columns))
	order := -1
	for i, name := range columns {
		kind := parquetKind(name)
		if name == "time_ns" && p.named {
			order = len(all)
		}
		p.kinds = append(p.kinds, kind)
		if slices.Contains(columns[:i], name) {
			name = fmt.Sprintf("%s:%d", name, i)
		}
		all = append(all, parquet.Column{Name: name, Kind: kind, Bloom: slices.Contains(filtered, name), Ascend: slices.Contains(ascending, name)})
	}
	p.writer, err = parquet.New(p.out, all, about, order)
	return err
}

// parquetKind returns the type of a column that the public views have, which is the same in every file, and Any for others.
func parquetKind(name string) parquet.Kind {
	const numbers = " count bytes_sent bytes_received retransmits rtt_us failed probe "
	if isTimeColumn(name) {
		return parquet.Time
	}
	for _, c := range segment.ViewColumns("connections") {
		switch {
		case c.Name != name:
		case c.Type == "INTEGER", strings.Contains(numbers, " "+name+" "), strings.HasSuffix(name, "_port"), strings.HasSuffix(name, "_errno"), strings.HasSuffix(name, "_ns"):
			return parquet.Integer
		default:
			return parquet.Text
		}
	}
	return parquet.Any
}

// Row writes a row.
func (p *parquetWriter) Row(values []Value) error {
	if p.named {
		for i, pair := range p.of.pairs() {
			p.writer.Text(i, []byte(pair.Value))
		}
	}
	for i, v := range values {
		column := p.before + i
		switch {
		case v.Kind == Null:
			p.writer.Null(column)
		case p.kinds[i] == parquet.Time && v.Kind == Text:
			ns, err := p.times[i].of(v.Bytes)
			if err != nil {
				return err
			}
			p.writer.Int(column, ns)
		case v.Kind == Integer:
			p.writer.Int(column, v.Int)
		case v.Kind == Real:
			p.writer.Real(column, v.Real)
		default:
			p.writer.Text(column, v.Bytes)
		}
	}
	return p.writer.EndRow()
}

// End ends the file. That rows are missing is said on stderr alone.
func (p *parquetWriter) End(string) error { return p.writer.Close() }

// parsedTime reads times of the views. Those of one second differ in their decimals alone.
type parsedTime struct {
	second []byte
	ns     int64
}

// errTime is the error of a time that is none of the views.
var errTime = errors.New("it is no time as the views have them")

// of returns a time in nanoseconds since 1970.
func (p *parsedTime) of(text []byte) (int64, error) {
	const seconds = len("2006-01-02T15:04:05")
	if len(text) != len(TapeTime) {
		return 0, fmt.Errorf("write time %.40q: %w", text, errTime)
	}
	if !bytes.Equal(text[:seconds], p.second) {
		t, err := time.Parse(TapeTime[:seconds], string(text[:seconds]))
		if err != nil {
			return 0, fmt.Errorf("write time %.40q: %w", text, errTime)
		}
		p.second, p.ns = append(p.second[:0], text[:seconds]...), t.UnixNano()
	}
	rest := int64(0)
	for _, b := range text[seconds+1 : len(text)-1] {
		if b < '0' || b > '9' {
			return 0, fmt.Errorf("write time %.40q: %w", text, errTime)
		}
		rest = rest*10 + int64(b-'0')
	}
	return p.ns + rest, nil
}
