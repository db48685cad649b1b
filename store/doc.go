// Package store keeps a tape: a directory of SQLite segments that one recorder
// appends to and any number of readers query.
//
// It is the writer and the tape: what is written when, which segments there are and
// which one goes. How one segment is read, what it may take of the disk, and what
// proves that it is what was recorded, are packages below it. It knows nothing of
// BPF, of the command line, or of how a process was described: it is handed finished
// values ([Task], [Process], [Endpoint], [Shape], [Connection]) and gives back views.
//
// # Writing
//
// One [Writer] holds the tape lock and the newest segment. [Writer.Append] is
// one transaction with synchronous=FULL: when it returns nil, the batch is on
// the disk. The file is held with locking_mode=EXCLUSIVE, set before WAL, so
// there is no -shm file that somebody could lock to stop the writer, and no
// reader can open a transaction that would stop a checkpoint. A file that gave
// an I/O error is left as it is, and the batch goes to a new segment.
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
// Every time that is handed in is CLOCK_BOOTTIME in nanoseconds. A segment adds
// one constant, the difference between realtime and boottime when the segment
// began, and stores nanoseconds since the Unix epoch on that clock of its own.
// That clock never jumps. Steps of the wall clock are rows of the table clock,
// and move only the text that the views show.
package store
