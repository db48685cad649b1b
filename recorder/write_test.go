package recorder

import (
	"testing"

	"github.com/conntape/conntape/store"
)

// What is on the disk of a batch is neither written again nor counted as lost.
func TestCut(t *testing.T) {
	b := &batch{events: 8, rows: 2, outcomes: 5, sockets: 9}
	b.Connections = []store.Connection{{Count: 6, Outcome: &store.Outcome{}}, {Update: true}, {}, {}}
	b.Endings = []store.Ending{{Connect: 1}, {Connect: 2}, {Connect: 3}}
	b.Sockets = []store.SocketEvent{{Count: 4}, {Count: 5}}
	if rows := b.cut(store.Part{Connections: 2, Endings: 2, Sockets: 1}); rows != 1 {
		t.Errorf("%d rows are on the disk", rows)
	}
	if b.events != 2 || b.rows != 1 || b.outcomes != 2 || b.sockets != 5 {
		t.Errorf("left: %+v", b)
	}
	if len(b.Connections) != 2 || len(b.Endings) != 1 || b.Endings[0].Connect != 3 || len(b.Sockets) != 1 {
		t.Errorf("left: %+v", b.Batch)
	}
}
