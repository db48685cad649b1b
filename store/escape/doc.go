// Package escape turns bytes chosen by a traced process into text that is safe for a terminal, a spreadsheet or SQL, and
// back. It also joins and splits command lines.
//
// It knows nothing of where the text goes.
package escape
