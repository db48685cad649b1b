package table

import "zombiezen.com/go/sqlite"

// readable registers a virtual table on a connection under the name in its declaration.
func readable(conn *sqlite.Conn, name, declaration string, table sqlite.VTable) error {
	return conn.SetModule(name, &sqlite.Module{Connect: func(*sqlite.Conn, *sqlite.VTableConnectOptions) (sqlite.VTable, *sqlite.VTableConfig, error) {
		return table, &sqlite.VTableConfig{Declaration: declaration}, nil
	}})
}

// nothingHeld is embedded in virtual tables that outlive their statements and have nothing to release.
type nothingHeld struct{}

// Disconnect has nothing to release.
func (nothingHeld) Disconnect() error { return nil }

// Destroy has nothing to remove.
func (nothingHeld) Destroy() error { return nil }
