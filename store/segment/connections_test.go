package segment

import (
	"sync"
	"testing"

	"zombiezen.com/go/sqlite"
)

// Connections that are opened while others are closed keep what belongs to them, here their authorizers. Without the lock one in some
// thousand loses it.
func TestConnectionsOpenedWhileOthersClose(t *testing.T) {
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 1500 {
				conn, err := OpenConn(":memory:", sqlite.OpenReadWrite|sqlite.OpenMemory)
				if err != nil {
					t.Error(err)
					return
				}
				asked := 0
				err = conn.SetAuthorizer(sqlite.AuthorizeFunc(func(sqlite.Action) sqlite.AuthResult { asked++; return sqlite.AuthResultOK }))
				if err == nil {
					err = Exec(conn, nil, "SELECT 1")
				}
				if err != nil || asked == 0 {
					t.Errorf("%v; its authorizer was asked %d times", err, asked)
				}
				if err := CloseConn(conn); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}
