package parquet

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"unsafe"

	"github.com/parquet-go/parquet-go/bloom"
	"github.com/parquet-go/parquet-go/encoding"
	"github.com/parquet-go/parquet-go/encoding/delta"
	"github.com/parquet-go/parquet-go/encoding/plain"
	"github.com/parquet-go/parquet-go/encoding/rle"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

// chunk is a column of the rows of one group.
type chunk struct {
	Column
	isOrder bool
	levels  []uint8 // of each row: 0 NULL, 1 not
	numbers []int64 // of the rows that are not NULL

	codes   map[string]int32 // of a text: its place in the dictionary
	entries []string
	indexes []int32 // of the rows that are not NULL
	recent  [256]recentText
	encoded []byte
}

// recentText is a text that was met lately, by where it lies: most rows have texts that lie where others' lie.
type recentText struct {
	at   *byte
	code int32
}

func (c *chunk) null() { c.levels = append(c.levels, 0) }

func (c *chunk) int(n int64) {
	c.levels = append(c.levels, 1)
	c.numbers = append(c.numbers, n)
}

func (c *chunk) text(text []byte) {
	c.levels = append(c.levels, 1)
	at := unsafe.SliceData(text)
	recent := &c.recent[uintptr(unsafe.Pointer(at))>>4%256]
	if recent.at == at && at != nil && int(recent.code) < len(c.entries) && c.entries[recent.code] == string(text) {
		c.indexes = append(c.indexes, recent.code)
		return
	}
	code, known := c.codes[string(text)]
	if !known {
		code = int32(len(c.entries))
		c.codes[string(text)] = code
		c.entries = append(c.entries, strings.ToValidUTF8(string(text), "\ufffd"))
	}
	*recent = recentText{at, code}
	c.indexes = append(c.indexes, code)
}

// clear forgets the rows.
func (c *chunk) clear() {
	c.levels, c.numbers, c.indexes, c.entries = c.levels[:0], c.numbers[:0], c.indexes[:0], c.entries[:0]
	clear(c.codes)
	c.recent = [256]recentText{}
}

// writeChunk writes the pages of a column, and returns what the footer says of them.
func (w *Writer) writeChunk(c *chunk) (format.ColumnMetaData, error) {
	values := len(c.numbers) + len(c.indexes)
	meta := format.ColumnMetaData{
		Type: format.Int64, PathInSchema: thrift.Slice[string]{c.Name}, Codec: w.codec.CompressionCodec(),
		NumValues: int64(w.rows), Statistics: c.statistics(w.rows - values),
	}
	var as encoding.Encoding = new(plain.Encoding)
	if c.Ascend {
		as = new(delta.BinaryPackedEncoding)
	}
	var err error
	c.encoded = c.encoded[:0]
	switch {
	case c.Kind != Text:
		if c.Kind == Real {
			meta.Type = format.Double
		}
		c.encoded, err = as.EncodeInt64(c.encoded, c.numbers) // a real is its bits
	default:
		meta.Type = format.ByteArray
		if as = new(rle.DictionaryEncoding); len(c.indexes) > 0 {
			meta.DictionaryPageOffset = w.at
			if err := w.writeDictionary(c, &meta); err != nil {
				return meta, err
			}
			c.encoded, err = as.EncodeInt32(c.encoded, c.indexes)
		} else {
			as = new(plain.Encoding)
		}
	}
	if err != nil {
		return meta, fmt.Errorf("encode column %s: %w", c.Name, err)
	}
	levels, err := (&rle.Encoding{BitWidth: 1}).EncodeLevels(nil, c.levels)
	if err != nil {
		return meta, fmt.Errorf("encode column %s: %w", c.Name, err)
	}
	page := slices.Concat(binary.LittleEndian.AppendUint32(nil, uint32(len(levels))), levels, c.encoded)
	meta.Encoding = append(meta.Encoding, as.Encoding(), format.RLE)
	meta.DataPageOffset = w.at
	return meta, w.writePage(&meta, page, format.PageHeader{Type: format.DataPage, DataPageHeader: thrift.New(format.DataPageHeader{
		NumValues: int32(w.rows), Encoding: as.Encoding(), DefinitionLevelEncoding: format.RLE, RepetitionLevelEncoding: format.RLE,
	})})
}

