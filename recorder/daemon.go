package recorder

import (
	"encoding/binary"

	"github.com/conntape/conntape/bpf"
	"github.com/conntape/conntape/store"
)

// daemon returns the address of a UNIX socket with the process that was reached there; without it if there is no room in the segment
// for one more.
func (r *resolver) daemon(c *bpf.Connect, p *party) *store.Endpoint {
	if e, ok := getBytes(r.reached, r.reachedKey(c)); ok {
		return e
	}
	address := r.endpoint(c.Remote, p)
	if address == nil {
		return nil
	}
	e := store.Endpoint{Family: address.Family, Address: address.Address, Port: address.Port, Raw: address.Raw, Peer: r.lookUp(c.Peer)}
	if e.Peer == nil { // what nobody described has its key
		e.Peer = &store.Process{Key: storeKey(c.Peer), Source: store.SourceUnknown}
	}
	if !r.table.names.take(p.owner, endpointName(&e)) {
		return address
	}
	r.fresh += endpointSize(&e)
	r.reached.put(string(r.reachedKey(c)), &e)
	return &e
}

// reachedKey is the key of reached. It is good until the next.
func (r *resolver) reachedKey(c *bpf.Connect) []byte {
	n := binary.NativeEndian
	r.key = n.AppendUint64(r.key[:0], c.Peer.Start)
	r.key = n.AppendUint32(r.key, c.Peer.Tgid)
	r.key = n.AppendUint32(r.key, c.Peer.Exec)
	r.key = append(r.key, c.Remote...)
	return r.key
}
