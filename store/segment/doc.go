// Package segment knows one segment: a SQLite database that holds a span of time of a tape.
//
// It knows the schema and holds a file to it, what a segment says of itself ([Info], [Boot], [Recorder]), what sealing adds
// to it, how its batches are chained by hash, and the entry that the manifest has of it. A segment that is sealed and one
// that is being recorded, of which it makes a private copy, are read the same way: [Segment.Open] gives a [Reader] with a
// connection that can only query, and the [Tables] whose columns are handed over as numbers, without SQL.
//
// It does not know the other segments of the tape, which of them are kept, the log, or how a segment is written.
package segment
