package segment

import (
	"fmt"
	"strings"

	"zombiezen.com/go/sqlite"
)

// readerPragmas are the ones that a query may run: they describe the schema or
// check the file, and change nothing.
var readerPragmas = map[string]bool{
	"table_info": true, "table_xinfo": true, "table_list": true,
	"index_list": true, "index_info": true, "index_xinfo": true,
	"database_list": true, "function_list": true, "collation_list": true,
	"integrity_check": true, "quick_check": true,
}

// deniedModules are virtual tables that show raw pages, or that a query has no
// business with.
var deniedModules = map[string]bool{"sqlite_dbpage": true, "dbstat": true, "fsdir": true, "zipfile": true}

// authorizeReader allows queries and nothing else. It cannot tell functions
// apart, since the driver does not hand their names over; a test compares those
// that there are with a reviewed list. load_extension is among them, and fails,
// because the driver leaves the loading of extensions off.
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

// readerLimits keep a hostile tape or a wild query from using up the machine.
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

// Harden closes a connection off: from here on it can only query. Everything
// that is set up comes before.
func Harden(conn *sqlite.Conn) error {
	for _, l := range readerLimits {
		conn.Limit(l.limit, l.value)
	}
	if err := Exec(conn, nil, "PRAGMA query_only = ON"); err != nil {
		return fmt.Errorf("make connection read-only: %w", err)
	}
	return conn.SetAuthorizer(sqlite.AuthorizeFunc(authorizeReader))
}
