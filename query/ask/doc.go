// Package ask runs one SQL statement on a connection and hands its rows to a writer: within limits of time and rows, with the
// functions of docs/schema.md, and with errors in the words of the user.
//
// It knows SQLite, and nothing of tapes: the caller brings the connection and its tables.
package ask
