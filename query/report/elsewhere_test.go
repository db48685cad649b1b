package report

import (
	"testing"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/input"
	"github.com/conntape/conntape/test/testtape"
	"zombiezen.com/go/sqlite/sqlitex"
)

// Questions that count destinations count those that connects went to: they answer as if nobody had asked for another address.
func TestDestinationIsWhereItWent(t *testing.T) {
	for name, script := range map[string]string{"proxies": testtape.SentToProxies, "odd": testtape.Oddities + testtape.SentToProxies} {
		t.Run(name, func(t *testing.T) {
			tape := testtape.Altered(t, 3_000, script)
			stock := testtape.StockOf(t, tape, input.Window{})
			asked := int64(0)
			if err := ask.Each(t.Context(), stock, "SELECT max(n) FROM (SELECT count(DISTINCT requested_address) AS n FROM connections GROUP BY remote)", func(row []format.Value) { asked = row[0].Int }); err != nil || asked < 5 {
				t.Fatalf("%d addresses were asked for that went to one, %v", asked, err)
			}
			if err := sqlitex.ExecuteScript(stock, "UPDATE all_connections SET requested_address = NULL, requested_port = NULL WHERE requested_address IS NOT NULL", nil); err != nil || stock.Changes() < 100 {
				t.Fatal(stock.Changes(), err)
			}
			for _, name := range []string{"fanout", "beacons", "rare", "first-seen", "diff", "top", "timeline", "suspicious-exe", "exfiltration"} {
				c := cannedNamed(t, name)
				for _, given := range variantsOf(c) {
					w := input.Window{}
					if c.OwnWindow {
						w.Since = tape.Segments()[1].From
					}
					compareWithSQL(t, tape, stock, c, given, w)
				}
			}
		})
	}
}
