package indicator

import (
	"encoding/json"
	"io"
)

// passKey matches the key of what is to be let pass.
var passKey = expr(`(?i)^(?:(?:ip|ips|host|hosts|domain|domains|url|urls)[_ -]?)?(?:(?:allow|white|safe|pass)[_ -]?list(?:ed)?|allow(?:ed)?|exclu(?:de[ds]?|sions?)|except(?:ions?)?|trusted|benign|false[_ -]?positives?|ignored?)(?:[_ -]?(?:ips?|hosts?|domains?|urls?|addresses|ranges?|networks?|list))?$`)

// skip passes over the rest of an object or array that has begun, and counts the indicators in it.
func (w *walker) skip() error {
	for open := 1; open > 0; {
		token, err := w.decoder.Token()
		if err == io.EOF {
			return io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		switch delim, isDelim := token.(json.Delim); {
		case !isDelim:
			if c, ok := readCells(textOf(token)); ok && !c.is(Port) {
				w.reading.leaveOut(passes)
			}
		case delim == '[' || delim == '{':
			open++
		default:
			open--
		}
	}
	return nil
}
