package indicator

import "testing"

// TestExpressionsCompile: a mistake in one would end the program when a list is read that it is for.
func TestExpressionsCompile(t *testing.T) {
	if len(expressions) < 50 {
		t.Fatalf("%d expressions", len(expressions))
	}
	for _, e := range expressions {
		e.compiled()
	}
}
