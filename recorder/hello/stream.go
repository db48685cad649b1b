package hello

import "errors"

// MostBytes bounds what is kept of one connection while more is awaited, and MostRequest what of it an HTTP request may take.
const (
	MostBytes   = 32 << 10
	MostRequest = 4 << 10
)

const (
	// mostStreams bounds the connections of which more is awaited: MostBytes each.
	mostStreams = 128
	// mostParts bounds the parts of one: all are looked at again with each.
	mostParts = 256
)

// Streams puts together what comes in parts. The zero value is ready.
type Streams[K comparable] struct {
	of     map[K]*stream
	clock  uint64 // parts so far
	broken uint64
}

type stream struct {
	buf   []byte
	parts int
	used  uint64 // clock of the last part
}

// Broken is how many were given up: they are malformed, a part is missing, or more than mostStreams were open at once.
func (s *Streams[K]) Broken() uint64 { return s.broken }

// Add takes bytes of a connection, of which at were sent before. ok: they complete what names a server. A part may come again.
func (s *Streams[K]) Add(connection K, at int, b []byte) (said Said, ok bool) {
	s.clock++
	f := s.of[connection]
	if f == nil {
		if at > 0 { // it was given up, or has been read
			return Said{}, false
		}
		return s.read(connection, nil, b)
	}
	f.used = s.clock
	f.parts++
	again := len(f.buf) - at
	if again < 0 || f.parts >= mostParts {
		s.lose(connection)
		return Said{}, false
	}
	if again >= len(b) {
		return Said{}, false
	}
	return s.read(connection, f, append(f.buf, b[again:]...))
}

// read looks at all that there is of a connection.
func (s *Streams[K]) read(connection K, f *stream, b []byte) (said Said, ok bool) {
	said, err := Parse(b)
	switch {
	case err == nil, errors.Is(err, ErrNameless):
		delete(s.of, connection)
		return said, err == nil
	case !errors.Is(err, ErrIncomplete) || len(b) > MostBytes:
		s.lose(connection)
	case f != nil:
		f.buf = b
	default:
		s.begin(connection, b)
	}
	return Said{}, false
}

// begin keeps the first part: that which was used least lately goes for it.
func (s *Streams[K]) begin(connection K, b []byte) {
	if s.of == nil {
		s.of = map[K]*stream{}
	}
	if len(s.of) >= mostStreams {
		var oldest K
		least := s.clock + 1
		for k, f := range s.of {
			if f.used < least {
				oldest, least = k, f.used
			}
		}
		s.lose(oldest)
	}
	s.of[connection] = &stream{buf: append([]byte(nil), b...), used: s.clock}
}

// lose gives up a connection.
func (s *Streams[K]) lose(connection K) {
	s.broken++
	delete(s.of, connection)
}
