package indicator

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// readJSON walks one or several JSON documents and takes every object that it
// knows: those of a STIX bundle, the attributes of MISP events wherever they are,
// and texts in a list. It holds one object at a time.
func (r *Reading) readJSON(in io.Reader) error {
	r.Format = "json"
	w := &walker{reading: r, decoder: json.NewDecoder(in)}
	for {
		err := w.value("", 0)
		switch {
		case errors.Is(err, io.EOF):
			w.finish()
			return nil
		case isJSONFault(err):
			r.problem(w.objects, "", "broken JSON, and all that follows it: "+err.Error())
			w.finish()
			return nil
		case err != nil:
			return err
		}
	}
}

// isJSONFault reports whether the error is one of the list and not of reading it.
func isJSONFault(err error) bool {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	return errors.As(err, &syntax) || errors.As(err, &kind) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, errDeep)
}

// deepest is how deep a document may be nested.
const deepest = 100

var errDeep = errors.New("nested too deep")

// walker reads JSON piece by piece.
type walker struct {
	reading *Reading
	decoder *json.Decoder
	objects int    // STIX objects and MISP attributes so far
	event   string // what the MISP event says of itself

	stixIndicators int
	observed       []observedObject // of STIX; they count when there is no indicator
}

// value reads one value, which is that of key.
func (w *walker) value(key string, depth int) error {
	token, err := w.decoder.Token()
	if err != nil {
		return err
	}
	if depth > deepest {
		return errDeep
	}
	switch token := token.(type) {
	case json.Delim:
		if token == '{' {
			return w.object(depth)
		}
		return w.array(key, depth)
	case string:
		if key == "info" {
			w.event = token
		}
	}
	return nil
}

func (w *walker) object(depth int) error {
	for w.decoder.More() {
		token, err := w.decoder.Token()
		if err != nil {
			return err
		}
		key, ok := token.(string)
		if !ok {
			return &json.SyntaxError{}
		}
		if err := w.value(key, depth+1); err != nil {
			return err
		}
	}
	_, err := w.decoder.Token()
	return err
}

// array reads the members of a list: STIX objects, MISP attributes, or others.
func (w *walker) array(key string, depth int) error {
	for w.decoder.More() {
		var err error
		switch key {
		case "objects":
			err = w.stixObject()
		case "Attribute", "ShadowAttribute":
			err = w.mispAttribute()
		default:
			err = w.member(key, depth)
		}
		if err != nil {
			return err
		}
	}
	_, err := w.decoder.Token()
	return err
}

// member reads a member of a list of no known meaning. A text in it is an
// indicator by itself.
func (w *walker) member(key string, depth int) error {
	token, err := w.decoder.Token()
	if err != nil {
		return err
	}
	switch token := token.(type) {
	case json.Delim:
		if token == '{' {
			return w.object(depth + 1)
		}
		if depth > deepest {
			return errDeep
		}
		return w.array("", depth+1)
	case string:
		if key != "" { // a list of a field that we do not know
			return nil
		}
		w.objects++
		if i, ok := Parse(token); ok {
			w.reading.add(i, w.event, w.objects)
		} else {
			w.reading.problem(w.objects, token, "it is no address, CIDR, port, name, path or hash")
		}
	}
	return nil
}

// next decodes the next value into v. A value of another shape is a problem of
// its own and not the end of the list.
func (w *walker) next(v any) (ok bool, err error) {
	w.objects++
	var raw json.RawMessage
	if err := w.decoder.Decode(&raw); err != nil {
		return false, err
	}
	if err := json.Unmarshal(raw, v); err != nil {
		w.reading.problem(w.objects, string(raw[:min(len(raw), longestLabel)]), fmt.Sprintf("it is not of the shape that was expected: %v", err))
		return false, nil
	}
	return true, nil
}
