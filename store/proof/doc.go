// Package proof tells whether a tape is what was recorded, and gets out of a damaged segment what it still says.
//
// It knows the log of the tape and every segment, and compares them: the rows with the hashes of their batches, those with
// the leaves, files with their seals, removals with the limits that asked for them, and losses with the account of a run. It
// trusts nothing that it reads. It does not know how a tape is recorded or queried, and changes none; [Salvage] writes a
// segment of its own.
package proof
