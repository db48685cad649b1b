package recorder

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/bpf"
	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/store/escape"
)

// tellFoundSockets puts into folds what listened, was bound or could see packets before recording began. Without it recording goes on all the same.
func (r *recorder) tellFoundSockets(now uint64) {
	err := r.src.FoundSockets(func(c *bpf.Connect) {
		r.ledger.events.received++
		r.ledger.events.found++
		r.takeEvent(c, now)
	})
	if err != nil {
		r.log.Warn("sockets that were there already not read", "error", err)
	}
}

// notSockaddr is put behind the bytes of a place to find it among addresses: together they are longer than a sockaddr can be.
var notSockaddr = strings.Repeat("\x00", 128)

func placeKeyOf(raw []byte) string { return string(raw) + notSockaddr }

// place returns where a packet or XDP socket is bound, which device was made, or where a frame went, nil if there is no room for the name in the segment.
func (r *resolver) place(raw []byte, p bpf.Place, who *party) *store.Endpoint {
	key := placeKeyOf(raw)
	if e, ok := r.endpoints.get(key); ok {
		return e
	}
	e := &store.Endpoint{Family: binary.NativeEndian.Uint16(raw), Address: placeText(raw, p), Port: noPort, Raw: bytes.Clone(raw)}
	if !r.table.names.take(who.owner, endpointName(e)) {
		return nil
	}
	r.fresh += endpointSize(e)
	r.endpoints.put(key, e)
	return e
}

// placeText is the name of an interface, escaped, or what is known of it.
func placeText(raw []byte, p bpf.Place) string {
	family := binary.NativeEndian.Uint16(raw)
	device := family == noFamily
	text := escape.Bytes([]byte(p.Name))
	switch {
	case text != "":
	case device:
		text = "any name"
	case p.Interface == 0:
		text = "any interface"
	default:
		text = fmt.Sprintf("ifindex %d", p.Interface)
	}
	switch {
	case p.Queue == 0:
	case family == unix.AF_PACKET:
		text += fmt.Sprintf(" protocol 0x%04x", p.Queue)
	default:
		text += fmt.Sprintf(" queue %d", p.Queue)
	}
	return text
}
