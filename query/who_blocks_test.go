package query

import "testing"

// Query who finds all connections of a segment that is not sealed, those too that came late.
func TestWhoFindsLateRows(t *testing.T) {
	tape, addresses, _ := ofBlocks(t)
	who, stock := cannedNamed(t, "who"), stockOf(t, tape, Window{})
	for _, address := range addresses {
		compareWithSQL(t, tape, stock, who, map[string]string{"indicator": address}, Window{})
	}
}
