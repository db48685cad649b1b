// Package coverage says what a tape can know: from when to when it was recorded, with which gaps, losses and removals. Each
// answer carries it, and so does the status of a tape.
//
// It knows what package store tells of a tape, and nothing of questions or formats.
package coverage
