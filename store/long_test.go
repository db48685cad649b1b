package store

import (
	"os"
	"testing"
)

// longVariable asks for as many rounds as the promises name: hours, with strace.
const longVariable = "CONNTAPE_TEST_LONG"

// rounds returns how often to try: few times with -short, some in general, many
// when asked for.
func rounds(few, some, many int) int {
	switch {
	case os.Getenv(longVariable) != "":
		return many
	case testing.Short():
		return few
	}
	return some
}
