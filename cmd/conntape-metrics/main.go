// Command conntape-metrics gives the state of a tape to Prometheus. It is a program of its own, since conntape has no HTTP in it.
package main

import (
	"os"

	"github.com/conntape/conntape/metrics"
)

func main() { os.Exit(metrics.Main()) }
