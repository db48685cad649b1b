// Package store keeps a tape: a directory of SQLite segments that one recorder
// appends to and any number of readers query.
//
// It has the writer and the tape: what is written when, which segments exist and which one is removed. Packages below it
// read one segment, limit the disk space, and prove that the tape is as recorded. It knows nothing of BPF, of the
// command line, or of how a process was described: it gets finished values ([Task], [Process], [Endpoint], [Shape],
// [Connection]) and provides views.
//
// # Writing
//
// One [Writer] holds the tape lock and the newest segment. [Writer.Append] is one transaction with synchronous=FULL:
// when it returns nil, the batch is on the disk. The file has locking_mode=EXCLUSIVE, set before WAL. So there is no
// -shm file that another process could lock to stop the writer, and no reader can begin a transaction that would stop a
// checkpoint. A file with an I/O error is quarantined, and the batch goes to a new segment.
//
// # Reading
//
// [OpenTape] never opens the recorder's file with SQLite. A segment that may
// still be written is copied (see segment/snapshot.go for why the copy is consistent)
// and the copy is opened; a closed segment is opened in place, immutable.
//
// # Proof
//
// A [LogKeeper] listens to the writer and keeps the log of the tape: package
// tapelog signs and chains it, and package proof compares a tape with its log.
// docs/integrity.md says what that proves.
//
// # Clocks
//
// Every time passed in is CLOCK_BOOTTIME in nanoseconds. A segment adds a constant, the difference between realtime and
// boottime at its begin, and stores nanoseconds since the Unix epoch on this segment clock, which never jumps. Steps of
// the wall clock are rows of table clock and only change the text in the views.
package store
