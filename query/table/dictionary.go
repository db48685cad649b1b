package table

import (
	"encoding/binary"
	"math"
	"sync"

	"github.com/conntape/conntape/query/format"
	"zombiezen.com/go/sqlite"
)

// dictionary numbers distinct rows of cells. It stores each text once: the tasks of a process differ only in the
// thread's name and number.
type dictionary struct {
	numbers map[string]int32 // by key
	Cells   [][]sqlite.Value
	texts   *Names
}

// of returns the cells of an id.
func (d *dictionary) of(number int32) []sqlite.Value { return d.Cells[number] }

// keyed returns the id of a key, and whether it is new.
func (d *dictionary) keyed(mu *sync.Mutex, key []byte) (number int32, isNew bool) {
	mu.Lock()
	defer mu.Unlock()
	number, known := d.numbers[string(key)]
	if !known {
		if d.numbers == nil {
			d.numbers = make(map[string]int32)
		}
		number = int32(len(d.Cells))
		d.numbers[string(key)], d.Cells = number, append(d.Cells, nil)
	}
	return number, !known
}

// set sets the cells of an id.
func (d *dictionary) set(mu *sync.Mutex, number int32, values []format.Value) {
	mu.Lock()
	defer mu.Unlock()
	cells := make([]sqlite.Value, len(values))
	for i, v := range values {
		if v.Kind == format.Text {
			cells[i] = sqlite.TextValue(d.texts.List[d.text(v)])
		} else {
			cells[i] = forSQLite(v)
		}
	}
	d.Cells[number] = cells
}

// text returns the number of a text.
func (d *dictionary) text(v format.Value) int32 {
	if d.texts == nil {
		d.texts = NewNames()
	}
	return d.texts.Of(string(v.Bytes))
}

// number returns the dictionary id of a row of cells.
func (d *dictionary) number(mu *sync.Mutex, values []format.Value) int32 {
	var key []byte
	mu.Lock()
	for _, v := range values {
		key = append(key, byte(v.Kind))
		switch v.Kind {
		case format.Text:
			key = binary.AppendVarint(key, int64(d.text(v)))
		case format.Blob:
			key = append(binary.AppendVarint(key, int64(len(v.Bytes))), v.Bytes...)
		case format.Real:
			key = binary.AppendUvarint(key, math.Float64bits(v.Real))
		default:
			key = binary.AppendVarint(key, v.Int)
		}
	}
	mu.Unlock()
	number, isNew := d.keyed(mu, key)
	if isNew {
		d.set(mu, number, values)
	}
	return number
}
