// Package failure has the errors of a tape: the operation, the file, the cause, and a hint for the user.
//
// It knows which errors of SQLite and of the operating system mean damage. It opens nothing, and knows no tape.
package failure
