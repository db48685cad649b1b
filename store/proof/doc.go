// Package proof verifies that a tape is as it was recorded, and salvages damaged segments.
//
// It compares the log of the tape with every segment: rows with the hashes of their batches, these with the log's
// leaves, files with their seals, removals with the limits that caused them, and losses with a run's account. It trusts
// nothing that it reads. It does not know how a tape is recorded or queried, and changes none; [Salvage] writes a new
// segment.
package proof
