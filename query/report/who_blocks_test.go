package report

import (
	"testing"

	"github.com/conntape/conntape/query/input"
	"github.com/conntape/conntape/test/testtape"
)

// Query who finds all connections of a segment that is not sealed, those too that came late.
func TestWhoFindsLateRows(t *testing.T) {
	tape, addresses, _ := testtape.OfBlocks(t)
	who, stock := cannedNamed(t, "who"), testtape.StockOf(t, tape, input.Window{})
	for _, address := range addresses {
		compareWithSQL(t, tape, stock, who, map[string]string{"indicator": address}, input.Window{})
	}
}
