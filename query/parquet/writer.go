package parquet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/parquet-go/parquet-go/compress/zstd"
	"github.com/parquet-go/parquet-go/deprecated"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

// Kind is the type of a column.
type Kind int

// The types of columns.
const (
	Text    Kind = iota // UTF-8
	Integer             // 64 bits, signed
	Real                // 64 bits
	Time                // nanoseconds since 1970, UTC
	Any                 // that of the first value; Text if the first row group has none
)

// Column describes a column. Each may be NULL.
type Column struct {
	Name   string
	Kind   Kind
	Bloom  bool // of a text: each row group says which ones it does not have
	Ascend bool // of numbers: most rows have a higher one than the row before, and are stored as differences
}

// Pair is something that a file says of itself.
type Pair struct{ Key, Value string }

// groupRows is how many rows a row group has.
const groupRows = 1 << 16

// Writer writes a file. Every method but New and Close is to be called by one goroutine, column by column and row by row.
type Writer struct {
	out       io.Writer
	at        int64 // bytes written
	rows      int   // of the group
	columns   []*chunk
	meta      format.FileMetaData
	codec     zstd.Codec
	groupRows int
	failed    error // the first value that does not fit
}

// New begins a file whose rows are sorted by the column of a number, -1: by none.
func New(out io.Writer, columns []Column, about []Pair, sortedBy int) (*Writer, error) {
	w := &Writer{out: out, codec: zstd.Codec{Level: zstd.SpeedFastest}, groupRows: groupRows}
	w.meta = format.FileMetaData{Version: 1, CreatedBy: "conntape", Schema: thrift.Slice[format.SchemaElement]{
		{Name: "schema", NumChildren: thrift.New(int32(len(columns)))},
	}}
	for _, p := range about {
		w.meta.KeyValueMetadata = append(w.meta.KeyValueMetadata, format.KeyValue{Key: p.Key, Value: p.Value})
	}
	for i, c := range columns {
		w.meta.ColumnOrders = append(w.meta.ColumnOrders, format.ColumnOrder{Value: new(format.TypeDefinedOrder)})
		w.columns = append(w.columns, &chunk{Column: c, isOrder: i == sortedBy, codes: make(map[string]int32)})
	}
	return w, w.write([]byte("PAR1"))
}

// element returns the column's entry in the schema.
func (c *Column) element() format.SchemaElement {
	e := format.SchemaElement{Name: c.Name, Type: thrift.New(format.Int64), RepetitionType: thrift.New(format.Optional)}
	switch c.Kind {
	case Text:
		e.Type, e.LogicalType.Value = thrift.New(format.ByteArray), new(format.StringType)
		e.ConvertedType = thrift.New(deprecated.UTF8) // DuckDB and others know a text by the older mark alone
	case Real:
		e.Type = thrift.New(format.Double)
	case Time:
		e.LogicalType.Value = &format.TimestampType{IsAdjustedToUTC: true, Unit: format.TimeUnit{Value: new(format.NanoSeconds)}}
	}
	return e
}

// Null gives the row NULL in a column, counted from 0.
func (w *Writer) Null(column int) { w.columns[column].null() }

// Int gives the row an integer, or a time.
func (w *Writer) Int(column int, n int64) {
	if c := w.columns[column]; w.takes(c, Integer) || c.Kind == Time {
		c.int(n)
	}
}

// Real gives the row a real number.
func (w *Writer) Real(column int, f float64) {
	if c := w.columns[column]; w.takes(c, Real) {
		c.int(int64(math.Float64bits(f)))
	}
}

// Text gives the row a text, whose bytes are copied. What is not UTF-8 in it is replaced by U+FFFD.
func (w *Writer) Text(column int, text []byte) {
	if c := w.columns[column]; w.takes(c, Text) {
		c.text(text)
	}
}

// takes reports whether a column takes values of a kind. It remembers the first that does not.
func (w *Writer) takes(c *chunk, kind Kind) bool {
	if c.Kind == Any {
		c.Kind = kind
	}
	if c.Kind != kind && !(c.Kind == Time && kind == Integer) && w.failed == nil {
		w.failed = fmt.Errorf("write column %s: %w", c.Name, ErrKind)
	}
	return c.Kind == kind
}

// Errors of rows.
var (
	ErrColumn = errors.New("a row has not each column once")
	ErrKind   = errors.New("a row has a value of another type than the rows before")
)

// EndRow ends the row.
func (w *Writer) EndRow() error {
	if w.rows++; w.rows < w.groupRows || w.failed != nil {
		return w.failed
	}
	return w.flush()
}

// flush writes the rows as a row group.
func (w *Writer) flush() error {
	if w.rows == 0 {
		return nil
	}
	group := format.RowGroup{NumRows: int64(w.rows), FileOffset: w.at, Ordinal: int16(len(w.meta.RowGroups))}
	for i, c := range w.columns {
		if c.Kind == Any {
			c.Kind = Text
		}
		if len(c.levels) != w.rows {
			return fmt.Errorf("write column %s: %w", c.Name, ErrColumn)
		}
		meta, err := w.writeChunk(c)
		if err != nil {
			return err
		}
		group.Columns = append(group.Columns, format.ColumnChunk{FileOffset: meta.DataPageOffset, MetaData: meta})
		group.TotalByteSize += meta.TotalUncompressedSize
		group.TotalCompressedSize += meta.TotalCompressedSize
		if c.isOrder {
			group.SortingColumns = append(group.SortingColumns, format.SortingColumn{ColumnIdx: int32(i)})
		}
	}
	for i, c := range w.columns {
		if err := w.writeBloom(c, &group.Columns[i].MetaData); err != nil {
			return err
		}
		c.clear()
	}
	w.meta.RowGroups = append(w.meta.RowGroups, group)
	w.meta.NumRows += int64(w.rows)
	w.rows = 0
	return nil
}

// Close writes what is left, and the footer. It does not close what is written to.
func (w *Writer) Close() error {
	if err := errors.Join(w.failed, w.flush()); err != nil {
		return err
	}
	for _, c := range w.columns {
		w.meta.Schema = append(w.meta.Schema, c.element())
	}
	footer, err := thrift.Marshal(new(thrift.CompactProtocol), &w.meta)
	if err != nil {
		return fmt.Errorf("write footer: %w", err)
	}
	footer = binary.LittleEndian.AppendUint32(footer, uint32(len(footer)))
	return w.write(append(footer, "PAR1"...))
}

func (w *Writer) write(b []byte) error {
	n, err := w.out.Write(b)
	w.at += int64(n)
	return err
}
