// Command conntape-witness speaks to witnesses of transparency logs for conntape,
// which has no HTTP and no TLS in it.
package main

import (
	"os"

	"github.com/conntape/conntape/witness"
)

func main() { os.Exit(witness.Main()) }
