package bpf

import (
	"encoding/binary"
	"testing"
)

// The key of the peer lies where a local address ends that is as long as any but the longest; behind a longer one there is none.
func TestPeerIsDecoded(t *testing.T) {
	b := make([]byte, connectSize+sockaddrLarge+localLarge)
	n := binary.NativeEndian
	b[91] = byte(large | hasPeer)
	at := b[connectSize+sockaddrLarge+peerAt:]
	n.PutUint64(at, 5)
	n.PutUint32(at[8:], 77)
	n.PutUint32(at[12:], 3)
	for length, want := range map[uint16]ProcessKey{0: {Tgid: 77, Start: 5, Exec: 3}, peerAt: {Tgid: 77, Start: 5, Exec: 3}, peerAt + 1: {}} {
		n.PutUint16(b[94:], length)
		var c Connect
		if err := c.decode(b); err != nil || c.Peer != want || len(c.Local) != int(length) {
			t.Errorf("behind %d bytes: %+v, %v", length, c.Peer, err)
		}
	}
	b[91] = byte(large)
	c := Connect{Peer: ProcessKey{Tgid: 1}}
	if err := c.decode(b); err != nil || c.Peer != (ProcessKey{}) {
		t.Errorf("without the flag: %+v, %v", c.Peer, err)
	}
	if _, size := members(t, "process_key"); size != localLarge-peerAt {
		t.Errorf("a process_key takes %d bytes", size)
	}
}
