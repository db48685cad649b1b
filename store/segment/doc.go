// Package segment knows one segment: a SQLite database with a span of a tape's time.
//
// It knows the schema and checks it, a segment's description ([Info], [Boot], [Recorder]), the tables added by sealing,
// the hash chain over the batches, and the segment's entry in the manifest. Sealed and open segments are read the same
// way; of an open one it makes a private copy. [Segment.Open] gives a [Reader] with a query-only connection, and
// [Tables] with columns as numbers, without SQL.
//
// It does not know the other segments of the tape, retention, the log, or how a segment is written.
package segment
