package ask

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/conntape/conntape/query/input"
	"github.com/conntape/conntape/store/escape"
	"github.com/conntape/conntape/store/segment"
	"zombiezen.com/go/sqlite"
)

// explainSQL turns SQLite's error about the SQL into a UsageError with the place and, for a misspelt name, the nearest
// name. Errors about the tape stay as they are.
func explainSQL(conn *sqlite.Conn, sql string, err error) error {
	code := sqlite.ErrCode(err)
	switch code.ToPrimary() {
	case sqlite.ResultAuth, sqlite.ResultReadOnly:
		return input.Usagef(readOnlyHint(), "the SQL does what a reader may not: %s", sqliteMessage(err))
	case sqlite.ResultError, sqlite.ResultTooBig:
	default:
		return Explain(err)
	}
	message := sqliteMessage(err)
	if offset, ok := sqlite.ErrorOffset(err); ok && offset > 0 && offset < len(sql) {
		message += fmt.Sprintf(" at %q", Shorten(sql[offset:], 24))
	}
	if strings.HasPrefix(message, "cannot modify ") {
		return input.Usagef(readOnlyHint(), "the SQL does what a reader may not: %s", message)
	}
	return input.Usagef(suggestName(conn, message), "the SQL is wrong: %s", message)
}

func readOnlyHint() string {
	return "a tape can only be read: SELECT from " + strings.Join(ViewNames(), ", ")
}

// Explain removes the parts of SQLite's error that only help a programmer.
func Explain(err error) error {
	switch sqlite.ErrCode(err).ToPrimary() {
	case sqlite.ResultCorrupt, sqlite.ResultNotADB:
		return &hintedError{fmt.Errorf("read tape: %w", errors.New(sqliteMessage(err))),
			"a segment is damaged; copy the tape before anything else is done with it"}
	case sqlite.ResultOK:
		return nil
	}
	var already *input.UsageError
	if errors.As(err, &already) {
		return err
	}
	return fmt.Errorf("run SQL: %s", sqliteMessage(err))
}

// hintedError is an error with a hint that is not the user's mistake.
type hintedError struct {
	error
	hint string
}

// Unwrap returns the error beneath.
func (e *hintedError) Unwrap() error { return e.error }

// HintText returns the hint.
func (e *hintedError) HintText() string { return e.hint }

// sqliteMessage returns the last, most specific part of SQLite's message.
func sqliteMessage(err error) string {
	text := err.Error()
	for _, code := range []sqlite.ResultCode{sqlite.ErrCode(err), sqlite.ErrCode(err).ToPrimary()} {
		if _, after, ok := strings.Cut(text, code.Message()+": "); ok {
			text = after
			break
		}
	}
	for _, prefix := range []string{"sqlite: prepare: ", "sqlite: step: "} {
		text = strings.TrimPrefix(text, prefix)
	}
	return escape.Safe(text)
}

// suggestName returns a hint for a message about a missing column or view.
func suggestName(conn *sqlite.Conn, message string) string {
	var names, holders []string
	var missing string
	if _, after, ok := strings.Cut(message, "no such table: "); ok {
		missing, names = firstWord(after), ViewNames()
	} else if _, after, ok := strings.Cut(message, "no such column: "); ok {
		missing = firstWord(after)
		missing = missing[strings.LastIndexByte(missing, '.')+1:]
		for _, view := range ViewNames() {
			columns := columnsOf(conn, view)
			names = append(names, columns...)
			if slices.ContainsFunc(columns, func(column string) bool { return strings.EqualFold(column, missing) }) {
				holders = append(holders, view)
			}
		}
		if len(holders) > 0 {
			return missing + " is a column of " + strings.Join(holders, ", ") + "; conntape query schema lists the columns of each"
		}
	} else {
		return syntaxHint(message)
	}
	if near := input.Nearest(missing, names); near != "" {
		return "did you mean " + near + "?"
	}
	return "the views are " + strings.Join(ViewNames(), ", ") + "; conntape query schema lists their columns"
}

// syntaxHint returns a hint for any other message.
func syntaxHint(message string) string {
	switch {
	case strings.Contains(message, "no such function"):
		return "conntape query schema functions lists the functions that are added to SQLite's"
	case strings.Contains(message, "unrecognized token: \"'"):
		return "a quote is not closed"
	case strings.HasPrefix(message, `near "."`):
		return "commands that begin with a dot are for conntape query shell"
	case strings.Contains(message, "syntax error"), strings.Contains(message, "incomplete input"):
		return "the SQL is that of SQLite: SELECT … FROM connections; conntape query schema lists views and columns"
	}
	return ""
}

// ViewNames returns the public views and table contacts.
func ViewNames() []string {
	return slices.Insert(slices.Clone(segment.Views), 1, "contacts")
}

// columnsOf returns the columns of a view, or none when it cannot be read.
func columnsOf(conn *sqlite.Conn, view string) []string {
	stmt, _, err := conn.PrepareTransient("SELECT * FROM " + view + " LIMIT 0")
	if err != nil {
		return nil
	}
	defer stmt.Finalize()
	names := make([]string, stmt.ColumnCount())
	for i := range names {
		names[i] = stmt.ColumnName(i)
	}
	return names
}

func firstWord(s string) string {
	word, _, _ := strings.Cut(s, " ")
	return word
}

// Shorten returns the first line of s, cut to n bytes at a rune.
func Shorten(s string, n int) string {
	s, _, _ = strings.Cut(s, "\n")
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xC0 == 0x80 {
		n--
	}
	return s[:n]
}
