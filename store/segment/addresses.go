package segment

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"

	"zombiezen.com/go/sqlite"
)

// AddressFilter is a Bloom filter of the remote IP addresses of a segment: a reader who looks for an address need not open
// a segment that does not have it. A mapped IPv4 address is the IPv4 address. "": it tells nothing.
type AddressFilter string

const (
	mostFiltered = 2048 // addresses in a filter; a segment with more has none
	filterHashes = 3    // bits of an address: with eight bits of length for each, 3% of the others look as if they were there
)

// MayHave reports whether the segment may have connections to an address. If not, it has none.
func (f AddressFilter) MayHave(a netip.Addr) bool {
	for _, bit := range filterBits(a, len(f)) {
		if len(f) > 0 && f[bit/8]>>(bit%8)&1 == 0 {
			return false
		}
	}
	return true
}

// filterBits returns the bits of an address in a filter of so many bytes.
func filterBits(a netip.Addr, length int) (bits [filterHashes]uint64) {
	bytes := a.As16()
	sum := sha256.Sum256(bytes[:]) // addresses are chosen by attackers, too
	for i := range bits {
		bits[i] = binary.BigEndian.Uint64(sum[8*i:]) % uint64(max(1, 8*length))
	}
	return bits
}

// filterAddresses makes the filter of a segment.
func filterAddresses(conn *sqlite.Conn) (AddressFilter, error) {
	var addresses []netip.Addr
	err := Exec(conn, func(q *sqlite.Stmt) error {
		if a, err := netip.ParseAddr(q.ColumnText(0)); err == nil { // no reader takes anything else for an address
			addresses = append(addresses, a)
		}
		return nil
	}, `SELECT DISTINCT address FROM endpoint WHERE family IN (2, 10) LIMIT ?`, mostFiltered+1)
	if err != nil {
		return "", fmt.Errorf("read addresses: %w", err)
	}
	if len(addresses) > mostFiltered {
		return "", nil
	}
	filter := make([]byte, max(1, len(addresses)))
	for _, a := range addresses {
		for _, bit := range filterBits(a, len(filter)) {
			filter[bit/8] |= 1 << (bit % 8)
		}
	}
	return AddressFilter(filter), nil
}
