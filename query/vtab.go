package query

import "zombiezen.com/go/sqlite"

// readable makes a virtual table readable on a connection, by its declaration's name.
func readable(conn *sqlite.Conn, name, declaration string, table sqlite.VTable) error {
	return conn.SetModule(name, &sqlite.Module{Connect: func(*sqlite.Conn, *sqlite.VTableConnectOptions) (sqlite.VTable, *sqlite.VTableConfig, error) {
		return table, &sqlite.VTableConfig{Declaration: declaration}, nil
	}})
}

// nothingHeld is part of a virtual table that outlives its statements: they hold nothing of it that is to be released.
type nothingHeld struct{}

// Disconnect has nothing to release.
func (nothingHeld) Disconnect() error { return nil }

// Destroy has nothing to remove.
func (nothingHeld) Destroy() error { return nil }
