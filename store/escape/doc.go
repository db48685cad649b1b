// Package escape makes text of the bytes that a traced process chose, which a terminal, a spreadsheet or SQL can take for
// nothing else, and bytes of such text again; command lines too.
//
// It knows nothing of where the text goes.
package escape
