// Package failure has the errors of a tape: what was being done, to which file, why it did not work, and what a person can
// do about it.
//
// It knows which errors of SQLite and of the operating system say that a file is damaged. It opens nothing, and knows no
// tape.
package failure
