package table

import (
	"testing"

	"github.com/conntape/conntape/query/input"
	"github.com/conntape/conntape/test/testtape"
)

// A pattern of remote_ip finds IPv4 addresses of IPv6 sockets too, which the table of endpoints has with a prefix.
func TestPatternOfMappedAddress(t *testing.T) {
	tape := testtape.Altered(t, 600, `UPDATE OR IGNORE endpoint SET family = 10, address = '::ffff:' || address WHERE family = 2 AND id % 2 = 0;`)
	stock := testtape.StockOf(t, tape, input.Window{})
	for _, where := range []string{"remote_ip LIKE '10.%'", "remote_ip GLOB '10.*'", "remote_ip LIKE '%.1%'", "remote_ip LIKE '::ffff:%'", "remote_address LIKE '::ffff:10.%'", "remote_ip = '198.51.100.66' OR remote_ip LIKE '1_.%'"} {
		sameAsView(t, tape, stock, "SELECT * FROM connections WHERE "+where)
		sameAsView(t, tape, stock, "SELECT remote_ip, count(*) FROM connections WHERE "+where+" GROUP BY 1")
	}
}
