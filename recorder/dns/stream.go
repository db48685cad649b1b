package dns

import "encoding/binary"

// mostStreams bounds the streams of which a message is awaited. Each takes 64 KiB at the most, and its last segment.
const mostStreams = 64

// Streams puts messages together that come over TCP: each has its length in two bytes before it. The zero value is ready.
type Streams struct {
	of     map[uint64]*stream // by socket
	clock  uint64             // segments so far
	broken uint64
}

type stream struct {
	next uint32 // number of the first byte that is missing
	buf  []byte
	used uint64 // clock of the last segment
}

// Broken is how many messages were given up: a segment of them is missing, or too many streams are open at once.
func (s *Streams) Broken() uint64 { return s.broken }

// Add takes a segment of a socket's stream and calls fn with each message that it completes. The first of a stream, and one behind a
// hole, is taken for the beginning of a message. whole is the length of the segment, of which b may have less. The message is good until
// fn returns.
func (s *Streams) Add(socket uint64, sequence uint32, b []byte, whole int, fn func(message []byte)) {
	s.clock++
	f := s.of[socket]
	if f == nil {
		f = s.begin(socket, sequence)
	}
	f.used = s.clock
	switch ahead := int32(sequence - f.next); {
	case ahead < 0: // it comes again, or a part of it
		again := -int64(ahead)
		if again >= int64(len(b)) {
			return
		}
		b, whole, sequence = b[again:], whole-int(again), f.next
	case ahead > 0:
		s.lose(f)
	}
	f.next = sequence + uint32(whole)
	f.buf = append(f.buf, b...)
	for len(f.buf) >= 2 {
		n := 2 + int(binary.BigEndian.Uint16(f.buf))
		if n == 2 { // no message is empty
			s.lose(f)
			break
		}
		if len(f.buf) < n {
			break
		}
		fn(f.buf[2:n])
		f.buf = f.buf[n:]
	}
	if len(b) < whole {
		s.lose(f)
	}
	if len(f.buf) == 0 {
		f.buf = nil // few have a second message soon
	}
}

// begin makes room for a stream: that which was used least lately goes.
func (s *Streams) begin(socket uint64, sequence uint32) *stream {
	if s.of == nil {
		s.of = map[uint64]*stream{}
	}
	if len(s.of) >= mostStreams {
		var oldest uint64
		for k, f := range s.of {
			if o := s.of[oldest]; o == nil || f.used < o.used {
				oldest = k
			}
		}
		s.lose(s.of[oldest])
		delete(s.of, oldest)
	}
	f := &stream{next: sequence}
	s.of[socket] = f
	return f
}

// lose gives up the message at hand.
func (s *Streams) lose(f *stream) {
	if len(f.buf) > 0 {
		s.broken++
	}
	f.buf = nil
}
