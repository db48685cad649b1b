package segment

import (
	"errors"
	"fmt"
	"strings"

	"zombiezen.com/go/sqlite"
)

// readerPragmas are the pragmas allowed in a query: they describe the schema or check the file, and change nothing.
var readerPragmas = map[string]bool{
	"table_info": true, "table_xinfo": true, "table_list": true,
	"index_list": true, "index_info": true, "index_xinfo": true,
	"database_list": true, "function_list": true, "collation_list": true,
	"integrity_check": true, "quick_check": true,
}

// deniedModules are virtual tables that show raw pages or other files.
var deniedModules = map[string]bool{"sqlite_dbpage": true, "dbstat": true, "fsdir": true, "zipfile": true}

// authorizeReader allows only queries. It cannot tell functions apart because the driver does not pass their names; a
// test compares the available functions with a reviewed list. load_extension is on it, but fails because the driver
// disables extensions.
func authorizeReader(a sqlite.Action) sqlite.AuthResult {
	switch a.Type() {
	case sqlite.OpSelect, sqlite.OpRecursive, sqlite.OpFunction:
		return sqlite.AuthResultOK
	case sqlite.OpRead:
		if deniedModules[strings.ToLower(a.Table())] {
			return sqlite.AuthResultDeny
		}
		return sqlite.AuthResultOK
	case sqlite.OpPragma:
		if readerPragmas[strings.ToLower(a.Pragma())] {
			return sqlite.AuthResultOK
		}
	}
	return sqlite.AuthResultDeny
}

// readerLimits limit the resources that a hostile tape or a bad query can use.
// https://sqlite.org/limits.html, https://sqlite.org/security.html
var readerLimits = []struct {
	limit sqlite.Limit
	value int32
}{
	{sqlite.LimitLength, 64 << 20}, // bytes of a text, blob or row
	{sqlite.LimitSQLLength, 1 << 20},
	{sqlite.LimitColumn, 500},
	{sqlite.LimitExprDepth, 200},
	{sqlite.LimitCompoundSelect, 100},
	{sqlite.LimitVDBEOp, 1_000_000},
	{sqlite.LimitFunctionArg, 64},
	{sqlite.LimitLikePatternLength, 1000},
	{sqlite.LimitVariableNumber, 1000},
	{sqlite.LimitTriggerDepth, 1},
	{sqlite.LimitWorkerThreads, 0},
	{sqlite.LimitAttached, 0},
}

// Harden restricts a connection to queries. Set up everything else before.
func Harden(conn *sqlite.Conn) error {
	for _, l := range readerLimits {
		conn.Limit(l.limit, l.value)
	}
	if err := Exec(conn, nil, "PRAGMA query_only = ON"); err != nil {
		return fmt.Errorf("make connection read-only: %w", err)
	}
	return conn.SetAuthorizer(sqlite.AuthorizeFunc(authorizeReader))
}

// Loosened calls fn with a connection that is restricted to queries, without the restrictions. Only SQL of ours may run meanwhile.
func Loosened(conn *sqlite.Conn, fn func() error) error {
	if err := conn.SetAuthorizer(nil); err != nil {
		return fmt.Errorf("loosen connection: %w", err)
	}
	err := Exec(conn, nil, "PRAGMA query_only = OFF")
	if err == nil {
		err = fn()
	}
	return errors.Join(err, Harden(conn))
}
