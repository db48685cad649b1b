package segment

import (
	"sync"

	"zombiezen.com/go/sqlite"
)

// handles keeps connections from being opened while one is closed. The driver (zombiezen.com/go/sqlite v1.4.2, Conn.Close) frees a
// connection's handle before it forgets what it has noted by the handle's address. A connection that another goroutine opens at that address
// in between would lose its authorizer, and with it the process at the next statement.
var handles sync.RWMutex

// OpenConn is [sqlite.OpenConn], once no connection is being closed. Such a connection is closed by [CloseConn].
func OpenConn(path string, flags ...sqlite.OpenFlags) (*sqlite.Conn, error) {
	handles.RLock()
	defer handles.RUnlock()
	return sqlite.OpenConn(path, flags...)
}

// CloseConn closes a connection while none is opened.
func CloseConn(conn *sqlite.Conn) error {
	handles.Lock()
	defer handles.Unlock()
	return conn.Close()
}