// writeDictionary writes the texts of a column, each once.
func (w *Writer) writeDictionary(c *chunk, meta *format.ColumnMetaData) error {
	var page []byte
	for _, entry := range c.entries {
		page = binary.LittleEndian.AppendUint32(page, uint32(len(entry)))
		page = append(page, entry...)
	}
	meta.Encoding = append(meta.Encoding, format.Plain)
	return w.writePage(meta, page, format.PageHeader{Type: format.DictionaryPage, DictionaryPageHeader: thrift.New(format.DictionaryPageHeader{
		NumValues: int32(len(c.entries)), Encoding: format.Plain,
	})})
}

// writePage packs a page and writes it.
func (w *Writer) writePage(meta *format.ColumnMetaData, page []byte, header format.PageHeader) error {
	packed, err := w.codec.Encode(nil, page)
	if err != nil {
		return fmt.Errorf("pack page: %w", err)
	}
	header.UncompressedPageSize, header.CompressedPageSize = int32(len(page)), int32(len(packed))
	head, err := thrift.Marshal(new(thrift.CompactProtocol), &header)
	if err != nil {
		return fmt.Errorf("write page: %w", err)
	}
	meta.TotalUncompressedSize += int64(len(head) + len(page))
	meta.TotalCompressedSize += int64(len(head) + len(packed))
	return w.write(append(head, packed...))
}

// longestBound is the longest text that is written as the least or the greatest of a column.
const longestBound = 128

// statistics returns the least and the greatest value of a column, and how many rows are NULL.
func (c *chunk) statistics(nulls int) format.Statistics {
	s := format.Statistics{NullCount: int64(nulls)}
	switch {
	case c.Kind == Real: // none: NaN is neither least nor greatest
	case len(c.numbers) > 0:
		s.MinValue = binary.LittleEndian.AppendUint64(nil, uint64(slices.Min(c.numbers)))
		s.MaxValue = binary.LittleEndian.AppendUint64(nil, uint64(slices.Max(c.numbers)))
	case len(c.entries) > 0:
		least, most := slices.Min(c.entries), slices.Max(c.entries)
		if len(least) <= longestBound && len(most) <= longestBound {
			s.MinValue, s.MaxValue = []byte(least), []byte(most)
		}
	}
	return s
}

// bloomBits is how many bits of the filter a text takes: one in about a hundred that is not there seems to be.
const bloomBits = 10

// writeBloom writes the filter of a column's texts.
func (w *Writer) writeBloom(c *chunk, meta *format.ColumnMetaData) error {
	if !c.Bloom || len(c.entries) == 0 {
		return nil
	}
	filter := make(bloom.SplitBlockFilter, bloom.NumSplitBlocksOf(int64(len(c.entries)), bloomBits))
	for _, entry := range c.entries {
		filter.Insert(bloom.XXH64{}.Sum64([]byte(entry)))
	}
	header := format.BloomFilterHeader{NumBytes: int32(len(filter.Bytes()))}
	header.Algorithm.Value, header.Hash.Value, header.Compression.Value = new(format.SplitBlockAlgorithm), new(format.XxHash), new(format.BloomFilterUncompressed)
	head, err := thrift.Marshal(new(thrift.CompactProtocol), &header)
	if err != nil {
		return fmt.Errorf("write filter: %w", err)
	}
	meta.BloomFilterOffset, meta.BloomFilterLength = w.at, int32(len(head)+len(filter.Bytes()))
	return w.write(append(head, filter.Bytes()...))
}
